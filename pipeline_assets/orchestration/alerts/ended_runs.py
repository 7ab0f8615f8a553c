"""Which runs have ended, which are under way, and what was committed since: what `alerts` asks of the instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.orchestration.history.runs import IN_FLIGHT
from pipeline_assets.orchestration.history.tags import RETRIED_AS, WILL_RETRY

FIRST_LOOK_SECONDS = 600
"""How far back the first look goes: whoever switches alerts on does not want the past."""
OVERLAP_SECONDS = 60
"""Runs are looked for again this far back: a run's time is when its end was noted, not when others could see it."""
RUNS_PER_LOOK = 100
"""Each is read from a database of its own on SQLite, and the daemon gives up a tick after a minute."""
UNFINISHED_READ = 500
UNDECIDED_SECONDS = 30
"""Dagster says whether it will retry a run a moment after it says that the run failed; if not by then, it will not."""
RETRY_SECONDS = 3600
"""A run that Dagster promised to retry, and did not for so long, has failed for good."""
DAYS_PER_LOOK = 20
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


@dataclass(frozen=True, slots=True)
class SeenRuns:
    """Remembers which finished runs have been looked at.

    Args:
        since: the newest of them.
        known: those within the overlap, with the time of their end.
        to_be_retried: failed runs that Dagster promised to run again, with the time of their end.
    """

    since: datetime
    known: Mapping[str, datetime] = field(default_factory=dict)
    to_be_retried: Mapping[str, datetime] = field(default_factory=dict)

    @classmethod
    def first(cls, now: datetime) -> SeenRuns:
        """Begin, before anything was looked at."""
        return cls(now - timedelta(seconds=FIRST_LOOK_SECONDS - OVERLAP_SECONDS))


def finished_runs(
    instance: dg.DagsterInstance, looked_at: SeenRuns, *, now: datetime
) -> tuple[list[dg.RunRecord], SeenRuns]:
    """Runs that ended and have not been looked at, oldest first, without those that Dagster is going to retry."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=FINISHED, updated_after=looked_at.since - timedelta(seconds=OVERLAP_SECONDS)),
        limit=RUNS_PER_LOOK + len(looked_at.known),
        order_by="update_timestamp",
        ascending=True,
    )
    waiting = dict(looked_at.to_be_retried)
    known = dict(looked_at.known)
    ended: list[dg.RunRecord] = []
    for record in records:
        run = record.dagster_run
        if run.run_id in known or _is_undecided(record, instance, now):
            continue
        known[run.run_id] = record.update_timestamp
        if run.tags.get(WILL_RETRY) == "true":
            waiting[run.run_id] = record.update_timestamp
        else:
            ended.append(record)
    if waiting:
        promised = instance.get_run_records(dg.RunsFilter(run_ids=list(waiting)))
        waiting = {}  # those that were deleted are waited for no more
        for record in promised:
            run = record.dagster_run
            is_late = now - record.update_timestamp >= timedelta(seconds=RETRY_SECONDS)
            if run.status is not dg.DagsterRunStatus.FAILURE or RETRIED_AS in run.tags:
                continue
            if is_late or run.tags.get(WILL_RETRY) != "true":
                ended.append(record)
            else:
                waiting[run.run_id] = record.update_timestamp
    # A worker's clock that is ahead must not hide the runs of others.
    since = max([looked_at.since, *(at for at in known.values() if at <= now)])
    recent = {run_id: at for run_id, at in known.items() if at >= since - timedelta(seconds=OVERLAP_SECONDS)}
    return ended, SeenRuns(since, recent, waiting)


def busy_tables(instance: dg.DagsterInstance, tables: Sequence[dg.AssetKey]) -> set[str]:
    """Tables that have runs which are queued or under way."""
    busy: set[str] = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(IN_FLIGHT)), limit=UNFINISHED_READ):
        run = record.dagster_run
        keys = run.asset_selection or tables
        busy.update([run.job_name, *(key.to_user_string() for key in keys)])
    return busy


def committed_since(instance: dg.DagsterInstance, table: str, failed: Mapping[date, datetime]) -> dict[date, datetime]:
    """When days of a table were committed, of those that were after they failed; all looked at only if all were."""
    found: dict[date, datetime] = {}
    days = sorted(failed)
    for start in range(0, len(days), DAYS_PER_LOOK):
        some = days[start : start + DAYS_PER_LOOK]
        wanted = dg.AssetRecordsFilter(
            key_of(table),
            asset_partitions=[day.isoformat() for day in some],
            after_timestamp=min(failed[day] for day in some).timestamp(),
        )
        for record in instance.fetch_materializations(wanted, limit=10 * DAYS_PER_LOOK).records:
            if record.partition_key is not None:
                day, at = date.fromisoformat(record.partition_key), datetime.fromtimestamp(record.timestamp, UTC)
                found[day] = max(at, found.get(day, at))
        if any(day not in found or found[day] <= failed[day] for day in some):
            break
    return found


def _is_undecided(record: dg.RunRecord, instance: dg.DagsterInstance, now: datetime) -> bool:
    run = record.dagster_run
    return (
        run.status is dg.DagsterRunStatus.FAILURE
        and instance.run_retries_enabled
        and WILL_RETRY not in run.tags
        and now - record.update_timestamp < timedelta(seconds=UNDECIDED_SECONDS)
    )
