"""Whether lake and event log fit together: every head, record and copy against the others."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.backfill.current_work import partitions_under_way
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.graph import daily_graph, key_of
from pipeline_assets.orchestration.history.records import Records, TableRecords
from pipeline_assets.orchestration.partition.materialization import metadata_of
from pipeline_assets.partition import Partition
from pipeline_assets.rules.staleness import is_torn
from pipeline_assets.store import Flaw, FlawKind, Store

RENEWED = "The lake's record, which the event log did not have"


def flaws_of(instance: dg.DagsterInstance, assets: Any, store: Store, *, read: bool, mend: bool) -> Iterator[Flaw]:
    """What does not fit together; but for partitions that somebody is making, whose copies come at the end of a run.

    Args:
        assets: Dagster's asset graph.
        read: all files of the lake, to compare their bytes with the records.
        mend: what can be without computing anything; the others are in the next plan.
    """
    lookup = Records(EventLog(instance, daily_graph(assets)), store)
    graph = lookup.event_log.graph
    busy = partitions_under_way(instance, graph, assets)
    gone = set[Partition]()
    for table in store.tables():
        for flaw in store.flaws(table, read=read, mend=mend):
            if flaw.kind is FlawKind.GONE:
                gone.add(flaw.partition)
            yield _told_by_log(lookup, flaw, mend=mend) if flaw.kind is FlawKind.UNRECORDED else flaw
    for lead in graph.leads():
        if lead in graph.sources:
            continue
        tables = {table: lookup.of_table(table) for table in graph.steps[lead]}
        found = [*_torn(lead, tables)]
        for table, there in tables.items():
            found += _flaws_of_log(lookup, table, there)
        for flaw in found:
            if Partition(lead, flaw.partition.day) not in busy and flaw.partition not in gone:
                is_mended = mend and flaw.kind is FlawKind.LOG and _renew(lookup, flaw.partition)
                yield flaw._replace(is_mended=is_mended)


def _told_by_log(lookup: Records, flaw: Flaw, *, mend: bool) -> Flaw:
    """The flaw; a smaller one if the event log knows how these bytes were made, as it does of lakes of before."""
    table, day = flaw.partition
    if table not in lookup.event_log.graph.tables:
        return flaw
    record = lookup.records(table, [day]).get(day)
    if record is None or flaw.partition in lookup.unrecorded:
        return flaw
    told = "only the event log knows how it was made"
    return Flaw(FlawKind.RECORD, flaw.partition, told, mend and lookup.store.adopt(flaw.partition, record))


def _flaws_of_log(lookup: Records, table: str, there: TableRecords) -> Iterator[Flaw]:
    for day, head in there.heads.items():
        partition, copy = Partition(table, day), there.copies.get(day)
        if partition not in lookup.unrecorded and (copy is None or not head.is_told_by(copy)):
            told = f"the event log has {'no' if copy is None else 'an older'} copy of its record"
            yield Flaw(FlawKind.LOG, partition, told)
    for day, copy in there.copies.items():
        if copy.version is not None and day not in there.heads:
            yield Flaw(FlawKind.GONE, Partition(table, day), "the event log tells of a commit that is not in the lake")


def _torn(lead: str, tables: Mapping[str, TableRecords]) -> Iterator[Flaw]:
    made = [there.records for there in tables.values()]
    for day in sorted(set().union(*made)):
        if is_torn(each[day] for each in made if day in each):
            yield Flaw(FlawKind.TORN, Partition(lead, day), f"{', '.join(tables)} are of different steps")


def _renew(lookup: Records, partition: Partition) -> bool:
    """Give the event log a copy of the record that the lake has."""
    head = lookup.store.head(partition)
    if head is None or head.record is None:
        return False
    lookup.event_log.instance.report_runless_asset_event(
        dg.AssetMaterialization(
            key_of(partition.table), partition=str(partition.day), description=RENEWED, metadata=metadata_of(head)
        )
    )
    return True
