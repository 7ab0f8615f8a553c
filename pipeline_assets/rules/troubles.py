"""When what went wrong is told: once a cause, however many days and runs it has.

An incident, which is one failed run or check, is not told at once: it joins the trouble of its cause, which is held
while more of the same may come, told once, and kept for as long as it goes on. Delivery is not decided here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from pipeline_assets.rules.alerts import DAYS_KEPT, Alert, Severity, cause_of, counted, loudest, shortened

QUIET_SECONDS = 10
"""A cause whose table has no run under way is told after this long without another incident: one tick."""
SETTLE_SECONDS = 120
"""The same while runs of the table are under way: they may be of something else, or hang."""
HOLD_SECONDS = 900
"""Longest that a trouble is held. A page is not held at all."""
REMIND_SECONDS = 20 * 3600
"""Incidents of a cause that was told wait this long. Under a day: what fails every morning is told every morning."""
KEPT_SECONDS = 7 * 86400
"""A trouble without incidents for so long is forgotten: should it be mended later, nobody is told."""
CAUSES_OF_A_TABLE = 5
"""Further causes of one table and verdict are told as one: reasons that never repeat must not flood anybody."""
OTHERS = "various reasons"
RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Incident:
    """One failed run of a table, or one failed check on it.

    Args:
        alert: as it would be told if it were alone; its title names no day.
        at: when it happened.
        ends_when_committed: the trouble is over once each of its days has been committed later than it failed.
        overdue: another attempt was announced; nobody is told before it should have been seen.
    """

    alert: Alert
    at: datetime
    ends_when_committed: bool = True
    overdue: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Incidents of one cause.

    Args:
        alert: of the first incident, with every day and the loudest severity so far.
        incidents: how many.
        untold: how many of them no message has counted yet; 0 once their days were committed.
        fresh: days of those.
        waiting_since: when the first of those happened.
        last: when the newest incident happened.
        open_days: days that have not been committed since they failed, or have not been told, with the time.
        overdue: when the last of the attempts that were announced is; None if there is no hope of one.
        told: when the newest message was made.
        told_as: its severity.
        times_told: messages so far.
    """

    alert: Alert
    incidents: int
    untold: int
    waiting_since: datetime
    last: datetime
    open_days: Mapping[date, datetime]
    ends_when_committed: bool
    fresh: Sequence[date] = ()
    overdue: datetime | None = None
    told: datetime | None = None
    told_as: Severity | None = None
    times_told: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be told now, the troubles that go on, and what was decided without telling anybody."""

    messages: Sequence[Alert]
    troubles: Mapping[str, Trouble]
    unsaid: Sequence[str]


def note(troubles: Mapping[str, Trouble], incident: Incident) -> dict[str, Trouble]:
    """Add one more incident to the troubles."""
    alert = shortened(incident.alert)
    cause = cause_of(alert)
    if cause not in troubles:
        kinds = [(each.alert.table, each.alert.verdict) for each in troubles.values()]
        if kinds.count((alert.table, alert.verdict)) >= CAUSES_OF_A_TABLE:
            cause = f"{alert.table}|{alert.verdict}|{OTHERS}"
    days = dict.fromkeys(alert.days, incident.at)
    known = troubles.get(cause)
    if known is None:
        ends = incident.ends_when_committed and bool(days)
        trouble = Trouble(alert, 1, 1, incident.at, incident.at, days, ends, tuple(days), incident.overdue)
    else:
        first = known.alert
        all_days = sorted({*first.days, *days})[:DAYS_KEPT]
        newest = {**known.open_days, **{day: max(at, known.open_days.get(day, at)) for day, at in days.items()}}
        trouble = replace(
            known,
            alert=replace(first, days=tuple(all_days), severity=loudest(first.severity, alert.severity)),
            incidents=known.incidents + 1,
            untold=known.untold + 1,
            waiting_since=min(known.waiting_since, incident.at) if known.untold else incident.at,
            last=max(known.last, incident.at),
            open_days={day: newest[day] for day in all_days if day in newest},
            ends_when_committed=known.ends_when_committed and incident.ends_when_committed and bool(days),
            fresh=tuple({**dict.fromkeys(known.fresh), **days}),
            overdue=_later(known.overdue, incident.overdue) if known.untold else incident.overdue,
        )
    return {**troubles, cause: trouble}


def mended(trouble: Trouble, commits: Mapping[date, datetime]) -> Trouble:
    """The trouble after its days were committed at these times; a day that failed later than that stays open."""
    if not trouble.ends_when_committed:
        return trouble
    left = {day: at for day, at in trouble.open_days.items() if day not in commits or commits[day] <= at}
    fresh = tuple(day for day in trouble.fresh if day in left)
    return replace(trouble, open_days=left, fresh=fresh, untold=trouble.untold if fresh else 0)


def settle(troubles: Mapping[str, Trouble], *, now: datetime, busy: Collection[str]) -> Settlement:
    """Tell what has to be told, and forget what is over; `busy` are tables with runs that are queued or under way."""
    messages: list[Alert] = []
    left: dict[str, Trouble] = {}
    unsaid: list[str] = []
    for cause, trouble in troubles.items():
        if trouble.ends_when_committed and not trouble.open_days:
            if trouble.told is None:
                unsaid.append(f"{trouble.alert.title}: every day was committed before it was told")
            else:
                messages.append(_recovery(cause, trouble))
        elif _is_due(trouble, now, is_busy=trouble.alert.table in busy):
            messages.append(_message(cause, trouble))
            left[cause] = replace(
                trouble,
                untold=0,
                fresh=(),
                open_days=trouble.open_days if trouble.ends_when_committed else {},
                told=now,
                told_as=trouble.alert.severity,
                times_told=trouble.times_told + 1,
            )
        elif _is_over(trouble, now):
            what = f"{trouble.incidents} incidents, the last at {trouble.last}"
            unsaid.append(f"{trouble.alert.title}: forgotten; {what}")
        else:
            left[cause] = trouble
    return Settlement(messages, left, unsaid)


def _is_due(trouble: Trouble, now: datetime, *, is_busy: bool) -> bool:
    severity = trouble.alert.severity
    if not trouble.untold:
        return False
    if trouble.told is not None and trouble.told_as is not None:
        is_louder = loudest(severity, trouble.told_as) != trouble.told_as
        if not is_louder and now - trouble.told < timedelta(seconds=REMIND_SECONDS):
            return False
    if trouble.overdue is not None:
        return now >= trouble.overdue
    if severity is Severity.PAGE or now - trouble.waiting_since >= timedelta(seconds=HOLD_SECONDS):
        return True
    return now - trouble.last >= timedelta(seconds=SETTLE_SECONDS if is_busy else QUIET_SECONDS)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else max(one, other)


def _is_over(trouble: Trouble, now: datetime) -> bool:
    kept_seconds = KEPT_SECONDS if trouble.ends_when_committed else REMIND_SECONDS
    return not trouble.untold and now - trouble.last >= timedelta(seconds=kept_seconds)


def _message(cause: str, trouble: Trouble) -> Alert:
    days = tuple(sorted(trouble.open_days))
    alert = trouble.alert
    return replace(
        alert,
        key=f"{cause}|{trouble.waiting_since.isoformat()}|{trouble.times_told}",
        title=counted(alert.title, days, trouble.incidents),
        days=days,
    )


def _recovery(cause: str, trouble: Trouble) -> Alert:
    alert = trouble.alert
    return replace(
        alert,
        key=f"{cause}|{trouble.waiting_since.isoformat()}|{RECOVERED}",
        severity=Severity.INFO,
        title=counted(f"{alert.table} {RECOVERED}", alert.days),
        verdict=RECOVERED,
        reason=f"Every day that had failed has been committed since. It was: {alert.reason}",
    )
