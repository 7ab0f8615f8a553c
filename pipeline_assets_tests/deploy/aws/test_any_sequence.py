"""Whatever happens to a bucket, its events and the webserver: in the end nothing is doubled and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from landing_trigger.handler import Trigger, deliver
from landing_trigger.webserver import Webserver

from pipeline_assets_tests.deploy.aws.dagster_webserver_process import Dagster
from pipeline_assets_tests.deploy.aws.faulty_proxy import FAULTS, FaultyProxy, faulty_proxy
from pipeline_assets_tests.deploy.aws.s3_messages import (
    PREFIX,
    event_bridge,
    failed,
    key_of,
    records,
    removed,
    sns_to_sqs,
    sqs,
    written,
)
from pipeline_assets_tests.support.properties import examples

pytestmark = pytest.mark.xdist_group("deploy_aws")

RECEIVED_AT_MOST = 40
"""More often than there can be faults."""
MALFORMED = ("{", "{}", "null", json.dumps(records({"eventName": "ObjectCreated:Put"})), json.dumps(records(None)))
DAYS = (date(1990, 1, 1) + timedelta(days=number) for number in count())


@pytest.fixture(scope="module")
def proxy(dagster: Dagster) -> Iterator[FaultyProxy]:
    with faulty_proxy(dagster.port) as between:
        yield between


@dataclass(slots=True)
class World:
    """A bucket with one day of two objects, its queue, and what was seen by whoever looks when a report comes.

    Looking at an object only when it is reported is less than the landing sensor does.
    """

    dagster: Dagster
    proxy: FaultyProxy
    day: str
    objects: dict[str, str | None] = field(default_factory=dict)
    seen: dict[str, str | None] = field(default_factory=dict)
    history: list[tuple[str, str | None, str]] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    looked_at: int = 0

    def change(self, name: str, etag: str | None, wrap: str) -> None:
        """Write or remove an object; S3 says so."""
        key, number = key_of(self.day, name), len(self.history) + 1
        # As many digits as S3 likes, in either case.
        sequencer = f"{number * 5:0{2 + number % 3 * 2}x}"
        sequencer = sequencer.upper() if number % 2 else sequencer
        self.objects[key] = etag
        self.history.append((key, etag, sequencer))
        said = written(key, etag, sequencer) if etag else removed(key, sequencer)
        bodies = {
            "S3": records(said),
            "SNS": sns_to_sqs(records(said)),
            "EventBridge": event_bridge(key, etag, sequencer),
        }
        self.queue.append(json.dumps(bodies[wrap]))

    def invoke(self, size: int) -> None:
        """SQS hands over a batch; what fails comes back behind the others, until it was received too often."""
        batch, self.queue = self.queue[:size], self.queue[size:]
        if not batch:
            return
        webserver = Webserver(self.proxy.url, ("landing",), {})
        trigger = Trigger(webserver, PREFIX, lambda: 60, sleep=lambda _: None, jitter=lambda: 0.5)
        answer = deliver(sqs(*batch), trigger)
        for message in (batch[int(name.removeprefix("m"))] for name in failed(answer)):
            self.received[message] = self.received.get(message, 0) + 1
            (self.dead if self.received[message] >= RECEIVED_AT_MOST else self.queue).append(message)
        self.look()

    def look(self) -> None:
        reports = self.dagster.reports(self.day)
        for report in reports[self.looked_at :]:
            self.seen[report["s3_key"]] = self.objects[report["s3_key"]]
        self.looked_at = len(reports)

    def empty_the_queue(self) -> None:
        while self.queue:
            self.invoke(10)


CHANGE = st.tuples(
    st.just("change"),
    st.sampled_from(["a.csv", "b +ü.csv"]),
    st.sampled_from(["e1", "e2", "e3-2", None]),
    st.sampled_from(["S3", "SNS", "EventBridge"]),
)
OPERATIONS = st.lists(
    st.one_of(
        CHANGE,
        CHANGE,
        CHANGE,
        st.tuples(st.just("repeat"), st.integers(0, 20)),
        st.tuples(st.just("delay"), st.integers(0, 20)),
        st.tuples(st.just("malformed"), st.sampled_from(MALFORMED)),
        st.tuples(st.just("fault"), st.sampled_from(FAULTS)),
        st.tuples(st.just("invoke"), st.integers(1, 4)),
    ),
    min_size=5,
    max_size=25,
)


def apply(world: World, operation: tuple[Any, ...]) -> None:
    match operation:
        case ("change", str(name), etag, str(wrap)):
            world.change(name, etag, wrap)
        case ("repeat", int(at)) if world.queue:
            world.queue.append(world.queue[at % len(world.queue)])
        case ("delay", int(at)) if world.queue:
            world.queue.append(world.queue.pop(at % len(world.queue)))
        case ("malformed", str(body)):
            world.queue.append(body)
        case ("fault", str(fault)):
            world.proxy.plan.append(fault)
        case ("invoke", int(size)):
            world.invoke(size)


@pytest.mark.slow(20)
@examples(30)
@given(operations=OPERATIONS)
def test_nothing_is_doubled_and_nothing_lost(
    operations: list[tuple[Any, ...]], dagster: Dagster, proxy: FaultyProxy
) -> None:
    proxy.plan.clear()
    world = World(dagster, proxy, next(DAYS).isoformat())
    for operation in operations:
        apply(world, operation)
    malformed = {message for message in world.queue if message in MALFORMED} | set(world.dead)
    malformed |= {message for message in world.received if message in MALFORMED}
    world.empty_the_queue()

    reported = [(each["s3_key"], each.get("etag"), each["sequencer"]) for each in dagster.reports(world.day)]
    event(f"{len(reported)} reports")
    assert len(reported) == len(set(reported)), "an event was reported twice"
    assert set(reported) <= set(world.history), "something was reported that never happened"
    assert world.seen == world.objects, "a change was lost to whoever looks when a report comes"
    assert set(world.dead) == malformed, "what cannot be read must end in the dead-letter queue, and nothing else"


@examples(20)
@given(data=st.data(), changes=st.lists(st.sampled_from(["a.csv", "b.csv"]), min_size=1, max_size=8))
def test_each_version_of_an_object_is_reported_at_most_once_and_the_newest_always(
    data: st.DataObject, changes: list[str], dagster: Dagster, proxy: FaultyProxy
) -> None:
    proxy.plan.clear()
    world = World(dagster, proxy, next(DAYS).isoformat())
    for number, name in enumerate(changes):
        world.change(name, f"e{number}", "S3")
    in_order = data.draw(st.booleans(), label="in order")
    if not in_order:
        world.queue += data.draw(st.lists(st.sampled_from(world.queue), max_size=6), label="repeated")
        world.queue = data.draw(st.permutations(world.queue), label="order")
    proxy.plan.extend(data.draw(st.lists(st.sampled_from(FAULTS), max_size=12), label="faults"))
    while world.queue:
        world.invoke(data.draw(st.integers(1, 4), label="batch"))

    reported = [(each["s3_key"], each["etag"]) for each in dagster.reports(world.day)]
    assert len(reported) == len(set(reported))
    for key, etag in world.objects.items():
        assert [each for each in reported if each[0] == key][-1] == (key, etag)
