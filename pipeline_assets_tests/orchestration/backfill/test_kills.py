"""What is cancelled stays so. Kills in the middle of a backfill are counted in proofs/backfill_kills.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline_assets_tests.orchestration.backfill.checkout import HISTORY, STEPS, statuses, wait_for
from pipeline_assets_tests.proofs.backfill_kills import command_for, served


@pytest.mark.slow(60)
def test_a_backfill_in_dagster_that_is_cancelled_starts_nothing_afterwards(tmp_path: Path) -> None:
    with served(tmp_path, HISTORY) as (there, _):
        with there.begun(*command_for(HISTORY), "--dagster") as process:
            wait_for(lambda: there.number_of_calls() >= 3, process, what="three partitions")
            (book,) = there.folder.rglob("pipeline_backfills/*.json")
            there.run("cancel", book.stem)
            before = there.counted(), there.stamps(), statuses(there)
            assert process.wait(120) == 130
        assert before[0].total() < len(STEPS) * len(HISTORY)
        # FAILURE is what Dagster says of a run that it tells to end at the moment when the run has succeeded.
        assert before[2].keys() <= {"CANCELED", "SUCCESS", "FAILURE"}
        refused = there.run("backfill", "--resume", "--id", book.stem, status=2)
        assert "was cancelled, for good" in refused.stderr
        time.sleep(3)  # the daemon looks every half second
        assert (there.counted(), there.stamps(), statuses(there)) == before
