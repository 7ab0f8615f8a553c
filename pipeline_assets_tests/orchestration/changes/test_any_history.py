"""The promise of the upstream sensor, over random graphs of changes, ticks, failures, kills and restarts.

Every change is followed downstream, none twice; what is not settled upstream holds its downstream back; a failure is
repeated as its verdict allows and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from random import Random

import dagster as dg
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.windows import arrivals, same_day, trailing
from pipeline_assets_tests.orchestration.sensor_world import FIRST, Attempt, Digests, World
from pipeline_assets_tests.support.properties import examples

DAYS = days_between(FIRST, FIRST + timedelta(days=3))
WINDOWS = [same_day(), trailing(days=2), trailing(days=3), arrivals(lateness_days=1)]
ENDS = ["succeeds", "succeeds", "goes on", "goes on", "may pass", "fails", "dies", "is retried", "stops"]
TICKS_TO_REST = 60
ACTIONS = 25
NUMBERS = count()
"""All worlds share an instance: making one takes as long as a story."""


def random_world(instance: dg.DagsterInstance, random: Random) -> World:
    """A source, and steps of one table or two that read some of the tables before them."""
    prefix = f"w{next(NUMBERS):06d}"
    source = f"{prefix}/t0"
    tables, first_days = {source: Table(source, {})}, {source: DAYS[0]}
    steps: dict[str, tuple[str, ...]] = {source: (source,)}
    size = random.randint(3, 5)
    while len(tables) < size:
        read = random.sample(sorted(tables), min(len(tables), random.randint(1, 2)))
        reads = {name: random.choice(WINDOWS) for name in read}
        first = random.choice([DAYS[0], DAYS[0], DAYS[1]])
        names = tuple(f"{prefix}/t{len(tables) + n}" for n in range(random.choice([1, 1, 2])))
        for name in names:
            tables[name], steps[name], first_days[name] = Table(name, reads), names, first
    one_day_a_run = dict.fromkeys(random.sample(sorted(tables), random.randint(0, 1)), 1)
    graph = Graph(tables, steps, frozenset({source}), first_days, one_day_a_run)
    leads = [lead for lead in graph.leads() if lead != source]
    silent = frozenset(random.sample(leads, random.randint(0, 1)))
    return World(instance, graph, dict.fromkeys(leads, DAYS[-1]), silent, variety=random.choice([2, 1000]))


class Story:
    """What happens in a world, and what must hold."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source = min(world.graph.sources)
        self.leads = [lead for lead in world.graph.leads() if lead != self.source]
        self.told: list[str] = []
        self.outlook: dict[Partition, tuple[Digests, datetime | None]] = {}
        """Failed: what they were to be made from, and from when they may be tried again."""
        self.wanted: dict[Partition, Digests] = {}
        """What the sensor last asked to be made from."""
        self.seen: dict[Partition, list[int]] = {}
        """How often these had changed by then."""
        self.known: dict[Partition, list[int]] = {}
        """How often these had been recorded by then, changed or not."""
        self.succeeded: set[Partition] = set()
        """The run that it asked for succeeded and was the last."""
        self.unknown: set[Partition] = set()
        """The sensor was made to forget what became of them."""
        self.forgotten: list[Attempt] = []

    def act(self, random: Random) -> None:
        """Anything happens."""
        deed = random.choices(
            [
                self.tick,
                self.run,
                self.deliver,
                self.wait,
                self.launch_by_hand,
                self.tick_is_killed,
                self.cursor_is_reset,
            ],
            [6, 6, 3, 2, 1, 1, 0.3],
        )[0]
        self.told.append(f"{deed.__name__} {deed(random)}")

    # The world outside.

    def deliver(self, random: Random) -> str:
        digests = random.choice(["A", "B", "AB", "BBB", None])
        first = random.randrange(len(DAYS))
        for day, digest in zip(DAYS[first:], digests or [None], strict=False):
            self.world.deliver(self.source, day, digest)
        return f"{DAYS[first]} {digests}"

    def launch_by_hand(self, random: Random) -> str:
        lead, days = random.choice(self.leads), DAYS[random.randrange(len(DAYS)) :][: random.randint(1, 3)]
        if {Partition(lead, day) for day in days} <= set(self.world.computable()) - self.world.in_flight():
            self.world.launch([lead], days)
        return f"{lead} {days[0]} to {days[-1]}"

    def wait(self, random: Random) -> str:
        seconds = random.choice([1, 59, 3600])
        self.world.now += timedelta(seconds=seconds)
        return f"{seconds} s"

    # Runs.

    def run(self, random: Random) -> str:
        """One of the runs goes on or ends."""
        if not self.world.running:
            return "none"
        attempt, how = random.choice(list(self.world.running.values())), random.choice(ENDS)
        for partition in random.sample(attempt.partitions, random.randint(0, min(2, len(attempt.partitions)))):
            self.world.read(attempt, partition)
        self.world.commit(
            attempt, random.sample(attempt.partitions, random.randint(0, min(2, len(attempt.partitions))))
        )
        if how == "succeeds":
            self.succeed(attempt)
        elif how != "goes on":
            self.end(attempt, how)
        return f"{attempt} {how}"

    def succeed(self, attempt: Attempt) -> None:
        self.world.succeed(attempt)
        self.ended(attempt)
        if attempt in self.world.submitted:
            self.succeeded.update(attempt.partitions)

    def let_runs_end(self) -> None:
        self.world.retry_runs()
        for attempt in list(self.world.running.values()):
            self.succeed(attempt)

    def end(self, attempt: Attempt, how: str) -> None:
        """Without success: what is undone is not repeated with the same inputs, unless it may pass and in its time."""
        if how == "is retried" and attempt in self.world.submitted and attempt not in self.forgotten:
            self.world.die(attempt, is_retried=True)
            return
        dies = how in ("dies", "is retried")
        undone = [partition for partition in attempt.partitions if dies or partition not in attempt.committed]
        outlook: dict[Partition, datetime | None] = dict.fromkeys(undone)
        match how:
            case "dies" | "is retried":
                self.world.die(attempt)
            case "stops":
                self.world.cancel(attempt)
                outlook = dict.fromkeys(undone, self.world.now)
            case _:
                outlook = self.world.fail(attempt, transient=how == "may pass")
        self.ended(attempt, recorded=not dies)
        if attempt in self.world.submitted:
            self.outlook |= {partition: (self.wanted[partition], moment) for partition, moment in outlook.items()}

    def ended(self, attempt: Attempt, *, recorded: bool = True) -> None:
        for partition in attempt.partitions:
            self.succeeded.discard(partition)
            if recorded and partition in attempt.committed:
                self.outlook.pop(partition, None)

    # The daemon.

    def tick(self, random: Random) -> str:
        if random.random() < 1 / 3:
            self.let_runs_end()
        submitted = self.world.tick()
        self.followed(submitted)
        return f"{submitted}"

    def tick_is_killed(self, random: Random) -> str:
        stores_cursor, submits = random.random() < 1 / 2, random.randint(0, 2)
        submitted = self.world.tick(stores_cursor=stores_cursor, submits=submits)
        self.followed(submitted)
        if not stores_cursor:  # it will not know that it asked for these
            self.unknown.update(partition for attempt in submitted for partition in attempt.partitions)
            self.forgotten += submitted
        return f"{submitted} {stores_cursor=}"

    def cursor_is_reset(self, _: Random) -> str:
        self.world.retry_runs()
        self.world.cursor = None
        self.forgotten += self.world.submitted
        self.unknown.update(self.outlook, self.wanted)
        return ""

    def followed(self, submitted: list[Attempt]) -> None:
        """What may be submitted."""
        world = self.world
        new = {attempt.run_id for attempt in submitted}
        in_flight = world.in_flight(without=new)
        requested = {partition for attempt in submitted for partition in attempt.partitions}
        assert len(requested) == sum(len(attempt.partitions) for attempt in submitted), "asked for twice at once"
        for partition in sorted(requested):
            want = world.window(partition, world.recorded)
            seen, known = [world.changes[each] for each in want], [world.records[each] for each in want]
            upstream = {Partition(world.graph.lead(each.table), each.day) for each in want}
            assert partition not in in_flight, f"{partition} is being made"
            assert not upstream & in_flight, f"{partition} is asked for while its upstream is being made"
            assert not upstream & requested, f"{partition} is asked for together with its upstream"
            broken = {each for each in upstream & self.outlook.keys() - self.unknown if not world.is_current(each)}
            assert not broken, f"{partition} is asked for though its upstream failed"
            if partition.table in world.silent or partition in self.unknown:
                pass
            else:
                assert not world.is_current(partition), f"{partition} is current"
                is_same = self.seen.get(partition) == seen  # not even there and back
                # Its run may have read a commit that nobody lived to record. When that is replaced, by what the record
                # says, and recorded, it is made anew from that; until then it would be made from the same once more.
                is_known = self.known.get(partition) == known
                assert not (is_known and partition in self.succeeded), f"{partition} is asked for twice"
                failed, not_before = self.outlook.get(partition, (None, None))
                may_pass = not_before is not None and not_before <= world.now
                assert not (is_same and failed == want) or may_pass, f"{partition} failed with the same inputs"
            self.wanted[partition], self.seen[partition], self.known[partition] = want, seen, known
            self.succeeded.discard(partition)
            self.unknown.discard(partition)
            self.outlook.pop(partition, None)

    # What must hold.

    def end_well(self) -> None:
        """When all is quiet and what failed was mended, everything is there and made from what is there."""
        self.comes_to_rest()
        world = self.world
        may_pass = {partition for partition, (_, not_before) in self.outlook.items() if not_before} - self.unknown
        free = {partition for partition in may_pass if not world.ancestors(partition) & self.outlook.keys()}
        left = {partition for partition in free if not world.is_current(partition)}
        assert not left, f"{left} were not tried again"
        self.repair()
        self.comes_to_rest()
        assert set(world.made_from) >= set(world.computable()), "not everything was made"
        stale = [partition for partition in world.made_from if not world.is_current(partition)]
        assert not stale, f"not made anew: {stale}"

    def repair(self) -> None:
        """Somebody mends what failed, upstream first."""
        world = self.world
        for lead in self.leads:
            for day in DAYS:
                tables = [Partition(table, day) for table in world.graph.steps[lead]]
                lost = any(world.heads.get(each) != world.recorded.get(each) for each in tables)
                if (Partition(lead, day) in self.outlook or lost) and Partition(lead, day) in set(world.computable()):
                    self.succeed(world.launch([lead], [day]))

    def comes_to_rest(self) -> None:
        world = self.world
        for _ in range(TICKS_TO_REST):
            world.now += timedelta(hours=1)
            self.let_runs_end()
            before = world.cursor
            self.followed(world.tick())
            if world.cursor == before and not world.in_flight():
                return
        raise AssertionError("it never comes to rest")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@examples(30)
@given(random=st.randoms(use_true_random=True))
def test_every_change_is_followed_downstream_and_none_twice(instance: dg.DagsterInstance, random: Random) -> None:
    """Stories are random, not drawn by hypothesis: it likes short and dull ones. A failure names its seed."""
    story = Story(random_world(instance, random))
    try:
        for day in DAYS:
            story.world.deliver(story.source, day, "A")
        for _ in range(ACTIONS):
            story.act(random)
        story.end_well()
    except AssertionError:
        note(f"{story.world.graph}\n{story.world.silent=}\n" + "\n".join(story.told))
        raise
    finally:
        story.world.close()
