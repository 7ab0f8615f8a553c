"""An SLA report in plain words: the same ones on the page, in the terminal and in Dagster's metadata."""

from collections import Counter
from datetime import date, datetime
from enum import StrEnum

from pipeline_assets.rules.calendar import zone
from pipeline_assets.rules.sla import Delivery, DeliveryStatus, SlaReport, TableReport

NONE = "-"
"""Where there is nothing to compute from."""
STEADY_SHARE = 0.05
"""A trend that moves the duration by less than this share of its mean, over all days, is called steady."""
ROUNDING_DAYS = 1e-9
"""Budgets are differences of floats: what is closer to nothing than this is nothing."""

STATUSES = {
    DeliveryStatus.ON_TIME: "on time",
    DeliveryStatus.LATE: "late",
    DeliveryStatus.MISSING: "not delivered",
    DeliveryStatus.BROKEN: "failed, not delivered",
}


class Promise(StrEnum):
    """Whether a table came in time as often as its objective says."""

    KEPT = "kept"
    BROKEN = "not kept"
    OPEN = "nothing due yet"


def promise(table: TableReport) -> Promise:
    """Judge whether one table kept its promise."""
    if not table.deliveries:
        return Promise.OPEN
    return Promise.KEPT if table.budget_left_days > -ROUNDING_DAYS else Promise.BROKEN


def headline(report: SlaReport) -> str:
    """The report in one sentence, without its full stop."""
    judged = [table for table in report.tables if promise(table) is not Promise.OPEN]
    kept = [table for table in judged if promise(table) is Promise.KEPT]
    span = span_of(report.first, report.last)
    if not report.tables:
        return "No table has a deadline"
    if not judged:
        return f"Nothing was due {span}"
    if len(judged) == 1:
        return f"{judged[0].table} {'kept' if kept else 'did not keep'} its promise {span}"
    if len(kept) < len(judged):
        return f"{len(kept) or 'None'} of {len(judged)} tables kept their promise {span}"
    return f"{'Both' if len(judged) == 2 else f'All {len(judged)}'} tables kept their promise {span}"  # noqa: PLR2004


def explanation(report: SlaReport) -> list[str]:
    """What the headline leaves open, in sentences."""
    if not report.tables:
        return ["Give an asset a deadline with due=by(...), and it is reported here from the next day on."]
    tables = {each: [table for table in report.tables if promise(table) is each] for each in Promise}
    sentences = []
    for table in (*tables[Promise.BROKEN], *(table for table in tables[Promise.KEPT] if table.misses)):
        missed = f"{table.table} missed {len(table.misses)} of {count(len(table.deliveries), 'day')}"
        sentences.append(f"{missed}; {budget(table)}.")
    if tables[Promise.KEPT] and not sentences:
        deliveries = sum(len(table.deliveries) for table in tables[Promise.KEPT])
        sentences.append(f"{count(deliveries, 'delivery', 'deliveries')} of {deliveries} came in time.")
    return sentences + [f"{table.table}: {first_deadline(table)}." for table in tables[Promise.OPEN]]


def budget(table: TableReport) -> str:
    """Say in a clause what the objective allows to be missed, and what is left of it."""
    if table.budget_days <= ROUNDING_DAYS:
        return f"its objective of {share(table.objective)} allows no miss"
    allowed = f"its error budget of {days(table.budget_days)}"
    if table.budget_left_days < -ROUNDING_DAYS:
        return f"{allowed} is overspent by {days(-table.budget_left_days)}"
    if table.budget_left_days <= ROUNDING_DAYS:
        return f"{allowed} is used up"
    return f"{allowed} has {days(table.budget_left_days)} left"


def budget_left(table: TableReport) -> str:
    """Say in three words what is left of the error budget."""
    left = table.budget_left_days
    if left < -ROUNDING_DAYS:
        return f"{days(-left)} over"
    if left <= ROUNDING_DAYS and table.misses:
        return "used up"
    return f"{days(max(left, 0.0))} left" if table.deliveries else NONE


def first_deadline(table: TableReport) -> str:
    """Say when a table of which nothing is due yet is due for the first time."""
    if table.next_deadline is None:
        return "nothing was due"
    return f"nothing was due yet; the first deadline is {local(table.next_deadline, table.timezone)}"


def cause(miss: Delivery) -> str:
    """Say what caused one miss."""
    return miss.cause.value if miss.cause else "cause unknown"


def why(table: TableReport) -> str:
    """Name the causes of the misses, the most frequent first."""
    counted = Counter(sorted(cause(each) for each in table.misses))
    return ", ".join(f"{number} {name}" for name, number in counted.most_common())


def trend(table: TableReport) -> str:
    """Say how the duration changes from day to day."""
    slope, mean = table.duration_trend_seconds_per_day, table.duration_mean_seconds
    if slope is None or mean is None:
        return NONE
    timed = [each.day for each in table.deliveries if each.duration_seconds is not None]
    change = slope * (timed[-1] - timed[0]).days if timed else 0.0
    if abs(change) <= STEADY_SHARE * mean:
        return "steady"
    return f"{'grows' if slope > 0 else 'shrinks'} by {duration(abs(slope))} a day"


def share(value: float | None) -> str:
    """Write a share as percent; never 100 % unless it is all."""
    if value is None:
        return NONE
    rounded = min(round(value * 100, 1), 99.9) if value < 1 else 100.0
    return f"{rounded:g} %"


def days(number: float) -> str:
    """Write days of an error budget, which come in fractions."""
    rounded = round(number, 1) if abs(number) >= 1 else float(f"{number:.1g}")
    return f"{rounded:g} {'day' if rounded == 1 else 'days'}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Write seconds in the two largest units that matter."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 10:  # noqa: PLR2004 - a digit more while it can be told apart
        return f"{seconds:.1f} s".replace(".0 s", " s")
    for unit_seconds, name, smaller_seconds, smaller in _UNITS:
        whole = round(seconds / smaller_seconds) * smaller_seconds
        if whole >= unit_seconds:
            rest = (whole % unit_seconds) // smaller_seconds
            return f"{whole // unit_seconds} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{round(seconds)} s"


_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def local(moment: datetime | None, timezone: str) -> str:
    """A moment where the deadline is kept, with the zone's abbreviation: an hour comes twice when clocks go back."""
    if moment is None:
        return NONE
    there = moment.astimezone(zone(timezone))
    return f"{there.day} {there:%b %Y, %H:%M %Z}"


def long_day(day: date) -> str:
    """Write a day with its month's name."""
    return f"{day.day} {day:%B %Y}"


def span_of(first: date, last: date) -> str:
    """Write days from first to last, with the words that lead to them."""
    if first == last:
        return f"on {long_day(last)}"
    if first.year == last.year:
        return f"from {first.day} {first:%B} to {long_day(last)}"
    return f"from {long_day(first)} to {long_day(last)}"
