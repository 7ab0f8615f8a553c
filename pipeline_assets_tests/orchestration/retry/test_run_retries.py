"""Dagster's run retries: they bring back workers that died, and never what a step failed of.

The real launcher, code server and daemon function; only the daemon's loop is the test's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

# The daemon's own function, how its context is built, and how a command launches a run: there is no public way to
# drive one round of it.
from dagster._cli.job import _create_run
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.auto_run_reexecution import auto_run_reexecution

from pipeline_assets.orchestration.history.failures import recorded_failures
from pipeline_assets.orchestration.history.tags import ATTEMPTS_TAG, RANGE_END, RANGE_START
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets_tests.orchestration import retried
from pipeline_assets_tests.orchestration.lake import QUIET, day, key

pytestmark = pytest.mark.xdist_group("run_retries")

PATIENCE_SECONDS = 120
EAGER = """
run_retries: {enabled: true, max_retries: 2, retry_on_asset_or_op_failure: true}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
telemetry: {enabled: false}
"""
"""A dagster.yaml of somebody who wants everything to be retried."""


@dataclass
class Production:
    """An instance with its code server."""

    instance: dg.DagsterInstance
    context: WorkspaceProcessContext
    folder: Path

    def launch(self, job_name: str, first: int, last: int | None = None, *tags: tuple[str, str]) -> str:
        """Launch a run of a job and wait until it and all runs that follow from it have ended; its id."""
        request = self.context.create_request_context()
        (location,) = request.code_locations
        (repository,) = location.get_repositories().values()
        remote = repository.get_full_job(job_name)
        days = {"dagster/partition": key(first)} if last is None else {RANGE_START: key(first), RANGE_END: key(last)}
        run: dg.DagsterRun = _create_run(
            self.instance, location, repository, remote, QUIET, {**days, **dict(tags)}, None, None
        )
        self._see_through(run.run_id)
        return run.run_id

    def launch_again(self, run_id: str) -> str:
        """Re-execute a run as the button in the UI does, and wait."""
        request = self.context.create_request_context()
        (location,) = request.code_locations
        (repository,) = location.get_repositories().values()
        parent = self.instance.get_run_by_id(run_id)
        assert parent is not None
        run = self.instance.create_reexecuted_run(
            parent_run=parent,
            request_context=request,
            code_location=location,
            remote_job=repository.get_full_job(parent.job_name),
            strategy=ReexecutionStrategy.ALL_STEPS,
            use_parent_run_tags=True,
        )
        self._see_through(run.run_id)
        return run.run_id

    def _see_through(self, run_id: str) -> None:
        self.instance.launch_run(run_id, self.context.create_request_context())
        ended = 0
        while ended < len(runs := self.group(run_id)):
            self._wait(runs[-1])
            ended = len(runs)
            records = self.instance.get_run_records(dg.RunsFilter(run_ids=runs))
            logger = logging.getLogger("test")
            list(auto_run_reexecution.consume_new_runs_for_automatic_reexecution(self.context, records, logger))

    def group(self, run_id: str) -> list[str]:
        """The run and those that were made of it, the oldest first."""
        found = self.instance.get_run_group(run_id)
        return sorted((run.run_id for run in found[1]), key=self._created) if found else [run_id]

    def tags(self, run_id: str) -> dict[str, str]:
        """As they are now."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return dict(run.tags)

    def _created(self, run_id: str) -> float:
        (record,) = self.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
        return record.create_timestamp.timestamp()

    def _wait(self, run_id: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            run = self.instance.get_run_by_id(run_id)
            if run is not None and run.is_finished:
                return
            time.sleep(0.05)  # polls the run's status, which another process writes
        pytest.fail(f"{run_id} did not end in {PATIENCE_SECONDS} s")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("retried")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(retried.FOLDER, str(folder))
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text(EAGER)
        target = PythonFileTarget(
            python_file=retried.__file__, attribute="defs", working_directory=None, location_name="retried"
        )
        with (
            open_instance(folder / "home") as instance,
            create_test_daemon_workspace_context(target, instance) as context,
        ):
            yield Production(instance, context, folder)


@contextmanager
def script(production: Production, number: int, *words: str) -> Iterator[None]:
    retried.write_script(production.folder, number, *words)
    yield
    (production.folder / f"{key(number)}.script").unlink()


@pytest.mark.slow(10)
def test_without_verdicts_this_dagster_retries_a_failed_run(everything: Production) -> None:
    with script(everything, 20, "bug"):
        run_id = everything.launch("plain_job", 20, None, ("dagster/max_retries", "1"))
    assert len(everything.group(run_id)) == 2
    assert retried.calls(everything.folder)[key(20)] == 2


@pytest.mark.slow(10)
def test_what_a_step_failed_of_is_not_retried_by_dagster(everything: Production) -> None:
    with script(everything, 0, "broken"), script(everything, 1, "bug"), script(everything, 2, "conflict"):
        run_id = everything.launch("one_process", 0, 2)
    assert everything.group(run_id) == [run_id]
    assert everything.tags(run_id)["dagster/will_retry"] == "false"
    calls = retried.calls(everything.folder)
    assert [calls[key(number)] for number in range(3)] == [1, 1, 4]  # a conflict is the step's to retry


@pytest.mark.slow(10)
def test_a_worker_that_died_is_brought_back_and_goes_on_where_it_was(everything: Production) -> None:
    with script(everything, 6, "broken"), script(everything, 7, "reset", "reset", "die", "reset"):
        run_id = everything.launch("one_process", 5, 7)
    first, second = everything.group(run_id)
    assert recorded_failures(everything.instance, first) == ()  # it died; nobody judged it
    found = {each.kind: each for each in recorded_failures(everything.instance, second)}
    assert found["contract"].failed_days == (day(6),)
    assert (found["network"].failed_days, found["network"].attempts, found["network"].max_attempts) == ((day(7),), 6, 6)
    assert not found["network"].may_retry
    calls = retried.calls(everything.folder)
    # Settled days once; six attempts that were judged, and the one that died.
    assert [calls[key(number)] for number in (5, 6, 7)] == [1, 1, 7]
    made = everything.instance.get_materialized_partitions(dg.AssetKey(retried.TABLE))
    assert key(5) in made
    assert not made & {key(6), key(7)}


@pytest.mark.slow(10)
def test_a_permanent_failure_is_not_run_again_though_the_worker_died_after_it(everything: Production) -> None:
    with script(everything, 9, "broken"):
        run_id = everything.launch("two_steps", 9)
    assert everything.group(run_id) == [run_id]
    assert retried.calls(everything.folder)[key(9)] == 1
    (noted,) = recorded_failures(everything.instance, run_id)
    assert noted.tables == (retried.TABLE,)


@pytest.mark.slow(10)
def test_who_re_executes_a_failed_run_begins_anew(everything: Production) -> None:
    with script(everything, 10, "conflict", "conflict", "die", "ok"):
        failed = everything.launch("one_process", 10, None, (ATTEMPTS_TAG, "3"))
        again = everything.launch_again(failed)
    last = everything.group(failed)[-1]
    assert everything.tags(failed)["pipeline/verdict"] == "conflict"
    assert everything.tags(again)["pipeline/verdict"] == ""
    assert (
        retried.calls(everything.folder)[key(10)] == 4
    )  # the last of the four that a conflict has; then a conflict, a death, and the end
    run = everything.instance.get_run_by_id(last)
    assert run is not None
    assert (run.parent_run_id, run.is_success) == (again, True)  # its worker died, and was brought back
