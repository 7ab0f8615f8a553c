"""SLA reports made by hand: what the rules would find in months that went in known ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from pipeline_assets.partition import days_between
from pipeline_assets.rules.due import by
from pipeline_assets.rules.sla import Cause, Delivery, DeliveryStatus, SlaReport, TableReport, table_report

FIRST, LAST = date(2026, 10, 22), date(2026, 11, 20)
"""Thirty days; clocks in Europe go back on the fourth of them."""
MADE_AT = datetime(2026, 11, 21, 8, 15, tzinfo=UTC)
LONDON = "Europe/London"


def deadline_of(day: date) -> datetime:
    return by("06:00", timezone=LONDON).deadline(day)


def on_time(table: str, day: date, *, early_minutes: float = 30, seconds: float | None = 40) -> Delivery:
    deadline = deadline_of(day)
    return Delivery(
        table,
        day,
        deadline,
        DeliveryStatus.ON_TIME,
        delivered=deadline - timedelta(minutes=early_minutes),
        duration_seconds=seconds,
        run_id="0f0e0d0c-0000-4000-8000-000000000001",
    )


def miss(
    table: str,
    day: date,
    status: DeliveryStatus = DeliveryStatus.LATE,
    *,
    late_minutes: float = 40,
    cause: Cause | None = Cause.FAILED,
    detail: str = "",
    seconds: float | None = None,
    run_id: str | None = "5a5b5c5d-0000-4000-8000-00000000000f",
) -> Delivery:
    deadline = deadline_of(day)
    late = timedelta(minutes=late_minutes)
    return Delivery(
        table,
        day,
        deadline,
        status,
        delivered=deadline + late if status is DeliveryStatus.LATE else None,
        late_seconds=late.total_seconds(),
        duration_seconds=seconds,
        cause=cause,
        detail=detail,
        run_id=run_id,
    )


def table_of(
    table: str, deliveries: Sequence[Delivery], *, objective: float = 0.95, owners: Sequence[str] = ("team:data",)
) -> TableReport:
    """A table that is due by 06:00 in London, with the rules' numbers."""
    due = by("06:00", timezone=LONDON, objective=objective)
    return table_report(table, due, deliveries, now=MADE_AT, owners=owners)


def report_of(*tables: TableReport, first: date = FIRST, last: date = LAST) -> SlaReport:
    return SlaReport(first, last, MADE_AT, tables)


def month() -> SlaReport:
    """A believable month: four tables, three keep their promise, one is over its budget and gets slower."""
    days = days_between(FIRST, LAST)
    november = {number: date(2026, 11, number) for number in range(1, 21)}

    def deliveries(
        table: str, misses: Mapping[date, Delivery], base_minutes: float, seconds: float, slope: float
    ) -> list[Delivery]:
        found = []
        for number, day in enumerate(days):
            wobble = (day.toordinal() * 37 % 11 - 5) / 5
            took = seconds * (1 + 0.12 * wobble) + slope * number
            found.append(
                misses.get(day)
                or on_time(table, day, early_minutes=base_minutes + 6 * wobble - took / 60, seconds=round(took, 2))
            )
        return found

    late_upload = "Waited for raw_events, which came at 07:12."
    return report_of(
        table_of(
            "events",
            deliveries(
                "events",
                {
                    november[3]: miss(
                        "events",
                        november[3],
                        late_minutes=74,
                        cause=Cause.UPSTREAM_LATE,
                        detail=late_upload,
                        seconds=43.0,
                    )
                },
                190,
                42,
                0.0,
            ),
        ),
        table_of("daily_sales", deliveries("daily_sales", {}, 160, 6.5, 0.0), objective=0.99),
        table_of(
            "user_features",
            deliveries(
                "user_features",
                {
                    november[3]: miss(
                        "user_features",
                        november[3],
                        late_minutes=96,
                        cause=Cause.UPSTREAM_LATE,
                        detail="Waited for events, which came at 07:14.",
                        seconds=331.0,
                    ),
                    november[12]: miss(
                        "user_features",
                        november[12],
                        late_minutes=31,
                        cause=Cause.RUNNING_LONG,
                        detail="Run 5a5b5c5d was running since 05:48; other days took 6 min.",
                        seconds=2580.0 / 3,
                    ),
                    november[20]: miss(
                        "user_features",
                        november[20],
                        DeliveryStatus.BROKEN,
                        late_minutes=135,
                        detail="Run 5a5b5c5d failed at 04:12, and 2 more after it.",
                    ),
                },
                110,
                290,
                4.2,
            ),
        ),
        table_of("user_segments", deliveries("user_segments", {}, 95, 11, -0.02)),
    )


def long_history(number_of_days: int = 366) -> SlaReport:
    """A year with a miss in every third week."""
    last = LAST
    days = days_between(last - timedelta(days=number_of_days - 1), last)
    deliveries = [
        miss("events", day, late_minutes=20 + number % 50, seconds=50)
        if number % 21 == 10
        else on_time("events", day, early_minutes=60 + number % 17, seconds=30 + number % 9)
        for number, day in enumerate(days)
    ]
    return report_of(table_of("events", deliveries), first=days[0], last=last)


def all_missed() -> SlaReport:
    """Thirty days of which none came: late, not there, failed by turns."""
    statuses = [DeliveryStatus.LATE, DeliveryStatus.MISSING, DeliveryStatus.BROKEN]
    deliveries = [
        miss("events", day, statuses[number % 3], late_minutes=30 + number * 60, cause=list(Cause)[number % 5])
        for number, day in enumerate(days_between(FIRST, LAST))
    ]
    return report_of(table_of("events", deliveries))


def all_on_time() -> SlaReport:
    """Thirty days as they should be."""
    return report_of(table_of("events", [on_time("events", day) for day in days_between(FIRST, LAST)]))


def nothing_due_yet() -> SlaReport:
    """A table that is new."""
    return report_of(table_of("events", []))


def long_names() -> SlaReport:
    """Names, owners and details that nobody would choose."""
    name = "a_table_that_was_named_by_a_committee_" * 4 + "v2"
    days = days_between(FIRST, LAST)
    deliveries = [on_time(name, day) for day in days[:-1]]
    deliveries.append(miss(name, days[-1], DeliveryStatus.MISSING, detail=f"nobody/asked/for/{name}" * 3, run_id=None))
    return report_of(table_of(name, deliveries, owners=[f"team:{name}", "someone@example.com"]))
