"""Judging one partition: was it there when its deadline passed, and if not, what was it waiting for.

Only when things happened counts, not when somebody looked. The first commit of a partition is its delivery: a later
one, for late data or new code, makes nothing late.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from pipeline_assets.rules.calendar import zone
from pipeline_assets.rules.due import Due
from pipeline_assets.rules.sla import Cause, Delivery, DeliveryStatus

LONG_FACTOR = 1.5
"""A run takes long when it takes more than this many times the median of the other days."""
TURNAROUND_SECONDS = 60.0
"""What a run takes at least from its inputs to its commit: a sensor's tick, the queue, the start of a process."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_HOUR, _DAY = 3600, 86_400


@dataclass(frozen=True, slots=True)
class FirstCommit:
    """The first commit of a partition: when, in UTC, and the seconds that the day took to compute."""

    at: datetime
    seconds: float | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """A run that was asked for a partition. Times are UTC.

    Args:
        ended: however it did.
        failed: it ended without having done what it was asked for; or it was canceled.
    """

    run_id: str
    requested: datetime
    started: datetime | None = None
    ended: datetime | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened before a partition came, or did not.

    Args:
        inputs: when the same day of every upstream table was first there, by table; None if it is not.
    """

    inputs: Mapping[str, datetime | None] = field(default_factory=dict)
    attempts: Sequence[RunAttempt] = ()


def day_counts(due: Due, day: date, known_since: datetime | None) -> bool:
    """Whether a day counts: it is due, and the table was known when its deadline passed.

    Args:
        known_since: when the table was first heard of; a promise with a first day needs none.
    """
    if not due.is_due(day):
        return False
    return due.since is not None or (known_since is not None and due.deadline(day) > known_since)


def status_of(due: Due, day: date, commit: FirstCommit | None, now: datetime) -> DeliveryStatus:
    """Give the status of a partition that is due; MISSING also if it is broken."""
    if commit is not None:
        return DeliveryStatus.ON_TIME if commit.at <= due.deadline(day) else DeliveryStatus.LATE
    if now > due.deadline(day):
        return DeliveryStatus.MISSING
    warn_at = due.warn_at(day)
    return DeliveryStatus.WARNED if warn_at is not None and now >= warn_at else DeliveryStatus.NOT_DUE


def delivery_of(
    table: str,
    due: Due,
    day: date,
    commit: FirstCommit | None,
    timeline: Timeline,
    *,
    now: datetime,
    usual_seconds: float | None,
) -> Delivery:
    """Judge one partition against its deadline.

    Args:
        timeline: only a miss is explained with it.
        usual_seconds: that other days took, see `usual_seconds`; None if nobody knows.
    """
    deadline, status = due.deadline(day), status_of(due, day, commit, now)
    delivery = Delivery(table, day, deadline, status)
    if commit is not None:
        delivery = replace(delivery, delivered=commit.at, duration_seconds=commit.seconds, run_id=commit.run_id)
    if not delivery.is_miss:
        return delivery
    newest = max(timeline.attempts, key=lambda each: each.requested, default=None)
    if commit is None and newest is not None:
        status = DeliveryStatus.BROKEN if newest.failed else status
        delivery = replace(delivery, status=status, run_id=newest.run_id)
    cause, detail = _cause(_Clock(due, deadline), timeline, usual_seconds)
    late_seconds = ((delivery.delivered or now) - deadline).total_seconds()
    return replace(delivery, late_seconds=late_seconds, cause=cause, detail=detail)


def usual_seconds(commits: Mapping[date, FirstCommit], *, apart_from: date) -> float | None:
    """Take the median of what the other days took."""
    known = [each.seconds for day, each in commits.items() if day != apart_from and each.seconds is not None]
    return statistics.median(known) if known else None


def span(seconds: float) -> str:
    """Write seconds as in "41 s", "41 min", "3 h 05 min", "2 d 4 h"."""
    whole = int(seconds)
    if whole < 2 * 60:
        return f"{whole} s"
    if whole < 2 * _HOUR:
        return f"{whole // 60} min"
    if whole < 2 * _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // 60:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


@dataclass(frozen=True, slots=True)
class _Clock:
    """Instants as people at the deadline's clock say them."""

    due: Due
    deadline: datetime

    def words(self, instant: datetime) -> str:
        local = zone(self.due.timezone or "UTC")
        there = instant.astimezone(local)
        same = there.date() == self.deadline.astimezone(local).date()
        return there.strftime("%H:%M" if same else "%Y-%m-%d %H:%M")


