"""Carrying a backfill out without a daemon, and what its runs tell of how far it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.errors import WorkerDied
from pipeline_assets.orchestration.backfill.book import IN_PROCESS, Book, Booked, new_id
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.backfill.in_process import Ended, Hand, OtherProcess, Task, ThisProcess, carry_out
from pipeline_assets.orchestration.backfill.standing import Standing, State, standing_of, state_of
from pipeline_assets.orchestration.history.runs import spots_of_run
from pipeline_assets.orchestration.partition.io_manager import ParquetIOManager
from pipeline_assets.orchestration.process import PlannedRun, execute, failures_of, open_instance
from pipeline_assets.orchestration.progress import DayDone
from pipeline_assets.rules.backfill import Ask, Mode, plan
from pipeline_assets.rules.dispatch import Dispatch
from pipeline_assets.rules.plan_file import PlanFile, digest_of
from pipeline_assets.rules.staleness import Spot
from pipeline_assets.store import LocalStore
from pipeline_assets_tests.orchestration.backfill.workshop import Workshop, day, definitions, graph
from pipeline_assets_tests.orchestration.servers import PROJECT

TABLES, NUMBERS = ("events", "features", "sales", "segments"), range(3)
SPOTS = {Spot(table, day(number)) for table in TABLES for number in NUMBERS}


class Desk:
    """A full backfill of three days of four tables, which is carried out as far as a test lets it."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.shop, self.instance, self.defs = Workshop(root), instance, definitions(root)
        ask = Ask(Mode.FULL, TABLES, ((day(0), day(NUMBERS[-1])),), why="")
        planned = plan(graph(), ask, facts_of(instance, self.defs.resolve_asset_graph(), LocalStore(root / "lake"), {}))
        now = datetime.now(UTC)
        self.booked = Booked(new_id(now), now, IN_PROCESS, 30, 1, PlanFile(planned, now, digest_of(planned)))
        self.book = Book(instance)
        self.book.add(self.booked)

    def go_on(self, stop: Callable[[], bool] = lambda: False) -> Dispatch:
        """From where it is."""
        hand = ThisProcess(self.defs, self.instance, lambda _: None)
        return carry_out(graph(), self.instance, self.booked, self.standing, hands=[hand], stop=stop)

    def stop_at(self, number: int) -> set[Spot]:
        """Go on, and stop while that day of `events` is in hand; gives what was done then."""
        held = self.shop.hold("events", number)

        def stop() -> bool:
            if ("events", number) not in self.began():
                return False
            held.unlink(missing_ok=True)
            return True

        self.go_on(stop)
        return {Spot("events", day(each)) for each in range(number + 1)}

    @property
    def standing(self) -> Standing:
        """How far it is."""
        return standing_of(self.instance, graph(), self.booked)

    @property
    def state(self) -> State:
        """In a word."""
        return state_of(self.instance, self.book, self.booked, self.standing)

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
    assert (desk.state, desk.standing.left) == (State.STOPPED, SPOTS)
    assert desk.go_on().done == SPOTS
    assert (desk.state, desk.standing.done) == (State.DONE, SPOTS)
    order = [table for table, _ in desk.began()]
    assert order[:3] == ["events"] * 3
    assert order.index("segments") > max(index for index, table in enumerate(order) if table == "features")


@pytest.mark.slow(5)
def test_what_is_stopped_ends_after_the_partition_in_hand_and_goes_on_with_the_next(desk: Desk) -> None:
    done = desk.stop_at(1)
    assert desk.standing.done == done
    assert (desk.state, desk.standing.running, desk.standing.failed) == (State.STOPPED, [], {})
    assert [run.status for run in desk.standing.runs] == [dg.DagsterRunStatus.CANCELED]

    desk.go_on()
    assert (desk.state, len(desk.began())) == (State.DONE, len(SPOTS))
    (_, *later) = desk.standing.runs
    assert [spot for run in later for spot in spots_of_run(graph(), run) if spot in done] == []


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
    assert [run.status.value for run in desk.standing.runs] == ["SUCCESS", "CANCELED"]


@pytest.mark.slow(5)
def test_what_reads_a_failed_partition_is_left_and_both_are_made_when_it_is_mended(desk: Desk) -> None:
    broken = desk.shop.break_("events", 1)
    desk.go_on()
    standing = desk.standing
    assert desk.state is State.FAILED
    assert {spot: "broken on purpose" in why for spot, why in standing.failed.items()} == {("events", day(1)): True}
    waiting = {("sales", day(1)), *((table, day(n)) for table in ("features", "segments") for n in (1, 2))}
    assert (standing.left, standing.done) == (waiting, SPOTS - waiting - standing.failed.keys())
    before = desk.began()

    broken.unlink()
    desk.go_on()
    assert (desk.state, desk.standing.failed) == (State.DONE, {})
    again = {(table, day(number)) for table, number in desk.began()[len(before) :]}
    assert again == waiting | standing.failed.keys()


