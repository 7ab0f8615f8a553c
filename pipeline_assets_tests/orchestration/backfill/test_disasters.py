"""Three bad days in a history, of several kinds: planned, repaired, and nothing else touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import chdir
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline_assets.orchestration.backfill.book import Book
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.partition import days_between
from pipeline_assets_tests.orchestration.backfill.checkout import FIRST, LAST, ROOT, Project, computed, copied, land

pytestmark = pytest.mark.slow(50)
BAD_DAYS = days_between(date(2024, 2, 14), date(2024, 2, 16))
SPAN = ("--from", str(BAD_DAYS[0]), "--to", str(BAD_DAYS[-1]))
ASKED = ("--select", "events", *SPAN, "--reason", "events of 14 to 16 February were wrong")
WINDOW = days_between(date(2024, 2, 14), date(2024, 3, 14))
"""28 days each: the last one that reads 16 February."""
DOWNSTREAM = {"events": BAD_DAYS, "daily_sales": BAD_DAYS, "user_features": WINDOW, "user_segments": WINDOW}
SHORT_DAYS = """

class _ShortDays:
    def __init__(self, connection):
        self.connection = connection

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, sql, parameters=None):
        if parameters and "end" in parameters:
            parameters = {**parameters, "end": parameters["start"] + (parameters["end"] - parameters["start"]) / 2}
        return self.connection.execute(sql, parameters)
