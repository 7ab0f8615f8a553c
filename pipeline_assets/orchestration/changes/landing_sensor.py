"""Reports days of the landing zone whose files changed, as materializations of the asset that stands for them.

A day is reported when two ticks in a row saw the same files and nobody has one open for writing. What decides is the
fingerprint of the content: a file that is delivered again as it was is not a change.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import takewhile
from typing import Annotated, Literal

import dagster as dg
from pydantic import BeforeValidator, PlainSerializer

from pipeline_assets.codec import codec, unreadable
from pipeline_assets.errors import LandingUnavailable, PipelineError, StateUnreadable
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.partition import days_between, days_in_words
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.store.landing import Landing, Look

HINTS_PER_TICK = 500
DESCRIBED_RANGES = 10
BUDGET_SECONDS = 20.0
"""Of a tick; Dagster gives up on one after 60."""
SteadyLook = Annotated[
    Look,
    BeforeValidator(lambda kept: Look(*kept, settled=True)),
    PlainSerializer(lambda look: (look.stamp, look.fingerprint)),
]


@dataclass(slots=True)
class LandingCursor:
    """What the sensor keeps from tick to tick.

    Args:
        hints: event id up to which reports of others were read.
        newest: the latest day that ever had something.
        looks: by day.
        asked: days outside of the look-back that somebody reported.
        format: of the text; a text without one is of format 1.
    """

    hints: int
    newest: date | None
    looks: dict[date, SteadyLook]
    asked: set[date]
    format: Literal[1] = 1

    def to_cursor(self) -> str:
        """Give the text that Dagster keeps."""
        return codec(LandingCursor).dump_json(self).decode()

    @staticmethod
    def of_cursor(cursor: str | None) -> "LandingCursor":
        """Read the text that Dagster kept; without one, nothing has been seen yet.

        Raises:
            StateUnreadable: the text is not ours.
        """
        if not cursor:
            return LandingCursor(0, None, {}, set())
        try:
            return codec(LandingCursor).validate_json(cursor)
        except (ValueError, TypeError) as error:
            told = f"its cursor cannot be read ({unreadable(error)}). Reset it in the UI; nothing is lost by that."
            raise StateUnreadable(f"landing_sensor: {told}") from error


def landing_sensor(
    landing: Landing,
    *,
    table: str,
    days: dg.DailyPartitionsDefinition,
    look_back_days: int,
    default_status: dg.DefaultSensorStatus,
    interval_seconds: int = 5,
    clock: Callable[[], float] = time.monotonic,
) -> dg.SensorDefinition:
    """Make the sensor that reports the days whose landing files changed.

    Args:
        table: the asset that stands for the files.
        days: its partitions; a day is looked at when it is over.
        look_back_days: how many of the last days are looked at; all others only when somebody reports them.
        interval_seconds: between ticks; each asks for every day of the look-back, so a server deserves longer ones.
        clock: seconds.
    """
    graph, first_day = _alone(table, days), days.start.date()

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        over = days.get_last_partition_key()
        if over is None:
            return dg.SkipReason("no day of the history is over")
        last_day, began = date.fromisoformat(over), clock()
        seen = LandingCursor.of_cursor(context.cursor)
        _read_hints(context.instance, table, seen)
        since = last_day - timedelta(days=look_back_days - 1)
        if seen.newest is not None:  # after a long silence the days of the silence are looked at as well
            since = min(since, seen.newest + timedelta(days=1))
        asked = {day for day in seen.asked if first_day <= day <= last_day}
        wanted = sorted({*days_between(max(since, first_day), last_day), *asked}, reverse=True)
        # Large files are hashed over several ticks.
        looks, broken = _looked_at(landing, takewhile(lambda _: clock() - began <= BUDGET_SECONDS, wanted), seen.looks)
        for day, error in broken.items():
            context.log.error(f"{table} {day}: {error}")
        fresh = {day for day, look in looks.items() if not _is_steady(look, seen.looks.get(day))}
        ready = {day: look.fingerprint for day, look in looks.items() if look.fingerprint and day not in fresh}
        newest = max([*ready, *([seen.newest] if seen.newest else [])], default=None)
        known = EventLog(context.instance, graph).records(table, looks.keys())
        for day, look in looks.items():
            # A day without files is one without rows once a later day has some; or when its files were taken away.
            is_over = (newest is not None and day < newest) or day in known
            if not look.stamp and day not in fresh and is_over:
                ready[day] = landing.fingerprint(day, [])
        changed = {day: each for day, each in ready.items() if day not in known or known[day].digest != each}
        seen = LandingCursor(
            seen.hints,
            newest,
            {
                day: look
                for day, look in {**seen.looks, **looks}.items()
                if look.stamp and (day >= since or day in asked)
            },
            asked & (fresh | broken.keys() | (asked - looks.keys())),
        )
        return dg.SensorResult(
            asset_events=[report(table, day, fingerprint) for day, fingerprint in sorted(changed.items())],
            cursor=seen.to_cursor(),
            skip_reason=_reason(looks.keys(), changed.keys(), fresh, broken),
        )

    return dg.SensorDefinition(
        name="landing_sensor",
        evaluation_fn=tick,
        minimum_interval_seconds=interval_seconds,
        default_status=default_status,
        description=f"Reports days of the landing zone whose files were added, changed or removed as `{table}`.",
    )


def rescan_job(landing: Landing, *, table: str, days: dg.DailyPartitionsDefinition) -> dg.JobDefinition:
    """The job `landing_rescan`: every day of the landing zone, however old, compared with what was reported."""
    graph = _alone(table, days)

    @dg.op(name="look_at_every_day")
    def rescan(context: dg.OpExecutionContext) -> None:
        last = days.get_last_partition_key()
        history = days_between(days.start.date(), date.fromisoformat(last)) if last else []
        landed = sorted(set(history).intersection(landing.days() or ()))
        known = EventLog(context.instance, graph).records(table, history)
        # A server lists no days, so each of the history is asked for.
        every = sorted({*(days_between(landed[0], landed[-1]) if landed else history), *known})
        looks, broken = _looked_at(landing, every, {})
        again, still_broken = _looked_at(landing, looks.keys(), looks)  # what is being written is told by its change
        broken |= still_broken
        changed, newest = 0, max((day for day, look in again.items() if look.stamp), default=None)
        for day, look in again.items():
            # Between the first and the last day that landed, and wherever files were taken away, no file is no row.
            if not look.stamp and day not in known and (newest is None or day > newest):
                continue
            if not _is_steady(look, looks[day]):
                context.log.warning(f"{day}: still being written; the landing sensor, or the next rescan, takes it")
                continue
            fingerprint = look.fingerprint or landing.fingerprint(day, [])
            if day not in known or known[day].digest != fingerprint:
                changed += 1
                context.log_event(report(table, day, fingerprint))
        context.log.info(f"{len(every)} days looked at, {changed} changed")
        if broken:
            listed = "\n".join(f"  {day}: {error}" for day, error in broken.items())
            unseen = f" {len(every) - len(looks) - len(broken)} days" if len(looks) + len(broken) < len(every) else ""
            msg = f"{len(broken)} days could not be looked at{' and' + unseen + ' were not tried' if unseen else ''}"
            raise dg.Failure(f"{msg}; the others were:\n{listed}")

    @dg.job(name="landing_rescan", executor_def=dg.in_process_executor)
    def job() -> None:
        rescan()

    return job


def report(table: str, day: date, fingerprint: str) -> dg.AssetMaterialization:
    """Make the event that tells the event log of a day."""
    return dg.AssetMaterialization(key_of(table), partition=day.isoformat(), metadata={"digest": fingerprint})


def _read_hints(instance: dg.DagsterInstance, table: str, seen: LandingCursor) -> None:
    filtered = dg.AssetRecordsFilter(key_of(table), after_storage_id=seen.hints)
    for record in instance.fetch_materializations(filtered, limit=HINTS_PER_TICK, ascending=True).records:
        seen.hints = record.storage_id
        materialization = record.asset_materialization
        if materialization is None or "digest" in materialization.metadata:
            continue
        try:
            day = date.fromisoformat(materialization.partition or "")
        except ValueError:
            continue  # the report of a partition that cannot exist
        seen.asked.add(day)


def _alone(table: str, days: dg.DailyPartitionsDefinition) -> Graph:
    return Graph({table: Table(table, {})}, {table: (table,)}, frozenset({table}), {table: days.start.date()})


def _looked_at(
    landing: Landing, days: Iterable[date], before: Mapping[date, Look]
) -> tuple[dict[date, Look], dict[date, PipelineError]]:
    looks: dict[date, Look] = {}
    broken: dict[date, PipelineError] = {}
    for day in days:
        try:
            looks[day] = landing.look(day, before.get(day))
        except PipelineError as error:
            broken[day] = error
            if isinstance(error, LandingUnavailable):
                break  # a server that is down or busy is not asked for the other days as well
    return looks, broken


def _is_steady(look: Look, before: Look | None) -> bool:
    """Two looks in a row saw the same. No look before is one that saw nothing: those are not kept."""
    return look.settled and look.stamp == (before.stamp if before else "")


def _reason(
    looked: Collection[date], changed: Collection[date], fresh: Collection[date], broken: Collection[date]
) -> str:
    in_words = partial(days_in_words, at_most=DESCRIBED_RANGES)
    reason = f"{len(looked)} days looked at, " + (f"changed: {in_words(changed)}" if changed else "none changed")
    if fresh:
        reason += f"; being written, or seen for the first time: {in_words(fresh)}"
    if broken:
        reason += f"; cannot be read, see the log: {in_words(broken)}"
    return reason