def _cause(clock: _Clock, timeline: Timeline, usual: float | None) -> tuple[Cause, str]:
    """What the partition was waiting for at its deadline, and the same in a sentence.

    A run in time starts a usual length before the deadline. What came before that moment is not to blame; the first
    thing on the way (inputs, request, start) that came after it is.
    """
    deadline = clock.deadline
    needed = max(TURNAROUND_SECONDS, LONG_FACTOR * (usual or 0.0))
    latest_start = deadline - timedelta(seconds=needed)
    if late := _late_inputs(clock, timeline.inputs, deadline):
        return Cause.UPSTREAM_LATE, f"Waited for {late}."
    ready = max((at for at in timeline.inputs.values() if at is not None), default=None)
    asked = [each for each in timeline.attempts if each.requested <= deadline and not _was_premature(each, ready)]
    failed = [each for each in asked if each.failed and each.ended is not None and each.ended <= deadline]
    if failed:
        first, more = min(failed, key=lambda each: each.requested), len(failed) - 1
        again = f", and {more} more after it" if more else ""
        return Cause.FAILED, f"Run {first.run_id[:8]} failed at {clock.words(first.ended or deadline)}{again}."
    if late := _late_inputs(clock, timeline.inputs, latest_start):
        return Cause.UPSTREAM_LATE, f"Waited for {late}, too late for a run of usual length ({span(needed)})."
    at_work = [each for each in asked if each.ended is None or each.ended > deadline]
    return _delay(clock, at_work, latest_start, ready, usual)


def _delay(
    clock: _Clock, asked: Sequence[RunAttempt], latest_start: datetime, ready: datetime | None, usual: float | None
) -> tuple[Cause, str]:
    """As `_cause`, when inputs were there and nothing failed."""
    since = "" if ready is None else f"; its inputs were there at {clock.words(ready)}"
    if not asked:
        return Cause.NEVER_REQUESTED, f"No run had been asked for it{since}."
    first = min(asked, key=lambda each: each.requested)
    started = min(asked, key=lambda each: each.started or _NEVER)
    name, at = f"Run {first.run_id[:8]}", clock.words(first.requested)
    if first.requested > latest_start:
        return Cause.NEVER_REQUESTED, f"{name} was only asked for at {at}{since}."
    if started.started is None:
        return Cause.QUEUED, f"{name}, asked for at {at}, had not started."
    if started.started > latest_start:
        return Cause.QUEUED, f"{name}, asked for at {at}, only started at {clock.words(started.started)}."
    usually = "" if usual is None else f"; other days took {span(usual)}"
    return Cause.RUNNING_LONG, f"Run {started.run_id[:8]} was running since {clock.words(started.started)}{usually}."


def _late_inputs(clock: _Clock, inputs: Mapping[str, datetime | None], after: datetime) -> str:
    late = {
        name: "is not there" if at is None else f"came at {clock.words(at)}"
        for name, at in sorted(inputs.items())
        if at is None or at > after
    }
    return " and ".join(f"{name}, which {when}" for name, when in late.items())


def _was_premature(attempt: RunAttempt, ready: datetime | None) -> bool:
    """It ended before there was anything to compute from."""
    return ready is not None and attempt.ended is not None and attempt.ended < ready
