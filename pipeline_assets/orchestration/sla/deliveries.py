"""When partitions came and what runs were asked for them, from lake, event log and run storage: deliveries.

No query reads a history: events are asked for by partition, runs by the tags of the partitions that were missed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from pipeline_assets.errors import DefinitionError
from pipeline_assets.orchestration.asset.due import due_of
from pipeline_assets.orchestration.history.graph import is_daily
from pipeline_assets.orchestration.history.runs import FAILED
from pipeline_assets.orchestration.history.tags import PARTITION, RANGE_END, RANGE_START, span_of_tags
from pipeline_assets.partition import Partition, days_between, ranges_of
from pipeline_assets.record import NEVER
from pipeline_assets.rules.calendar import day_bounds
from pipeline_assets.rules.delivery import (
    FirstCommit,
    RunAttempt,
    Timeline,
    day_counts,
    delivery_of,
    status_of,
    usual_seconds,
)
from pipeline_assets.rules.due import Due
from pipeline_assets.rules.sla import Delivery, DeliveryStatus
from pipeline_assets.store import Store

DAYS_AT_ONCE = 90
"""Partitions per query of the event log, which returns a thousand events at most."""
RUNS_AT_MOST = 1000
"""Runs that are looked at to explain a stretch of missed days; the newest ones, should there be more."""
USUAL_DAYS = 14
"""How far back the days lie that tell what is usual."""
_ONE_DAY, _ONE_SECOND = timedelta(days=1), timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class DueTable:
    """An asset that has a due.

    Args:
        name: its key joined by "/".
        inputs: daily assets that it is made from.
    """

    name: str
    key: dg.AssetKey
    due: Due
    owners: tuple[str, ...]
    partitions: dg.TimeWindowPartitionsDefinition
    inputs: tuple[dg.AssetKey, ...]


def due_tables(watched: dg.Definitions) -> list[DueTable]:
    """Every asset with a due, upstream first.

    Raises:
        DagsterInvalidDefinitionError: its partitions are not days.
    """
    assets = watched.resolve_asset_graph()
    tables = []
    for key in (key for level in assets.toposorted_asset_keys_by_level for key in sorted(level)):
        node = assets.get(key)
        due = due_of(node.metadata)
        if due is None:
            continue
        partitions = node.partitions_def
        if not isinstance(partitions, dg.TimeWindowPartitionsDefinition) or not is_daily(partitions):
            raise dg.DagsterInvalidDefinitionError(
                f"{key.to_user_string()} has a due, {due.words}, but no partitions of days that it could be about."
            )
        inputs = sorted(each for each in node.parent_keys if is_daily(assets.get(each).partitions_def))
        owners = tuple(node.owners)
        tables.append(DueTable(key.to_user_string(), key, due, owners, partitions, tuple(inputs)))
    return tables


@dataclass(slots=True)
class DeliveryFacts:
    """What an instance and a lake know, at one moment; asked at most once.

    Args:
        store: of the tables; None if they are kept elsewhere. Its records outlive the runs that Dagster deletes.
    """

    instance: dg.DagsterInstance
    now: datetime
    store: Store | None = None
    _commits: dict[dg.AssetKey, dict[date, FirstCommit | None]] = field(default_factory=dict)
    _runs: dict[tuple[date, date, datetime, datetime], list[dg.RunRecord]] = field(default_factory=dict)
    _ranges: dict[str, set[str]] | None = None

    def deliveries(
        self, table: DueTable, first: date, last: date, known_since: datetime | None, *, skip: Collection[date] = ()
    ) -> list[Delivery]:
        """Deliveries of the days that count from `first` to `last`, except those in `skip`."""
        days = [day for day in due_days(table, first, last, known_since) if day not in skip]
        commits = self.commits(table.key, days)
        missed = [
            day
            for day in days
            if status_of(table.due, day, commits.get(day), self.now) in (DeliveryStatus.LATE, DeliveryStatus.MISSING)
        ]
        timelines = self._timelines(table, missed, commits) if missed else {}
        # What is usual is not known from the missed days alone.
        others = self.commits(table.key, days_between(last - USUAL_DAYS * _ONE_DAY, last)) if missed else {}
        return [
            delivery_of(
                table.name,
                table.due,
                day,
                commits.get(day),
                timelines.get(day, Timeline()),
                now=self.now,
                usual_seconds=usual_seconds({**others, **commits}, apart_from=day) if day in timelines else None,
            )
            for day in days
        ]

    def first_heard_of(self, table: DueTable) -> datetime | None:
        """Say when a table was first materialized."""
        records = self.instance.fetch_materializations(table.key, limit=1, ascending=True).records
        return _utc(records[0].timestamp) if records else None

    def commits(self, key: dg.AssetKey, days: Sequence[date]) -> dict[date, FirstCommit]:
        """Find the first commit of each day that has one."""
        known = self._commits.setdefault(key, {})
        unknown = [day for day in days if day not in known]
        known.update(dict.fromkeys(unknown))
        for start in range(0, len(unknown), DAYS_AT_ONCE):
            known.update(self._first_commits(key, unknown[start : start + DAYS_AT_ONCE]))
        for day in unknown:
            known[day] = self._recorded(Partition(key.to_user_string(), day), known[day])
        return {day: commit for day in days if (commit := known[day]) is not None}

    def _first_commits(self, key: dg.AssetKey, days: Sequence[date]) -> Iterator[tuple[date, FirstCommit]]:
        wanted, limit = {day.isoformat() for day in days}, len(days) + 10
        while wanted:
            filtered = dg.AssetRecordsFilter(key, asset_partitions=sorted(wanted))
            records = self.instance.fetch_materializations(filtered, limit=limit, ascending=True).records
            for record in records:
                if record.partition_key in wanted:
                    wanted.remove(record.partition_key)
                    yield date.fromisoformat(record.partition_key), _commit(record)
            # A full page may be one partition's many commits; the others' first ones come after it.
            if len(records) < limit:
                return

    def _recorded(self, partition: Partition, logged: FirstCommit | None) -> FirstCommit | None:
        """The first commit as the lake has it, if that was before the first one that the event log has still."""
        head = None
        with suppress(DefinitionError):  # an asset of a name that the store does not take is kept elsewhere
            head = self.store.head(partition) if self.store is not None else None
        record = None if head is None else head.record
        if record is None or record.first_at == NEVER or (logged is not None and logged.at <= record.first_at):
            return logged
        if logged is not None:
            return replace(logged, at=record.first_at)
        is_first = record.first_at == record.recorded_at
        return FirstCommit(record.first_at, record.seconds if is_first else None, record.run_id if is_first else None)

    def _timelines(
        self, table: DueTable, missed: Sequence[date], commits: Mapping[date, FirstCommit]
    ) -> dict[date, Timeline]:
        arrivals = {each.to_user_string(): self.commits(each, missed) for each in table.inputs}
        run_ids = [commit.run_id for day in missed if (commit := commits.get(day)) and commit.run_id]
        made = self.instance.get_run_records(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
        made_by = {each.dagster_run.run_id: each for each in made}
        timelines = {}
        for first, last in ranges_of(missed):
            days = days_between(first, last)
            until = max(commit.at if (commit := commits.get(day)) else self.now for day in days)
            runs = self._runs_for(first, last, day_bounds(first, table.due.timezone or "UTC")[0], until)
            for day in days:
                asked = {each.dagster_run.run_id: each for each in runs if self._asks_for(each, table.key, day)}
                if (commit := commits.get(day)) and commit.run_id in made_by:
                    asked[commit.run_id] = made_by[commit.run_id]
                timelines[day] = Timeline(
                    inputs={name: came.at if (came := there.get(day)) else None for name, there in arrivals.items()},
                    attempts=[_attempt(each) for each in asked.values()],
                )
        return timelines

    def _runs_for(self, first: date, last: date, since: datetime, until: datetime) -> list[dg.RunRecord]:
        """Runs of whatever assets that were asked for one of the days, in that time."""
        if (first, last, since, until) not in self._runs:
            if self._ranges is None:
                self._ranges = dict(self.instance.get_run_tags(tag_keys=[RANGE_START, RANGE_END]))
            starts = [each for each in self._ranges.get(RANGE_START, ()) if each <= last.isoformat()]
            ends = [each for each in self._ranges.get(RANGE_END, ()) if each >= first.isoformat()]
            wanted: list[dict[str, list[str]]] = [{PARTITION: [day.isoformat() for day in days_between(first, last)]}]
            if starts and ends:
                wanted.append({RANGE_START: starts, RANGE_END: ends})
            self._runs[first, last, since, until] = [
                record
                for tags in wanted
                for record in self.instance.get_run_records(
                    dg.RunsFilter(tags=tags, created_after=since, created_before=until + _ONE_SECOND),
                    limit=RUNS_AT_MOST,
                )
            ]
        return self._runs[first, last, since, until]

    def _asks_for(self, record: dg.RunRecord, key: dg.AssetKey, day: date) -> bool:
        run = record.dagster_run
        span = span_of_tags(run.tags)
        if span is None or not span[0] <= day <= span[1]:
            return False
        if run.asset_selection is not None:
            return key in run.asset_selection
        return key in self.instance.get_asset_keys_for_run(run.run_id)  # all assets of a job


def due_days(table: DueTable, first: date, last: date, known_since: datetime | None) -> list[date]:
    """Days of the table's history that are due, and whose deadline came after the table was first heard of."""
    partitions = table.partitions
    begins = max(first, partitions.start.date())
    ends = last if partitions.end is None else min(last, partitions.end.date() - _ONE_DAY)
    days = [day for day in table.due.days_due(begins, ends) if day_counts(table.due, day, known_since)]
    if partitions.exclusions:
        return [day for day in days if partitions.has_partition_key(day.isoformat())]
    return days


def _commit(record: dg.EventLogRecord) -> FirstCommit:
    made = record.asset_materialization
    seconds = made.metadata.get("seconds") if made else None
    value = seconds.value if seconds else None
    return FirstCommit(_utc(record.timestamp), value if isinstance(value, float) else None, record.run_id or None)


def _attempt(record: dg.RunRecord) -> RunAttempt:
    run = record.dagster_run
    return RunAttempt(
        run.run_id,
        requested=record.create_timestamp.astimezone(UTC),
        started=None if record.start_time is None else _utc(record.start_time),
        ended=None if record.end_time is None else _utc(record.end_time),
        failed=run.status in FAILED,
    )


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
