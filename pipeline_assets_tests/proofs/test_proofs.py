"""A sample of what `make proof` counts, tried with the same code."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline_assets_tests.proofs.subjects import SUBJECTS
from pipeline_assets_tests.support.system_calls import needs_strace

TRACED = "crash_points"


@pytest.mark.slow(100)
@pytest.mark.parametrize("name", sorted(SUBJECTS.keys() - {TRACED}))
def test_no_case_of_a_sample_refutes_the_claim(name: str, tmp_path: Path) -> None:
    try_sample(name, tmp_path)


@pytest.mark.slow(60)
@needs_strace
def test_no_crash_point_of_a_sample_refutes_the_claim(tmp_path: Path) -> None:
    try_sample(TRACED, tmp_path)


def try_sample(name: str, folder: Path) -> None:
    """Each case once; what refutes the claim is named with how to try it alone."""
    subject, outcomes = SUBJECTS[name], Counter[str]()
    sample = subject.sample()
    assert len(set(sample)) == len(sample)
    for number, case in enumerate(sample):
        place = folder / f"{number}"
        place.mkdir()
        try:
            outcomes[subject.prove(case, place)] += 1
        except AssertionError as wrong:
            msg = f"alone: SUBJECTS[{name!r}].prove({case!r}, folder)"
            raise AssertionError(msg) from wrong
    assert outcomes.total() == len(sample) > 0
    assert not subject.is_refuted_by(outcomes), outcomes
