"""Backfills through a real webserver and daemon: in order, told truly, canceled for good."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline_assets.errors import DagsterRefused, NoAnswer, SettingsError
from pipeline_assets.orchestration.backfill.launches import PRIORITY, parts, tags_of
from pipeline_assets.orchestration.backfill.webserver import (
    DagsterBackfill,
    DagsterBackfillStatus,
    RunningDagster,
    Targets,
)
from pipeline_assets.orchestration.history.tags import (
    BACKFILL_TAG,
    DAGSTER_BACKFILL_TAG,
    PLAN_TAG,
    PRIORITY_TAG,
    REASON_TAG,
    SKIP_UNCHANGED_TAG,
)
from pipeline_assets.rules.backfill import Action, Ask, Entry, Mode, Plan, Reason
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.plan_file import PlanFile
from pipeline_assets_tests.orchestration.backfill import workshop
from pipeline_assets_tests.orchestration.backfill.workshop import WINDOW_DAYS, Workshop, day
from pipeline_assets_tests.orchestration.servers import Server, dagster_running, wait_until

pytestmark = [pytest.mark.slow(100), pytest.mark.xdist_group("through_dagster")]

GRAPH = workshop.graph()
READS = {"sales": ("events", 1), "features": ("events", WINDOW_DAYS), "segments": ("features", 1)}
RELOAD = "mutation { answer: reloadWorkspace { __typename } }"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def server(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with dagster_running(tmp_path_factory.mktemp("home"), shop.settings(), module=workshop.MODULE) as running:
        yield running


@pytest.fixture(scope="module")
def dagster(server: Server) -> RunningDagster:
    return RunningDagster(server.url)


SHOWN = """
query ($id: String!) {
  answer: partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { title description } }
}
"""
RUN_TAGS = """
query ($filter: RunsFilter!) {
  answer: runsOrError(filter: $filter) { ... on Runs { results { tags { key value } } } }
}
"""


def planned(numbers: Mapping[str, Sequence[int]]) -> Plan:
    entries = {
        lead: {day(number): Entry(Action.COMPUTE, Reason.REQUESTED) for number in numbers[lead]}
        for lead in GRAPH.leads()
        if lead in numbers
    }
    ask = Ask(Mode.SELECTIVE, tuple(entries), (), "a bug")
    return Plan(ask, GRAPH.leads(), entries, {}, {})


def launch(
    dagster: RunningDagster,
    targets: Targets,
    our_id: str,
    *,
    graph: Graph = GRAPH,
    title: str = "",
    reason: str = "to see",
    force: bool = False,
    part: int = 1,
) -> str:
    ask = Ask(Mode.SELECTIVE, tuple(targets), (), reason, force)
    file = PlanFile(Plan(ask, (), {}, {}, {}), datetime.now(UTC), "f00d")
    return dagster.launch(graph, targets, title=title, description=reason, tags=tags_of(our_id, file, part))


def launched(dagster: RunningDagster, numbers: Mapping[str, Sequence[int]]) -> str:
    (targets,) = parts(GRAPH, planned(numbers))
    return launch(dagster, targets, uuid4().hex)


def ended(dagster: RunningDagster, backfill_id: str) -> DagsterBackfill:
    def told() -> DagsterBackfill | None:
        found = dagster.status(backfill_id)
        return found if found.status.has_ended else None

    found = wait_until(told, what=f"backfill {backfill_id}")
    assert isinstance(found, DagsterBackfill)
    return found


def done(shop: Workshop, since: int = 0) -> dict[str, list[int]]:
    """Days of each table that were made, once each."""
    found: dict[str, list[int]] = {}
    for word, table, number in shop.journal()[since:]:
        if word == "done":
            found.setdefault(table, []).append(number)
    return {table: sorted(numbers) for table, numbers in found.items()}


def assert_upstream_first(journal: Sequence[tuple[str, str, int]], made: Mapping[str, Collection[int]]) -> None:
    """Nothing began before all that it reads, of what was made along with it, was done."""
    for position, (word, table, number) in enumerate(journal):
        if word != "began" or table not in READS:
            continue
        upstream, days = READS[table]
        for each in range(number - days + 1, number + 1):
            if each in made.get(upstream, ()):
                assert ("done", upstream, each) in journal[:position], f"{table} {number} before {upstream} {each}"


def test_ranges_that_differ_are_one_backfill_that_is_computed_upstream_first_and_tells_of_itself(
    dagster: RunningDagster, server: Server, shop: Workshop
) -> None:
    ended(dagster, launched(dagster, {"events": [0, 1, 12]}))
    before = len(shop.journal())
    numbers = {
        "events": [2, 3, 4, 8],
        "sales": [2, 3, 4, 12],
        "features": [1, 2, 3, 4, 5, 6, 8, 9, 12],
        "segments": [2, 3, 4, 5, 6, 12],
    }
    (targets,) = parts(GRAPH, planned(numbers))
    backfill_id = launch(dagster, targets, "our-id", title='100 % "of" it', reason="a bug of *two* days")
    told = ended(dagster, backfill_id)

    assert done(shop, before) == numbers
    assert_upstream_first(shop.journal()[before:], numbers)
    assert told.status is DagsterBackfillStatus.SUCCEEDED
    shown = dagster._ask(SHOWN, id=backfill_id)
    assert (shown["title"], shown["description"]) == ("100  of it", "a bug of *two* days")
    assert told.done == {table: len(days) for table, days in numbers.items()}
    tags = {
        BACKFILL_TAG: "our-id",
        REASON_TAG: "a bug of *two* days",
        PLAN_TAG: "f00d",
        SKIP_UNCHANGED_TAG: "true",
        PRIORITY_TAG: str(PRIORITY),
    }
    assert tags.items() <= told.tags.items()
    of_it = {"tags": [{"key": DAGSTER_BACKFILL_TAG, "value": backfill_id}]}
    runs = dagster._ask(RUN_TAGS, filter=of_it)["results"]
    assert runs
    for run in runs:
        assert tags.items() <= {tag["key"]: tag["value"] for tag in run["tags"]}.items()

    assert launch(dagster, targets, "our-id") == backfill_id, "launched once"
    newest, _ = dagster.backfills()
    assert (newest.id, newest.tags) == (backfill_id, told.tags)


def test_days_with_gaps_that_a_window_reads_over_are_launched_in_parts_and_dagster_alone_would_break_the_order(
    dagster: RunningDagster, shop: Workshop
) -> None:
    numbers = {"events": [20, 22], "sales": [20, 22], "features": [20, 22], "segments": [20, 22]}
    plan = planned(numbers)
    first, second = parts(GRAPH, plan)
    assert [sorted(first), sorted(second)] == [["events", "sales"], ["features", "segments"]]

    held, before = shop.hold("events", 20), len(shop.journal())
    undivided = launch(dagster, {**first, **second}, "undivided")
    wait_until(lambda: ("done", "features", 22) in shop.journal()[before:], what="a run that should have waited")
    assert ("done", "events", 20) not in shop.journal()[before:]
    held.unlink()
    ended(dagster, undivided)

    before = len(shop.journal())
    for part, targets in enumerate([first, second], start=1):
        assert (
            ended(dagster, launch(dagster, targets, "in parts", part=part, force=True)).status
            is DagsterBackfillStatus.SUCCEEDED
        )
    assert done(shop, before) == numbers
    assert_upstream_first(shop.journal()[before:], numbers)


def test_what_reads_a_failed_day_is_not_computed_and_the_failed_alone_can_be_launched_again(
    dagster: RunningDagster, shop: Workshop
) -> None:
    broken, before = shop.break_("events", 31), len(shop.journal())
    numbers = {"events": [30, 31, 32, 35], "features": [30, 31, 32, 33, 34, 35, 36, 37], "segments": [33, 34, 35]}
    backfill_id = launched(dagster, numbers)
    told = ended(dagster, backfill_id)

    assert told.status is DagsterBackfillStatus.FAILED
    assert done(shop, before) == {"events": [30, 32, 35], "features": [30, 34, 35, 36, 37], "segments": [34, 35]}
    left = {"events": [day(31)], "features": [day(31), day(32), day(33)], "segments": [day(33)]}
    assert told.done == {table: len(days) - len(left[table]) for table, days in numbers.items()}

    broken.unlink()
    before = len(shop.journal())
    again = launch(dagster, left, uuid4().hex)
    assert ended(dagster, again).status is DagsterBackfillStatus.SUCCEEDED
    assert done(shop, before) == {"events": [31], "features": [31, 32, 33], "segments": [33]}
    assert_upstream_first(shop.journal()[before:], done(shop, before))


def test_a_canceled_backfill_ends_and_nothing_of_it_starts_afterwards(dagster: RunningDagster, shop: Workshop) -> None:
    numbers = [40, 42, 44, 46, 48, 50, 52, 54]
    held, before = [shop.hold("events", number) for number in numbers], len(shop.journal())
    backfill_id = launched(dagster, {"events": numbers, "sales": numbers})
    wait_until(lambda: len(shop.journal()) > before, what="a run to begin")
    assert dagster.status(backfill_id).status is DagsterBackfillStatus.RUNNING

    assert dagster.cancel(backfill_id).status is DagsterBackfillStatus.CANCELED
    assert not dagster._has_unfinished_runs(backfill_id)
    after = shop.journal()
    for path in held:
        path.unlink()
    shop.ask("events", 60)
    wait_until(lambda: ("done", "events", 60) in shop.journal(), what="the queue to have gone on")
    assert shop.journal()[len(after) :] == [("began", "events", 60), ("done", "events", 60)]
    with pytest.raises(DagsterRefused, match=rf"{backfill_id} has ended already \(canceled\)"):
        dagster.cancel(backfill_id)


def test_what_a_user_gets_wrong_is_told(dagster: RunningDagster) -> None:
    for ask in (dagster.status, dagster.cancel):
        with pytest.raises(DagsterRefused, match=r"has no backfill nosuch. `pipeline backfills` lists"):
            ask("nosuch")
    with pytest.raises(DagsterRefused, match="nothing to compute"):
        launch(dagster, {"events": []}, "wrong")
    for days, told in (([day(1), date(2999, 1, 1)], "2999-01-01"), ([date(1999, 1, 1), date(1999, 1, 2)], "and 1 ")):
        with pytest.raises(DagsterRefused, match=rf"does not have events .*{told}.*Its PIPELINE_START"):
            launch(dagster, {"events": days}, "wrong")
    other = workshop.graph()
    other.steps["orders"] = ("orders",)  # type: ignore[index]
    with pytest.raises(DagsterRefused, match=r"has no asset orders: it runs another project.*PIPELINE_DAGSTER_URL"):
        launch(dagster, {"events": [day(1)], "orders": [day(1)]}, "wrong", graph=other)
    assert "wrong" not in {each.tags.get(BACKFILL_TAG) for each in dagster.backfills()}


def test_a_dagster_without_a_daemon_or_with_code_that_does_not_load_launches_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "workshop").mkdir()
    shop = Workshop(tmp_path / "workshop")
    with dagster_running(tmp_path / "home", shop.settings(), module=workshop.MODULE, with_daemon=False) as server:
        dagster = RunningDagster(server.url)
        with pytest.raises(DagsterRefused, match=r"no daemon running.*dagster-daemon run"):
            launch(dagster, {"events": [day(1)]}, "wrong")
        (shop.root / "unloadable").touch()
        server.ask(RELOAD)
        with pytest.raises(DagsterRefused, match=r"has no asset events: its code cannot be loaded \(.*workshop: "):
            launch(dagster, {"events": [day(1)]}, "wrong")
        assert dagster.backfills() == []


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers anything with this; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (404, b""), (302, b""), (200, b'["no"]'), (200, b'{"data": {}}')]
)
def test_what_is_not_a_dagster_is_told(status: int, body: bytes) -> None:
    with (
        answering(status, body) as url,
        pytest.raises(SettingsError, match=rf"{url} is not a Dagster webserver \(HTTP status {status}\)"),
    ):
        RunningDagster(url).backfills()


def test_nobody_answering_is_told_with_what_to_start() -> None:
    with answering(200, b"") as url:
        pass
    with pytest.raises(NoAnswer, match=rf"Nobody answers at {url} \(ConnectionError\). Start Dagster, `make dev`"):
        RunningDagster(url).backfills()


def test_a_plan_without_gaps_or_without_windows_between_them_is_one_part() -> None:
    unbroken = {"events": [1, 2, 3], "features": [1, 2, 3], "segments": [1, 2, 3]}
    same_day = {"events": [1, 3], "sales": [1, 3]}
    others = {"events": [1, 3], "features": [1, 3, 4]}
    for numbers in (unbroken, same_day, others):
        assert parts(GRAPH, planned(numbers)) == [
            {lead: [day(number) for number in days] for lead, days in numbers.items()}
        ]
    skipped = planned({"events": [1], "features": [1, 2]})
    skipped.entries["features"][day(1)] = Entry(Action.SKIP, None)  # type: ignore[index]
    assert parts(GRAPH, skipped) == [{"events": [day(1)], "features": [day(2)]}]
