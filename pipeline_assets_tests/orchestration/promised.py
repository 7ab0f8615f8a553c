"""Tables with a due, and mornings of theirs: usual ones, and others."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import dagster as dg
import pyarrow as pa

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.sla.sensor import sla_report
from pipeline_assets.rules.due import by
from pipeline_assets.rules.sla import Cause, DeliveryStatus, TableReport
from pipeline_assets.rules.windows import same_day, trailing
from pipeline_assets_tests.orchestration.lake import ROW, numbers
from pipeline_assets_tests.orchestration.past import TIMEZONE, Past, at

DAYS = dg.DailyPartitionsDefinition("2026-10-01", timezone=TIMEZONE)
FIRST = date(2026, 10, 20)
"""Five days before the clock goes back."""
LAST = FIRST + timedelta(days=29)
NOW = at(LAST, "12:00")
LANDING = dg.AssetSpec("landing", partitions_def=DAYS)


@daily_asset(partitions_def=DAYS, contract=ROW, deps={"landing": same_day()}, due=by("05:00"), owners=["team:shop"])
def events(day: date) -> pa.Table:
    """Rows of a day."""
    return numbers(day.day)


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"events": trailing(days=3)}, due=by("06:00", warn="05:30"))
def sales(day: date, events: pa.Table) -> pa.Table:
    """Their number."""
    return numbers(events.num_rows)


@daily_asset(partitions_def=DAYS, contract=ROW, due=by("06:00", since=date(2026, 10, 1)))
def nothing(day: date) -> pa.Table:
    """A table of days on which nothing happens."""
    return numbers()


def nothing_of_a_day(day: date) -> pa.Table:
    """The same without its wiring."""
    return numbers()


WATCHED = dg.Definitions([LANDING, events, sales])


def day(number: int) -> date:
    """The days of the report are 0 to 29."""
    return FIRST + timedelta(days=number)


def known(past: Past, number: int = -1) -> None:
    """Make the tables known by a day that is on time, the one before the first unless stated."""
    for table in ("landing", "events", "sales"):
        past.report(table, day(number), at(day(number), "03:00"))


def run(  # noqa: PLR0917 - a line of a timetable
    past: Past,
    table: str,
    number: int,
    asked: str,
    started: str | None = None,
    made: str | None = None,
    *,
    failed: str | None = None,
) -> str:
    """A run of one day of one table, by the clock of the next day."""
    each = day(number)
    return past.run(
        [table],
        each,
        each if table == "sales" else None,  # backfills have ranges of one day, schedules have partitions
        asked=at(each, asked),
        started=at(each, started) if started else None,
        made={table: at(each, made)} if made else None,
        seconds=(at(each, made) - at(each, started)).total_seconds() if made and started else None,
        ended=at(each, failed) if failed else None,
        failed=failed is not None,
    )


def usual_events(past: Past, number: int) -> None:
    """Events as they mostly come."""
    past.report("landing", day(number), at(day(number), "00:30"))
    run(past, "events", number, "00:31", "00:32", "00:42")


def usual(past: Past, number: int) -> None:
    """A day on which everything goes well."""
    usual_events(past, number)
    run(past, "sales", number, "00:43", "00:44", "00:49")


def reported(past: Past, *, now: datetime = NOW, first: date = FIRST, last: date = LAST) -> dict[str, TableReport]:
    report = sla_report(past.instance, WATCHED, first, last, now=now)
    assert (report.first, report.last, report.made_at) == (first, last, now)
    return {table.table: table for table in report.tables}


def misses(report: TableReport) -> dict[int, tuple[DeliveryStatus, Cause | None, float | None]]:
    return {(each.day - FIRST).days: (each.status, each.cause, each.late_seconds) for each in report.misses}
