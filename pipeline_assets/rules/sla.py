"""How due partitions were delivered: the words, and the numbers of a report. `delivery.py` judges a single one."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import numpy as np

from pipeline_assets.rules.due import Due


class DeliveryStatus(StrEnum):
    """Says whether one partition is there in time, at one moment."""

    NOT_DUE = "not due"  # the deadline is to come, and so is the warning
    WARNED = "warned"  # the warning has passed, the deadline has not, it is not there
    ON_TIME = "on time"
    LATE = "late"  # it came after its deadline
    MISSING = "missing"  # its deadline has passed, and it is not there
    BROKEN = "broken"  # as missing, and the newest attempt failed


class Cause(StrEnum):
    """What a partition was waiting for when its deadline passed."""

    UPSTREAM_LATE = "upstream late"
    QUEUED = "waiting in the queue"
    RUNNING_LONG = "running long"
    FAILED = "failed"
    NEVER_REQUESTED = "never requested"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One partition that has a deadline, and how it kept it. Times are UTC."""

    table: str
    day: date
    deadline: datetime
    status: DeliveryStatus
    delivered: datetime | None = None  # its first commit
    late_seconds: float | None = None  # of a miss: delivered, or now, minus deadline
    duration_seconds: float | None = None  # of the day that was computed
    cause: Cause | None = None  # of a miss
    detail: str = ""  # the cause in a sentence
    run_id: str | None = None

    @property
    def is_miss(self) -> bool:
        """True if it was not there when its deadline passed."""
        return self.status in (DeliveryStatus.LATE, DeliveryStatus.MISSING, DeliveryStatus.BROKEN)


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table over the days of a report. None stands where there is nothing to compute from."""

    table: str
    owners: Sequence[str]
    due: str  # in words: "by 06:00 Europe/London, 1 day after"
    objective: float  # the on-time share that is promised, 0 to 1
    deliveries: Sequence[Delivery]  # that are due, ascending by day
    on_time_share: float | None
    lateness_p50_seconds: float | None  # over the late and missing ones
    lateness_p95_seconds: float | None
    duration_mean_seconds: float | None
    duration_p95_seconds: float | None
    duration_trend_seconds_per_day: float | None  # slope of the least squares line
    budget_days: float  # misses that the objective allows in this many due days
    budget_left_days: float  # negative when it is overspent
    timezone: str = "UTC"  # of the deadline: times are shown in it
    next_deadline: datetime | None = None  # the first one that is still to come, UTC

    @property
    def misses(self) -> list[Delivery]:
        """List the deliveries that are late, missing or broken."""
        return [each for each in self.deliveries if each.is_miss]


@dataclass(frozen=True, slots=True)
class SlaReport:
    """Reports on all tables that have a due."""

    first: date
    last: date
    made_at: datetime
    tables: Sequence[TableReport]


def table_report(
    table: str, due: Due, deliveries: Sequence[Delivery], *, now: datetime, owners: Sequence[str] = ()
) -> TableReport:
    """Compute the numbers of one table.

    Args:
        due: with its time zone.
        deliveries: of days that count, ascending; those whose deadline is still to come do not count.
    """
    counted = [each for each in deliveries if each.deadline < now]
    lateness = [each.late_seconds for each in counted if each.is_miss and each.late_seconds is not None]
    durations = {each.day: each.duration_seconds for each in counted if each.duration_seconds is not None}
    misses = sum(each.is_miss for each in counted)
    budget_days = round((1 - due.objective) * len(counted), 9)  # 1 - 0.95 is a little more than 0.05
    return TableReport(
        table=table,
        owners=owners,
        due=due.words,
        objective=due.objective,
        deliveries=counted,
        on_time_share=1 - misses / len(counted) if counted else None,
        lateness_p50_seconds=_percentile(lateness, 50),
        lateness_p95_seconds=_percentile(lateness, 95),
        duration_mean_seconds=math.fsum(durations.values()) / len(durations) if durations else None,
        duration_p95_seconds=_percentile(list(durations.values()), 95),
        duration_trend_seconds_per_day=_slope(durations),
        budget_days=budget_days,
        budget_left_days=round(budget_days - misses, 9),
        timezone=due.timezone or "UTC",
        next_deadline=due.next_deadline(now),
    )


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _slope(seconds: Mapping[date, float]) -> float | None:
    if len(seconds) < 2:  # noqa: PLR2004 - a line takes two
        return None
    return statistics.linear_regression([day.toordinal() for day in seconds], list(seconds.values())).slope