def test_a_failed_partition_that_nothing_waits_for_leaves_the_backfill_failed(desk: Desk) -> None:
    desk.shop.break_("segments", 2)
    desk.go_on()
    assert (desk.state, desk.standing.left, len(desk.standing.failed)) == (State.FAILED, set(), 1)


class Unreachable(ParquetIOManager):
    """A store that cannot be set up, so that no step of a run is attempted."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Fails."""
        msg = "warehouse.example: connection refused"
        raise ConnectionError(msg)


@pytest.mark.slow(5)
def test_a_run_that_fails_before_any_step_says_of_what_and_its_days_failed(desk: Desk) -> None:
    mended = desk.defs
    desk.defs = dg.Definitions(
        mended.assets,
        resources={"io_manager": Unreachable(root=str(desk.shop.root / "lake"))},
        executor=dg.in_process_executor,
    )
    desk.go_on()
    failed = {Spot("events", day(number)) for number in NUMBERS}
    said = "ConnectionError: warehouse.example: connection refused"
    assert (desk.state, desk.standing.failed, desk.standing.left) == (
        State.FAILED,
        dict.fromkeys(failed, said),
        SPOTS - failed,
    )
    result = execute(desk.defs, PlannedRun((dg.AssetKey("events"),), day(0), day(1)), desk.instance)
    assert failures_of(result) == [said]

    desk.defs = mended
    desk.go_on()
    assert (desk.state, desk.standing.failed) == (State.DONE, {})


def test_a_run_that_dagster_reports_as_failed_as_its_worker_died_says_nothing_of_its_days(desk: Desk) -> None:
    done = desk.stop_at(1)
    (run,) = desk.standing.runs
    desk.instance.report_run_failed(run)
    assert [each.status for each in desk.standing.runs] == [dg.DagsterRunStatus.FAILURE]
    assert (desk.state, desk.standing.failed, desk.standing.done) == (State.STOPPED, {}, done)


@pytest.mark.slow(5)
def test_of_a_process_that_was_killed_the_run_ends_and_what_it_recorded_counts(desk: Desk) -> None:
    done = desk.stop_at(1)
    (run,) = desk.standing.runs
    desk.instance.run_storage.handle_run_event(  # as a kill leaves it
        run.run_id, dg.DagsterEvent("PIPELINE_START", run.job_name)
    )
    assert [each.run_id for each in desk.standing.running] == [run.run_id]
    with desk.book.hold(desk.booked.backfill_id):
        assert desk.state is State.RUNNING
    assert (desk.state, desk.standing.done) == (State.STOPPED, done)

    desk.go_on()
    assert (desk.state, desk.standing.running, len(desk.began())) == (State.DONE, [], len(SPOTS))


def test_cancelled_is_said_of_what_is_left_and_not_of_what_was_done(desk: Desk) -> None:
    desk.book.cancel(desk.booked.backfill_id)
    states = [desk.state]
    desk.go_on()
    assert [*states, desk.state] == [State.CANCELLED, State.DONE]


def broken_code(length: int) -> dg.Definitions:
    """What cannot be loaded."""
    raise ValueError("a mistake in the code" + " and another one" * length)


def came_of(hand: Hand) -> Ended:
    """A run, waited for."""
    while (ended := hand.ended()) is None:
        pass
    return ended


@pytest.mark.slow(5)
def test_another_process_says_what_it_made_or_why_it_cannot(home: Path) -> None:
    heard: list[DayDone] = []
    (home / "workshop").mkdir()
    shop = Workshop(home / "workshop")
    task = Task("events", ("events",), day(0), day(2), {})
    with ExitStack() as stack:
        hand = OtherProcess(partial(definitions, shop.root), home, heard.append, stack)
        hand.begin(task)
        ended = came_of(hand)
        assert (ended.interrupted, len(heard)) == (False, 3)
    with ExitStack() as stack:
        hand = OtherProcess(partial(broken_code, 0), home, heard.append, stack)
        with pytest.raises(ValueError, match="a mistake in the code"):
            came_of(hand)


@pytest.mark.slow(5)
def test_another_process_that_is_killed_is_told_of(home: Path) -> None:
    (home / "workshop").mkdir()
    shop = Workshop(home / "workshop")
    held = shop.hold("events", 1)
    with ExitStack() as stack:
        hand = OtherProcess(partial(definitions, shop.root), home, lambda _: None, stack)
        hand.begin(Task("events", ("events",), day(0), day(2), {}))
        while ("began", "events", 1) not in shop.journal():
            assert hand.ended() is None
        assert hand._process.pid is not None
        os.kill(hand._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"exit code -9; `--resume` goes on"):
            came_of(hand)
    held.unlink()


def test_another_process_ends_though_nobody_heard_all_that_it_had_to_say(home: Path) -> None:
    with ExitStack() as stack:
        hand = OtherProcess(partial(broken_code, 100_000), home, lambda _: None, stack)
    assert hand._process.exitcode == 0
