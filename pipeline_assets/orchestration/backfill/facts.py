"""What a plan is made from: the heads in the store, their records, the files that landed.

Everything is looked up once, for whole tables: a plan of ten years asks for no partition by itself. Heads come before
records. What somebody commits in between is then a head that has moved since, and not one that was planned with.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.failures import failed_runs
from pipeline_assets.orchestration.history.graph import daily_graph, key_of, last_days
from pipeline_assets.orchestration.history.materializations import run_starts
from pipeline_assets.orchestration.history.records import Records
from pipeline_assets.orchestration.history.runs import is_retried_by_dagster
from pipeline_assets.partition import Partition, days_between
from pipeline_assets.record import Record
from pipeline_assets.rules.backfill import Facts
from pipeline_assets.rules.graph import Graph
from pipeline_assets.store import Head, Store
from pipeline_assets.store.landing import Landing, LastChange

Days = dict[date, Record]
Heads = Mapping[date, Head]


def facts_of(
    instance: dg.DagsterInstance,
    assets: Any,
    store: Store,
    landing: Mapping[str, Landing],
    *,
    check_bytes_of: Collection[Partition] = (),
) -> Facts:
    """Look up what there is.

    Args:
        assets: Dagster's asset graph: `Definitions.resolve_asset_graph()`, or `repository_def.asset_graph`.
        landing: landing zones by the source tables that stand for them.
        check_bytes_of: partitions, by leading tables, whose heads are read and compared with their records; of others
            versions are.

    Raises:
        LandingError: the landing zone cannot be read as what it claims to be.
    """
    graph = daily_graph(assets)
    lookup, over = Records(EventLog(instance, graph), store), last_days(assets)
    computed = [table for table in graph.tables if table not in graph.sources]
    heads: dict[str, Heads] = {}
    records: dict[str, Days] = {}
    for table in computed:
        heads[table], records[table], _ = lookup.of_table(table)
    for table in graph.sources:
        source = SourceFacts(
            table, graph, lookup.event_log, days_between(graph.first_days[table], over[table]), heads, records
        )
        records[table] = source.made_by(landing.get(table))
    for table in computed:
        records[table] |= lookup.records(table, _in_doubt(graph, table, records, instance))
        read = {day for lead, day in check_bytes_of if table in graph.steps[lead] and day in heads[table]}
        records[table] |= lookup.read(table, read)
    leads = dict.fromkeys(map(graph.lead, computed))
    return Facts(
        heads={table: _tokens(heads[table], records[table]) for table in computed},
        records=records,
        failed=failed_partitions(instance, graph, records),
        unrecorded=lookup.unrecorded,
        code_versions={lead: version for lead in leads if (version := assets.get(key_of(lead)).code_version)},
        last_days=over,
    )


def failed_partitions(
    instance: dg.DagsterInstance, graph: Graph, records: Mapping[str, Mapping[date, Record]]
) -> set[Partition]:
    """Partitions that a run failed of, and that nobody has made since it began, by leading tables.

    A run that Dagster starts again has not failed yet. One whose worker died, or that was told to stop, did not fail of
    anything.

    Args:
        records: newest ones, of the tables that are asked about.
    """
    failed: set[Partition] = set()

    def is_left(partition: Partition, began_at: datetime) -> bool:
        if partition in failed or partition.table not in records:
            return False
        newest = records[partition.table].get(partition.day)
        return newest is None or newest.recorded_at <= began_at

    for each in failed_runs(instance, graph, is_left):
        if not is_retried_by_dagster(each.run):
            failed |= {partition for partition, failures in each.failures.items() if failures}
    return failed


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is there now of a table that nothing here computes.

    Args:
        days: of its history, those that are over.
        stats, made: of the tables that read it.
    """

    table: str
    graph: Graph
    event_log: EventLog
    days: list[date]
    stats: Mapping[str, Heads]
    records: Mapping[str, Days]

    def made_by(self, landing: Landing | None) -> Days:
        """Each day that is there, as if it had been made."""
        reported = self.event_log.all_records(self.table)
        if landing is None:
            return reported
        listed = landing.days()
        if listed is None:  # asking for every day takes too long: who reads a day will see
            return {day: reported.get(day, Record()) for day in self.days}
        return self._landed(landing, set(listed), reported)

    def _landed(self, zone: Landing, listed: Collection[date], reported: Days) -> Days:
        """Files are read where they changed since somebody read them.

        As the landing sensor has it, a day without files is one without rows if it is known, or a later one has landed.
        """
        leads = [lead for lead, _ in self.graph.readers(self.table)]
        read = {day: readers for day in self.days if (readers := list(self._readers(leads, day)))}
        starts = run_starts(self.event_log.instance, {record.run_id for each in read.values() for _, record in each})
        found, empty = dict[date, Record](), list[date]()
        for day in self.days:
            changed = zone.last_change(day) if day in listed else None
            if changed is None:
                empty.append(day)
                continue
            nothing = zone.fingerprint(day, [])
            digest = self._digest_since(changed, day, read.get(day, ()), starts)
            if digest in (None, nothing):
                look = zone.look(day)
                digest = look.fingerprint
                if not look.stamp:
                    empty.append(day)
            if digest is not None:
                found[day] = _as_reported(reported.get(day), digest, changed)
        newest = max(found, default=date.min)
        for day in empty:
            if day < newest or day in reported or day in read:
                found[day] = _as_reported(reported.get(day), zone.fingerprint(day, []), None)
        return found

    def _readers(self, leads: Collection[str], day: date) -> Iterator[tuple[Head | None, Record]]:
        """Heads and records of that day that tell by which digest they read the source."""
        for lead in leads:
            record = self.records.get(lead, {}).get(day)
            if record is not None and day in record.inputs.get(self.table, {}):
                yield self.stats[lead].get(day), record

    def _digest_since(
        self,
        changed: LastChange,
        day: date,
        readers: Collection[tuple[Head | None, Record]],
        starts: Mapping[str, float],
    ) -> str | None:
        """The digest by which somebody read the day after it had changed for the last time; None if nobody did.

        The reading began neither before the run did, nor before the head's own: a record may be another run's that is
        recorded again.
        """
        for head, record in readers:
            if head is None:
                continue
            began, start = record.began_at, starts.get(record.run_id)
            if began >= record.recorded_at:  # a copy, which does not tell it
                if start is None or record.seconds is None:
                    continue
                began = min(datetime.fromtimestamp(start, UTC), head.published_at - timedelta(seconds=record.seconds))
            if changed.is_before(began):
                return record.inputs[self.table][day]
        return None


