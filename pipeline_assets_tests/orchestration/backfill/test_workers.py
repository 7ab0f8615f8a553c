"""Carrying a backfill out without a daemon, and what its runs tell of how far it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.errors import UsageError, WorkerDied
from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, IN_PROCESS, Backfill, Book, new_id
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.backfill.progress import BackfillStatus, Progress, progress_of, status_of
from pipeline_assets.orchestration.backfill.service import Backfills
from pipeline_assets.orchestration.backfill.workers import EndedRun, OtherProcess, Task, ThisProcess, Worker, carry_out
from pipeline_assets.orchestration.finished_days import FinishedDay
from pipeline_assets.orchestration.history.runs import partitions_of_run
from pipeline_assets.orchestration.partition.io_manager import ParquetIOManager
from pipeline_assets.orchestration.process import PlannedRun, execute, failures_of, open_instance
from pipeline_assets.partition import Partition
from pipeline_assets.rules.backfill import Ask, Mode, plan
from pipeline_assets.rules.dispatch import Dispatch
from pipeline_assets.rules.plan_file import PlanFile, digest_of
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration.backfill.workshop import Workshop, day, definitions, graph
from pipeline_assets_tests.orchestration.servers import PROJECT

TABLES, NUMBERS = ("events", "features", "sales", "segments"), range(3)
PARTITIONS = {Partition(table, day(number)) for table in TABLES for number in NUMBERS}


class Desk:
    """A full backfill of three days of four tables, which is carried out as far as a test lets it."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.shop, self.instance, self.defs = Workshop(root), instance, definitions(root)
        ask = Ask(Mode.FULL, TABLES, ((day(0), day(NUMBERS[-1])),), why="")
        planned = plan(graph(), ask, facts_of(instance, self.defs.resolve_asset_graph(), LocalStore(root / "lake"), {}))
        now = datetime.now(UTC)
        self.backfill = Backfill(new_id(now), now, IN_PROCESS, 30, 1, PlanFile(planned, now, digest_of(planned)))
        self.book = Book(instance)
        self.book.add(self.backfill)

    def go_on(self, stop: Callable[[], bool] = lambda: False) -> Dispatch:
        """From where it is."""
        worker = ThisProcess(self.defs, self.instance, lambda _: None)
        return carry_out(graph(), self.instance, self.backfill, self.progress, workers=[worker], stop=stop)

    def stop_at(self, number: int) -> set[Partition]:
        """Go on, and stop while that day of `events` is in hand; gives what was done then."""
        held = self.shop.hold("events", number)

        def stop() -> bool:
            if ("events", number) not in self.began():
                return False
            held.unlink(missing_ok=True)
            return True

        self.go_on(stop)
        return {Partition("events", day(each)) for each in range(number + 1)}

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return progress_of(self.instance, graph(), self.backfill)

    @property
    def status(self) -> BackfillStatus:
        """In a word."""
        return status_of(self.instance, self.book, self.backfill, self.progress)

    def began(self) -> list[tuple[str, int]]:
        """What was computed, in this order."""
        return [(table, number) for word, table, number in self.shop.journal() if word == "began"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an instance that other processes open."""
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    monkeypatch.chdir(tmp_path)  # where the paths in it start
    with open_instance(tmp_path):
        return tmp_path


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    (home / "workshop").mkdir()
    with open_instance(home) as instance:
        yield Desk(home / "workshop", instance)


def test_a_backfill_is_carried_out_upstream_first(desk: Desk) -> None:
    assert (desk.status, desk.progress.left) == (BackfillStatus.STOPPED, PARTITIONS)
    assert desk.go_on().done == PARTITIONS
    assert (desk.status, desk.progress.done) == (BackfillStatus.DONE, PARTITIONS)
    order = [table for table, _ in desk.began()]
    assert order[:3] == ["events"] * 3
    assert order.index("segments") > max(index for index, table in enumerate(order) if table == "features")


@pytest.mark.slow(5)
def test_what_is_stopped_ends_after_the_partition_in_hand_and_goes_on_with_the_next(desk: Desk) -> None:
    done = desk.stop_at(1)
    assert desk.progress.done == done
    assert (desk.status, desk.progress.running, desk.progress.failed) == (BackfillStatus.STOPPED, [], {})
    assert [run.status for run in desk.progress.runs] == [dg.DagsterRunStatus.CANCELED]

    desk.go_on()
    assert (desk.status, len(desk.began())) == (BackfillStatus.DONE, len(PARTITIONS))
    (_, *later) = desk.progress.runs
    again = {partition for run in later for partition in partitions_of_run(desk.instance, graph(), run)}
    assert again.isdisjoint(done)


def test_once_stopped_nothing_is_begun_though_it_could_be(desk: Desk) -> None:
    ready = {("features", 0), ("sales", 0)}
    held = [desk.shop.hold(*each) for each in ready]

    def stop() -> bool:
        if ready.isdisjoint(desk.began()):
            return False
        for each in held:
            each.unlink(missing_ok=True)
        return True

    desk.go_on(stop)
    assert len(ready.intersection(desk.began())) == 1
    assert [run.status.value for run in desk.progress.runs] == ["SUCCESS", "CANCELED"]


@pytest.mark.slow(5)
def test_what_reads_a_failed_partition_is_left_and_both_are_made_when_it_is_mended(desk: Desk) -> None:
    broken = desk.shop.break_("events", 1)
    desk.go_on()
    progress = desk.progress
    assert desk.status is BackfillStatus.FAILED
    assert {partition: "broken on purpose" in why for partition, why in progress.failed.items()} == {
        ("events", day(1)): True
    }
    waiting = {("sales", day(1)), *((table, day(n)) for table in ("features", "segments") for n in (1, 2))}
    assert (progress.left, progress.done) == (waiting, PARTITIONS - waiting - progress.failed.keys())
    before = desk.began()

    broken.unlink()
    desk.go_on()
    assert (desk.status, desk.progress.failed) == (BackfillStatus.DONE, {})
    again = {(table, day(number)) for table, number in desk.began()[len(before) :]}
    assert again == waiting | progress.failed.keys()


def test_a_failed_partition_that_nothing_waits_for_leaves_the_backfill_failed(desk: Desk) -> None:
    desk.shop.break_("segments", 2)
    desk.go_on()
    assert (desk.status, desk.progress.left, len(desk.progress.failed)) == (BackfillStatus.FAILED, set(), 1)


class Unreachable(ParquetIOManager):
    """A store that cannot be set up, so that no step of a run is attempted."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Fails."""
        raise ConnectionError("warehouse.example: connection refused")


@pytest.mark.slow(5)
def test_a_run_that_fails_before_any_step_says_of_what_and_its_days_failed(desk: Desk) -> None:
    mended = desk.defs
    desk.defs = dg.Definitions(
        mended.assets,
        resources={"io_manager": Unreachable(root=str(desk.shop.root / "lake"))},
        executor=dg.in_process_executor,
    )
    desk.go_on()
    failed = {Partition("events", day(number)) for number in NUMBERS}
    said = "ConnectionError: warehouse.example: connection refused"
    assert (desk.status, desk.progress.failed, desk.progress.left) == (
        BackfillStatus.FAILED,
        dict.fromkeys(failed, said),
        PARTITIONS - failed,
    )
    result = execute(desk.defs, PlannedRun((dg.AssetKey("events"),), day(0), day(1)), desk.instance)
    assert failures_of(result) == [said]

    desk.defs = mended
    desk.go_on()
    assert (desk.status, desk.progress.failed) == (BackfillStatus.DONE, {})


def test_a_run_that_dagster_reports_as_failed_as_its_worker_died_says_nothing_of_its_days(desk: Desk) -> None:
    done = desk.stop_at(1)
    (run,) = desk.progress.runs
    desk.instance.report_run_failed(run)
    assert [each.status for each in desk.progress.runs] == [dg.DagsterRunStatus.FAILURE]
    assert (desk.status, desk.progress.failed, desk.progress.done) == (BackfillStatus.STOPPED, {}, done)


def test_what_a_lost_run_left_is_resumed_in_process_and_retried_where_dagster_gave_it_up(desk: Desk) -> None:
    done = desk.stop_at(1)
    (run,) = desk.progress.runs
    desk.instance.report_run_failed(run)
    backfills = Backfills(desk.defs, desk.instance, LocalStore(desk.shop.root / "lake"), {}, timezone="UTC")
    by_dagster = replace(desk.backfill, where=IN_DAGSTER)

    retry = backfills.draft_retry(by_dagster)

    assert (retry.retries, retry.where) == (desk.backfill.backfill_id, IN_DAGSTER)
    assert set(retry.file.plan.partitions()) == PARTITIONS - done
    with pytest.raises(UsageError, match="failed: it is stopped"):
        backfills.draft_retry(desk.backfill)
    desk.book.cancel(desk.backfill.backfill_id)
    with pytest.raises(UsageError, match="failed: it is cancelled"):
        backfills.draft_retry(by_dagster)


@pytest.mark.slow(5)
def test_of_a_process_that_was_killed_the_run_ends_and_what_it_recorded_counts(desk: Desk) -> None:
    done = desk.stop_at(1)
    (run,) = desk.progress.runs
    desk.instance.run_storage.handle_run_event(  # as a kill leaves it
        run.run_id, dg.DagsterEvent("PIPELINE_START", run.job_name)
    )
    assert [each.run_id for each in desk.progress.running] == [run.run_id]
    with desk.book.hold(desk.backfill.backfill_id):
        assert desk.status is BackfillStatus.RUNNING
    assert (desk.status, desk.progress.done) == (BackfillStatus.STOPPED, done)

    desk.go_on()
    assert (desk.status, desk.progress.running, len(desk.began())) == (BackfillStatus.DONE, [], len(PARTITIONS))


def test_cancelled_is_said_of_what_is_left_and_not_of_what_was_done(desk: Desk) -> None:
    desk.book.cancel(desk.backfill.backfill_id)
    states = [desk.status]
    desk.go_on()
    assert [*states, desk.status] == [BackfillStatus.CANCELLED, BackfillStatus.DONE]


def broken_code(length: int) -> dg.Definitions:
    """What cannot be loaded."""
    raise ValueError("a mistake in the code" + " and another one" * length)


def came_of(worker: Worker) -> EndedRun:
    """A run, waited for."""
    while (ended := worker.ended()) is None:
        pass
    return ended


@pytest.mark.slow(5)
def test_another_process_says_what_it_made_or_why_it_cannot(home: Path) -> None:
    heard: list[FinishedDay] = []
    (home / "workshop").mkdir()
    shop = Workshop(home / "workshop")
    task = Task("events", ("events",), day(0), day(2), {})
    with ExitStack() as stack:
        worker = OtherProcess(partial(definitions, shop.root), home, heard.append, stack)
        worker.begin(task)
        ended = came_of(worker)
        assert (ended.interrupted, len(heard)) == (False, 3)
    with ExitStack() as stack:
        worker = OtherProcess(partial(broken_code, 0), home, heard.append, stack)
        with pytest.raises(ValueError, match="a mistake in the code"):
            came_of(worker)


@pytest.mark.slow(5)
def test_another_process_that_is_killed_is_told_of(home: Path) -> None:
    (home / "workshop").mkdir()
    shop = Workshop(home / "workshop")
    held = shop.hold("events", 1)
    with ExitStack() as stack:
        worker = OtherProcess(partial(definitions, shop.root), home, lambda _: None, stack)
        worker.begin(Task("events", ("events",), day(0), day(2), {}))
        while ("began", "events", 1) not in shop.journal():
            assert worker.ended() is None
        assert worker._process.pid is not None
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"exit code -9; `--resume` goes on"):
            came_of(worker)
    held.unlink()


def test_another_process_ends_though_nobody_heard_all_that_it_had_to_say(home: Path) -> None:
    with ExitStack() as stack:
        worker = OtherProcess(partial(broken_code, 100_000), home, lambda _: None, stack)
    assert worker._process.exitcode == 0
