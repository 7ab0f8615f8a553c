"""What the upstream sensor makes of runs: those under way, whoever launched them, and those that ended badly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill

from pipeline_assets.errors import StateUnreadable
from pipeline_assets.orchestration.backfill.book import IN_PROCESS, Backfill, Book
from pipeline_assets.orchestration.changes.upstream_sensor import Place, PostponedRetry, RequestedRun, UpstreamCursor
from pipeline_assets.orchestration.history.tags import ATTEMPTS_TAG, RUN_KEY_TAG
from pipeline_assets.partition import Partition
from pipeline_assets.rules.backfill import Action, Ask, Entry, Mode, Plan, Reason
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.plan_file import PlanFile, digest_of
from pipeline_assets.rules.windows import same_day, trailing
from pipeline_assets_tests.orchestration.lake import SHOP, Lake, day
from pipeline_assets_tests.orchestration.sensor_world import MAX_ATTEMPTS, START, Attempt, World
from pipeline_assets_tests.orchestration.sensors import Sensed, report, told, with_upstream_sensor

LAST = 9
NUMBERS = count()


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def a_world(instance: dg.DagsterInstance, name: str) -> World:
    """files -> ta -> tb and tc, which reads three days."""
    files, first, same, three = (f"{name}/{table}" for table in ("files", "ta", "tb", "tc"))
    tables = {
        files: Table(files, {}),
        first: Table(first, {files: same_day()}),
        same: Table(same, {first: same_day()}),
        three: Table(three, {first: trailing(days=3)}),
    }
    graph = Graph(tables, {each: (each,) for each in tables}, frozenset({files}), dict.fromkeys(tables, day(0)))
    return World(instance, graph, dict.fromkeys((first, same, three), day(LAST)), variety=1000)


@pytest.fixture
def world(instance: dg.DagsterInstance) -> Iterator[World]:
    made = a_world(instance, f"shop{next(NUMBERS)}")
    yield made
    made.close()


def land(world: World, digest: str, *numbers: int) -> None:
    for number in numbers:
        world.deliver(min(world.graph.sources), day(number), digest)


def names(attempts: Sequence[Attempt]) -> list[str]:
    """As "ta 0-3"; tables are told by the last part of their names."""
    return [
        f"{'+'.join(sorted(lead.rpartition('/')[2] for lead in each.leads))} "
        + "-".join(dict.fromkeys(str((end - day(0)).days) for end in (each.days[0], each.days[-1])))
        for each in attempts
    ]


def tick(world: World) -> list[str]:
    return names(world.tick())


def everything_succeeds(world: World) -> list[str]:
    """Tick by tick, until nothing is left to do; all runs."""
    done: list[str] = []
    while True:
        for attempt in list(world.running.values()):
            world.succeed(attempt)
        asked = tick(world)
        if not asked:
            return done
        done += asked


def the_run(world: World, table: str) -> Attempt:
    (found,) = [each for each in world.running.values() if any(lead.endswith(table) for lead in each.leads)]
    return found


def lead(world: World, table: str) -> str:
    return next(name for name in world.graph.tables if name.endswith(table))


def test_downstream_waits_for_a_run_that_somebody_launched(world: World) -> None:
    land(world, "A", 0, 1, 2)
    everything_succeeds(world)
    by_hand = world.launch([lead(world, "ta")], [day(1)])
    land(world, "B", 0)

    assert tick(world) == ["ta 0"]
    world.succeed(next(each for each in world.running.values() if each is not by_hand))
    assert tick(world) == ["tb+tc 0"], "other days of tc reach into the run by hand"
    world.succeed(by_hand)
    assert tick(world) == ["tc 1-2"]


def test_what_somebody_is_making_is_not_requested_and_is_looked_at_when_that_ends(world: World) -> None:
    land(world, "A", 0)
    by_hand = world.launch([lead(world, "ta")], [day(0)])
    assert tick(world) == []
    world.fail(by_hand, transient=False)

    assert tick(world) == ["ta 0"], "the sensor has not tried yet"


@pytest.mark.parametrize("reads_first", [True, False], ids=["before it is read", "after it was read"])
def test_a_change_during_a_run_is_followed_if_the_run_did_not_see_it(world: World, reads_first: bool) -> None:  # noqa: FBT001
    land(world, "A", 0)
    tick(world)
    if reads_first:
        world.read(the_run(world, "ta"), Partition(lead(world, "ta"), day(0)))
    land(world, "B", 0)
    world.succeed(the_run(world, "ta"))

    assert tick(world) == (["ta 0"] if reads_first else ["tb+tc 0"])


def test_a_change_there_and_back_during_a_run_is_followed_if_the_run_saw_the_one_between(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    land(world, "B", 0)
    world.read(the_run(world, "ta"), Partition(lead(world, "ta"), day(0)))
    land(world, "A", 0)
    world.succeed(the_run(world, "ta"))

    assert tick(world) == ["ta 0"]


def test_a_failure_counts_no_more_once_the_partition_was_made(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    world.fail(the_run(world, "ta"), transient=False)
    assert tick(world) == []
    land(world, "B", 0)
    world.succeed(world.launch([lead(world, "ta")], [day(0)]))
    land(world, "A", 0)

    assert tick(world) == ["ta 0"]


def test_a_day_that_a_stopped_run_had_recorded_has_not_failed(world: World) -> None:
    land(world, "A", 0, 1)
    tick(world)
    stopped = the_run(world, "ta")
    land(world, "B", 0)
    world.commit(stopped, [Partition(lead(world, "ta"), day(0))])
    land(world, "A", 0)
    world.cancel(stopped)

    assert tick(world) == ["ta 0-1"], "one was made from B, and one not at all"


def test_changes_while_the_daemon_was_down_are_followed_once(world: World) -> None:
    land(world, "A", 0, 1)
    everything_succeeds(world)
    for digest in "BCB":
        land(world, digest, 0, 1)

    assert everything_succeeds(world) == ["ta 0-1", "tb+tc 0-1"]


def test_a_failed_partition_holds_what_is_made_from_it_and_nothing_else(world: World) -> None:
    land(world, "A", 0, 1, 5)
    tick(world)
    failing = next(each for each in world.running.values() if day(0) in each.days)
    world.commit(failing, [Partition(lead(world, "ta"), day(0))])
    world.fail(failing, transient=False)
    world.succeed(the_run(world, "ta"))

    assert sorted(tick(world)) == ["tb+tc 0", "tb+tc 5"]
    assert Partition(lead(world, "ta"), day(1)) in UpstreamCursor.of_cursor(world.cursor).refused


def test_a_permanent_failure_is_tried_again_when_an_input_changes(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    world.fail(the_run(world, "ta"), transient=False)
    for _ in range(3):
        world.now += timedelta(days=1)
        assert tick(world) == []
    land(world, "A", 0)
    assert tick(world) == [], "the same was delivered again"
    land(world, "B", 0)

    assert everything_succeeds(world) == ["ta 0", "tb+tc 0"]


def test_a_failure_that_somebody_mended_lets_its_downstream_go(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    world.fail(the_run(world, "ta"), transient=False)
    assert tick(world) == []
    world.succeed(world.launch([lead(world, "ta")], [day(0)]))

    assert tick(world) == ["tb+tc 0"]


def test_what_may_pass_is_tried_again_in_its_time_as_often_as_allowed(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    for attempt in range(1, MAX_ATTEMPTS):
        assert world.fail(the_run(world, "ta"), transient=True, wait_seconds=60)
        world.now += timedelta(seconds=59)
        assert tick(world) == []
        world.now += timedelta(seconds=1)
        assert tick(world) == ["ta 0"]
        assert the_run(world, "ta").tags[ATTEMPTS_TAG] == str(attempt)
    world.fail(the_run(world, "ta"), transient=True)
    world.now += timedelta(days=1)

    assert tick(world) == []
    land(world, "B", 0)
    assert tick(world) == ["ta 0"]
    assert ATTEMPTS_TAG not in the_run(world, "ta").tags, "other inputs, other attempts"


def test_days_that_a_failed_run_committed_are_not_made_again(world: World) -> None:
    land(world, "A", 0, 1, 2)
    tick(world)
    failing = the_run(world, "ta")
    world.commit(failing, [Partition(lead(world, "ta"), day(1))])
    world.fail(failing, transient=True, wait_seconds=0)

    assert sorted(tick(world)) == ["ta 0", "ta 2", "tb 1"]


def test_what_was_canceled_is_requested_again(world: World) -> None:
    land(world, "A", 0)
    assert tick(world) == ["ta 0"]
    for _ in range(2):
        world.cancel(the_run(world, "ta"))
        assert tick(world) == ["ta 0"]
    assert tick(world) == [], "it is under way"


def test_a_run_that_dagster_starts_again_is_still_under_way(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    world.die(the_run(world, "ta"), is_retried=True)
    land(world, "B", 0)
    assert tick(world) == []
    world.retry_runs()
    assert tick(world) == []
    world.succeed(the_run(world, "ta"))

    assert tick(world) == ["tb+tc 0"]


def test_a_run_that_was_never_made_is_asked_for_again_under_the_same_key(world: World) -> None:
    land(world, "A", 0)
    (lost,) = world.evaluate(None).run_requests or []
    assert world.tick(submits=0) == []
    (again,) = world.tick()

    assert again.tags[RUN_KEY_TAG] == lost.run_key


@pytest.mark.parametrize("ends", ["succeeds", "fails", "goes on"])
def test_a_daemon_that_lost_its_newest_cursor_doubles_no_run(world: World, ends: str) -> None:
    land(world, "A", 0, 1)
    before = world.cursor
    assert tick(world) == ["ta 0-1"]
    attempt = the_run(world, "ta")
    if ends == "succeeds":
        world.succeed(attempt)
    elif ends == "fails":
        world.fail(attempt, transient=False)
    world.cursor = before

    asked = tick(world) + tick(world)

    assert [each for each in asked if each.startswith("ta")] == []
    assert asked == (["tb+tc 0-1"] if ends == "succeeds" else [])
    refused = UpstreamCursor.of_cursor(world.cursor).refused
    assert {partition.day for partition in refused} == ({day(0), day(1)} if ends == "fails" else set())


def test_a_day_that_is_not_over_where_it_is_made_is_requested_when_it_is(world: World) -> None:
    land(world, "A", 0, LAST + 1)
    assert everything_succeeds(world) == ["ta 0", "tb+tc 0"]
    assert tick(world) == []
    world.last_days = {table: day(LAST + 1) for table in world.last_days}

    assert everything_succeeds(world) == [f"ta {LAST + 1}", f"tb+tc {LAST + 1}"]


def test_a_step_that_is_known_by_another_table_now_keeps_its_failures(world: World) -> None:
    land(world, "A", 0)
    tick(world)
    world.fail(the_run(world, "ta"), transient=False)
    assert tick(world) == []
    first, joined = lead(world, "ta"), f"{lead(world, 'ta')}_also"
    steps = dict(world.graph.steps)
    steps[first] = steps[joined] = (joined, first)
    tables = {**world.graph.tables, joined: replace(world.graph.tables[first], name=joined)}
    days = {**world.graph.first_days, joined: day(0)}
    world.graph = replace(world.graph, tables=tables, steps=steps, first_days=days)
    world.last_days = {**world.last_days, joined: day(LAST)}

    land(world, "A", 0)
    assert tick(world) == [], "the same was delivered again"
    land(world, "B", 0)
    assert tick(world) == ["ta_also 0"]


def test_the_memory_survives_its_way_through_the_cursor() -> None:
    partitions = [Partition("shop/a", day(number)) for number in (0, 1, 3)]
    wants = {partitions[0]: "want"}
    memory = UpstreamCursor(
        {"shop/a": Place(7, 0.5)},
        set(partitions),
        {"key": RequestedRun(wants, 2, wants)},
        [PostponedRetry(wants, START, 1)],
        wants,
    )

    assert UpstreamCursor.of_cursor(memory.to_cursor()) == memory
    assert UpstreamCursor.of_cursor("") == UpstreamCursor.of_cursor(None) == UpstreamCursor({}, set(), {}, [], {})


def test_a_cursor_that_was_written_before_cursors_had_a_format_is_read() -> None:
    text = (
        '{"read":{"shop/a":7},"waiting":{"shop/a":["2026-01-01/2026-01-02"]},'
        '"asked":{"key":[{"shop/a":{"2026-01-01":"want"}},2,6]},'
        '"later":[[{"shop/a":{"2026-01-01":"want"}},"2026-01-02T03:04:05+00:00",1]],"refused":{}}'
    )
    first, second = (Partition("shop/a", date(2026, 1, number)) for number in (1, 2))
    later = PostponedRetry({first: "want"}, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 1)

    assert UpstreamCursor.of_cursor(text) == UpstreamCursor(
        {"shop/a": Place(7)}, {first, second}, {"key": RequestedRun({first: "want"}, 2)}, [later], {}
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", "7", '{"hints":0,"newest":null,"looks":{},"asked":[]}'])
def test_a_cursor_of_somebody_else_is_refused(text: str) -> None:
    with pytest.raises(StateUnreadable, match=r"^upstream_sensor: its cursor cannot be read \(.*\)\. Reset it"):
        UpstreamCursor.of_cursor(text)


@pytest.mark.parametrize("waiting", ['["shop/a"]', '{"shop/a": "2026-01-01"}', '{"shop/a": ["today"]}', "null"])
def test_a_cursor_that_was_edited_badly_is_refused(waiting: str) -> None:
    text = f'{{"read":{{}},"waiting":{waiting},"asked":{{}},"later":[],"refused":{{}}}}'
    with pytest.raises(StateUnreadable, match=r"upstream_sensor: its cursor cannot be read \("):
        UpstreamCursor.of_cursor(text)


def backfill_of(shop: Sensed, lake: Lake, assets: Sequence[str], days: Mapping[str, int]) -> PartitionBackfill:
    return PartitionBackfill.from_asset_partitions(
        "nightly",
        shop.defs.resolve_asset_graph(),
        [day(number).isoformat() for number in range(days["first"], days["last"] + 1)],
        [dg.AssetKey(each) for each in assets],
        START.timestamp(),
        {},
        lake.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )


@pytest.mark.filterwarnings(
    "ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning"
)  # Dagster's own
def test_what_a_backfill_will_still_make_is_left_to_it(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *SHOP)
    backfill = backfill_of(shop, lake, ["totals"], {"first": 2, "last": 3})
    lake.instance.add_backfill(backfill)
    report(lake, "visits", 2, 3, 6, digest="A")

    assert [told(each) for each in shop.tick().run_requests] == ["totals 6"]
    status = type(backfill.status)
    lake.instance.update_backfill(backfill.with_status(status.CANCELED))  # type: ignore[no-untyped-call]
    assert "totals 2-3" in [told(each) for each in shop.tick().run_requests]


def test_what_a_backfill_in_another_process_will_still_make_is_left_to_it(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *SHOP)
    ask = Ask(Mode.SELECTIVE, ("totals",), ((day(2), day(3)),), "a bug", force=True)
    entries = {"totals": {day(each): Entry(Action.COMPUTE, Reason.REQUESTED) for each in (2, 3)}}
    plan = Plan(ask, ("totals",), entries, {}, {})
    book = Book(lake.instance)
    book.add(Backfill("20240401-000000-beef", START, IN_PROCESS, 30, 1, PlanFile(plan, START, digest_of(plan))))
    report(lake, "visits", 2, 3, 6, digest="A")

    with book.hold("20240401-000000-beef"):
        assert [told(each) for each in shop.tick().run_requests] == ["totals 6"]
    assert "totals 2-3" in [told(each) for each in shop.tick().run_requests]


def test_a_failure_is_forgotten_when_somebody_made_the_day_after_it_though_both_are_seen_at_once(world: World) -> None:
    lead = world.graph.leads()[1]
    land(world, "A", 0)
    (requested,) = world.tick()
    world.die(requested)
    land(world, "B", 0)
    world.succeed(world.launch([lead], [day(0)]))
    land(world, "A", 0)

    assert tick(world) == ["ta 0"]


def test_a_failure_after_somebody_made_the_day_is_not_forgotten(world: World) -> None:
    lead = world.graph.leads()[1]
    land(world, "A", 0)
    (requested,) = world.tick()
    land(world, "B", 0)
    world.succeed(world.launch([lead], [day(0)]))
    world.die(requested)
    land(world, "A", 0)

    assert tick(world) == []