def _in_doubt(graph: Graph, table: str, records: Mapping[str, Days], instance: dg.DagsterInstance) -> list[date]:
    """Days of which it matters when their step began.

    The copy of their record does not tell all inputs, and one of the others was recorded by another run while theirs
    went on. That is rare, and a look into the lake, or the log of a run, takes some milliseconds.
    """
    reads = [(name, window) for name, window in graph.reads(graph.lead(table)) if name in records]
    untold = {
        day: others
        for day, record in records[table].items()
        if record.run_id and (others := [each for each in reads if each[0] not in record.inputs])
    }
    starts = run_starts(instance, {records[table][day].run_id for day in untold})
    return [
        day
        for day, others in untold.items()
        if any(
            upstream.run_id != records[table][day].run_id
            and starts.get(records[table][day].run_id, 0.0) < upstream.recorded_at.timestamp()
            and upstream.recorded_at <= records[table][day].recorded_at
            for name, window in others
            for each in window.upstream_of(day)
            if (upstream := records[name].get(each)) is not None
        )
    ]


def _tokens(heads: Heads, records: Days) -> dict[date, str]:
    """Of a table that is kept elsewhere, by another IO manager, the records tell what there is."""
    if not heads:
        return {day: record.digest or f"record {record.event_id}" for day, record in records.items()}
    return {day: head.version for day, head in heads.items()}


def _as_reported(report: Record | None, digest: str, changed: LastChange | None) -> Record:
    """A report of the same content says better since when it is there than the files do."""
    if report is not None and report.digest == digest:
        return report
    return Record(digest=digest) if changed is None else Record(digest=digest, recorded_at=changed.at)
