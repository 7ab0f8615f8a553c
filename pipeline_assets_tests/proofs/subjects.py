"""All subjects, in the order in which they are proved."""

from __future__ import annotations

from pipeline_assets_tests.proofs import backfill_kills, crash_points, kills, lost_answers, mutants, races
from pipeline_assets_tests.proofs.subject import Subject

_ALL = (
    crash_points.SUBJECT,
    kills.SUBJECT,
    races.SUBJECT,
    lost_answers.SUBJECT,
    backfill_kills.SUBJECT,
    mutants.SUBJECT,
)
SUBJECTS: dict[str, Subject] = {each.name: each for each in _ALL}
