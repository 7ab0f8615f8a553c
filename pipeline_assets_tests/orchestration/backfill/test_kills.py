"""What is cancelled stays so. Kills in the middle of a backfill are counted in proofs/backfill_kills.py."""

from __future__ import annotations

import time
from contextlib import chdir
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.orchestration.process import open_instance
from pipeline_assets_tests.orchestration.backfill.checkout import HISTORY, STEPS, Project, statuses, wait_for
from pipeline_assets_tests.proofs.backfill_kills import command_for, served


def assert_failed_runs_had_succeeded(there: Project) -> None:
    """What Dagster cancels at the moment when it succeeds has no process any more, and Dagster calls that a failure."""
    with chdir(there.folder), open_instance(there.folder) as instance:
        for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
            assert instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_SUCCESS)


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
        assert before[2].keys() <= {"CANCELED", "SUCCESS", "FAILURE"}
        assert_failed_runs_had_succeeded(there)
        refused = there.run("backfill", "--resume", "--id", book.stem, status=2)
        assert "was cancelled, for good" in refused.stderr
        time.sleep(3)  # the daemon looks every half second
        assert (there.counted(), there.stamps(), statuses(there)) == before