"""
BUGS = {
    "its own code": (
        "assets/events.py",
        "event_time >= $start AND",
        "hour(event_time) > 9 AND event_time >= $start AND",
    ),
    "a helper of the pipeline": (
        "assets/database.py",
        "        yield connection\n",
        "        yield _ShortDays(connection)\n",
    ),
    "the machinery": ("rules/calendar.py", "    return start, end", "    return start, start + (end - start) / 2"),
}
Days = Sequence[date]


@pytest.fixture(scope="module")
def healthy() -> Project:
    """A history that never had the bug."""
    return computed()


def with_bug(folder: Path, kind: str) -> Path:
    """A tree of the package in which one place of the code is another."""
    file, right, wrong = BUGS[kind]
    shutil.copytree(ROOT / "pipeline_assets", folder / "pipeline_assets", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "pipeline_assets" / file
    text = path.read_text()
    assert text.count(right) == 1
    path.write_text(text.replace(right, wrong) + (SHORT_DAYS if "_ShortDays" in wrong else ""))
    return folder


def carried_out(there: Project, *asked: str) -> dict[str, list[date]]:
    """Plan and apply; the days that were to be computed, by table."""
    there.run("plan", *asked, "--out", "plan.json")
    (there.folder / "calls").unlink(missing_ok=True)
    there.run("backfill", "plan.json", "--yes")
    return days_in(json.loads((there.folder / "plan.json").read_text()), "compute")


def days_in(plan: dict[str, dict[str, dict[str, list[tuple[str, str, str]]]]], action: str) -> dict[str, list[date]]:
    """Days of an action by table, where there are any."""
    found = {
        table: [
            day
            for first, last, each, *_ in told["partitions"]
            if each == action
            for day in days_between(date.fromisoformat(first), date.fromisoformat(last))
        ]
        for table, told in plan["tables"].items()
    }
    return {table: days for table, days in found.items() if days}


def done_by(there: Project) -> dict[str, list[date]]:
    """What was, by table; nothing twice."""
    counted = there.counted()
    assert set(counted.values()) <= {1}
    tables = {table for table, _ in counted}
    return {table: sorted(day for each, day in counted if each == table) for table in tables}


def logged(there: Project) -> str:
    """By the runs of the newest backfill."""
    with chdir(there.folder), open_instance(there.folder) as instance:
        runs = instance.get_run_records(dg.RunsFilter(tags={BACKFILL_TAG: Book(instance).ids()[0]}))
        events = [entry for each in runs for entry in instance.all_logs(each.dagster_run.run_id)]
    return "\n".join(entry.user_message for entry in events)


def rewritten(there: Project, before: dict[tuple[str, date], tuple[int, int]]) -> set[tuple[str, date]]:
    """Partitions whose file is another one than before."""
    return {partition for partition, stamp in there.stamps().items() if before.get(partition) != stamp}


def partitions(reached: Mapping[str, Days]) -> set[tuple[str, date]]:
    return {(table, day) for table, days in reached.items() for day in days}


@pytest.mark.parametrize("kind", BUGS)
def test_days_that_wrong_code_made_are_made_anew_with_all_that_reads_them_and_nothing_else(
    healthy: Project, tmp_path: Path, kind: str
) -> None:
    there = copied(healthy, tmp_path / "project")
    Project(there.folder, with_bug(tmp_path / "tree", kind), there.settings).run(
        "run", "--select", ",".join(DOWNSTREAM), *SPAN
    )
    wrong = there.bytes_of()
    assert {path for path, content in healthy.bytes_of().items() if wrong[path] != content} >= {
        f"{table}/dt={day}/data.parquet" for table in ("events", "daily_sales") for day in BAD_DAYS
    }
    before = there.stamps()

    # A project's machinery is no part of a table's code: who mends that says that nothing is to be skipped.
    planned = carried_out(there, *ASKED, *(["--force"] if kind == "the machinery" else []))

    assert planned == DOWNSTREAM
    assert there.bytes_of() == healthy.bytes_of()
    assert rewritten(there, before) <= partitions(DOWNSTREAM)
    assert done_by(there) == DOWNSTREAM
    (told,) = there.json("backfills")
    assert (told["state"], told["done"], told["reason"]) == ("done", 66, ASKED[-1])
    assert there.json("plan", *ASKED)["counts"] == {"compute": 0, "skip": 3, "wait": 0}


def test_files_that_somebody_overwrote_are_made_anew_and_what_never_read_them_is_not_even_computed(
    healthy: Project, tmp_path: Path
) -> None:
    there = copied(healthy, tmp_path / "project")
    overwritten = [BAD_DAYS[0], BAD_DAYS[2]]
    for day in overwritten:
        path = there.lake / "events" / f"dt={day}" / "data.parquet"
        rows = pq.ParquetFile(path).read()
        twice = pc.add(rows["amount"], rows["amount"]).cast(rows.schema.field("amount").type)
        pq.write_table(rows.set_column(3, rows.schema.field("amount"), twice), path)
    before = there.stamps()

    planned = carried_out(there, *ASKED)

    assert planned == {**DOWNSTREAM, "events": overwritten, "daily_sales": overwritten}
    assert there.bytes_of() == healthy.bytes_of()
    assert rewritten(there, before) == {("events", day) for day in overwritten}
    assert done_by(there) == {"events": overwritten}
    (told,) = there.json("backfills")
    assert (told["state"], told["done"]) == ("done", 64)
    said = logged(there)
    assert "user_features: 30 of 30 days were not computed: the code and all inputs are those of their records" in said


def test_corrected_files_are_found_without_anybody_naming_a_day(healthy: Project, tmp_path: Path) -> None:
    there = copied(healthy, tmp_path / "project")
    land(there.landing, BAD_DAYS, scale=100)
    there.run("run", *SPAN)
    assert there.bytes_of() != healthy.bytes_of()
    land(there.landing, BAD_DAYS)
    before, history = there.stamps(), ("--from", str(FIRST), "--to", str(LAST))

    incremental = days_in(there.json("plan", "--mode", "incremental", *history), "compute")
    planned = carried_out(there, "--mode", "stale", *history)

    arrivals = days_between(date(2024, 2, 11), date(2024, 2, 17))
    reached = days_between(date(2024, 2, 11), date(2024, 3, 15))
    assert planned == {
        "raw_events": BAD_DAYS,
        "events": arrivals,
        "daily_sales": arrivals,
        "user_features": reached,
        "user_segments": reached,
    }
    assert incremental == planned
    assert there.bytes_of() == healthy.bytes_of()
    # Events of 13 to 16 February came with those files; of the days around them nothing is another now.
    changed = days_between(date(2024, 2, 13), date(2024, 2, 16))
    in_window = days_between(date(2024, 2, 13), date(2024, 3, 14))
    done = done_by(there)
    assert (done["raw_events"], done["events"]) == (BAD_DAYS, arrivals)
    assert (done["daily_sales"], done["user_features"]) == (changed, in_window)
    assert rewritten(there, before) <= partitions(
        {
            "raw_events": BAD_DAYS,
            "events": changed,
            "daily_sales": changed,
            "user_features": in_window,
            "user_segments": in_window,
        }
    )
