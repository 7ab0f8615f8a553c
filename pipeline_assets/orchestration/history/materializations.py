"""Materializations as they are stored: of each what a record needs, and no more.

Dagster builds some fifty objects of one event, in 0.2 to 0.5 ms; ten years of eight tables are 29,200 events. A storage
in SQL is asked for the rows themselves instead, a page at a time, and their JSON is read, in 0.03 ms. Another storage,
a table that was wiped, and an event that does not look as expected are read through the instance's own methods.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from pydantic_core import from_json

if TYPE_CHECKING:  # whoever only loads the definitions is spared SQLAlchemy
    from pipeline_assets.orchestration.history.sql_rows import Connect, Rows

PAGE = 500
"""Events of some 5 kB; and SQLite takes some thousand values in one statement."""
CODE_VERSION_TAG = "dagster/code_version"
ROWS, BYTES = "dagster/row_count", "bytes"
COMMIT: Final = "commit"
NAMES: Final = frozenset({"digest", "inputs", "unchanged", "code_version", "seconds", COMMIT, ROWS, BYTES})
"""Metadata that is read; see `Record`."""

_MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
_VALUES = {
    "TextMetadataEntryData": "text",
    "IntMetadataEntryData": "value",
    "FloatMetadataEntryData": "value",
    "BoolMetadataEntryData": "value",
    "JsonMetadataEntryData": "data",
}
"""Where Dagster's JSON keeps a value, for the kinds that our records have."""


@dataclass(frozen=True, slots=True)
class LoggedMaterialization:
    """A materialization as the event log has it.

    Args:
        run_id: empty if no run made it.
        timestamp: seconds since 1970.
        metadata: values by name, those of `NAMES`.
        code_version: as Dagster tagged it; None if the asset has none.
    """

    storage_id: int
    partition: str | None
    run_id: str
    step_key: str | None
    timestamp: float
    metadata: Mapping[str, Any]
    code_version: str | None


def newest(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[LoggedMaterialization]:
    """The newest materialization of every partition that has one, in no order."""
    from pipeline_assets.orchestration.history import sql_rows

    connect = _connect(instance)
    if connect is None or sql_rows.was_wiped(connect, key):
        yield from with_ids(instance, key, instance.get_latest_storage_id_by_partition(key, _MATERIALIZATION).values())
        return
    after = ""
    while True:
        rows = sql_rows.newest_materializations(connect, key, after=after, limit=PAGE)
        if not rows:
            return
        yield from _read(instance, key, rows)
        after = max(row.partition for row in rows)


def newest_records(
    instance: dg.DagsterInstance, key: dg.AssetKey, days: Collection[date]
) -> Iterator[tuple[date, dg.EventLogRecord]]:
    """The newest of each of the days that has one, as Dagster gives it."""
    newest_ids = instance.get_latest_storage_id_by_partition(key, _MATERIALIZATION, {str(day) for day in days})
    days_of = {storage_id: date.fromisoformat(partition) for partition, storage_id in newest_ids.items()}
    for start in range(0, len(ids := list(days_of)), PAGE):
        page = dg.AssetRecordsFilter(key, storage_ids=ids[start : start + PAGE])
        for record in instance.fetch_materializations(page, limit=PAGE).records:
            yield days_of[record.storage_id], record


def with_ids(
    instance: dg.DagsterInstance, key: dg.AssetKey, storage_ids: Collection[int]
) -> Iterator[LoggedMaterialization]:
    """Give those of an asset's materializations that are there, in no order."""
    from pipeline_assets.orchestration.history import sql_rows

    connect = _connect(instance)
    for start in range(0, len(ids := list(storage_ids)), PAGE):
        page = ids[start : start + PAGE]
        if connect is None:
            yield from _through_dagster(instance, key, page)
        else:
            yield from _read(instance, key, sql_rows.events(connect, page))


def run_starts(instance: dg.DagsterInstance, run_ids: Collection[str]) -> dict[str, float]:
    """Say when runs were started, in seconds since 1970; those that are known and were."""
    from pipeline_assets.orchestration.history import sql_rows

    # As `_connect`.
    connect: Connect | None = getattr(instance.run_storage, "connect", None)
    found: dict[str, float | None] = {}
    for start in range(0, len(ids := list(run_ids)), PAGE):
        page = ids[start : start + PAGE]
        if connect is None:
            records = instance.get_run_records(dg.RunsFilter(run_ids=page))
            found |= {each.dagster_run.run_id: each.start_time for each in records}
        else:
            found |= {row.run_id: row.start_time for row in sql_rows.runs(connect, page)}
    return {run_id: seconds for run_id, seconds in found.items() if seconds is not None}


def of_record(record: dg.EventLogRecord) -> LoggedMaterialization:
    """Take a materialization from a record that Dagster gave."""
    made = record.asset_materialization
    metadata, tags = (made.metadata, made.tags or {}) if made else ({}, {})
    return LoggedMaterialization(
        record.storage_id,
        made.partition if made else None,
        record.run_id,
        record.event_log_entry.step_key,
        record.timestamp,
        {name: metadata[name].value for name in NAMES if name in metadata},
        _code_version(tags, record.run_id),
    )


def _connect(instance: dg.DagsterInstance) -> "Connect | None":
    # Without underscore, though no part of the documented API: the way to the rows of every storage in SQL.
    connect: Connect | None = getattr(instance.event_log_storage, "index_connection", None)
    return connect


def _read(instance: dg.DagsterInstance, key: dg.AssetKey, rows: "Rows") -> Iterator[LoggedMaterialization]:
    strange = []
    for storage_id, event, _ in rows:
        try:
            yield _of_json(storage_id, event)
        except (ValueError, LookupError, TypeError):
            strange.append(storage_id)
    if strange:
        yield from _through_dagster(instance, key, strange)


def _of_json(storage_id: int, event: str) -> LoggedMaterialization:
    entry = from_json(event)
    made = entry["dagster_event"]["event_specific_data"]["materialization"]
    metadata = {}
    for each in made["metadata_entries"]:
        if (name := each["label"]) in NAMES:
            value = each["entry_data"]
            metadata[name] = value[_VALUES[value["__class__"]]]
    return LoggedMaterialization(
        storage_id,
        made["partition"],
        entry["run_id"],
        entry["step_key"],
        entry["timestamp"],
        metadata,
        _code_version(made["tags"] or {}, entry["run_id"]),
    )


def _through_dagster(
    instance: dg.DagsterInstance, key: dg.AssetKey, ids: Sequence[int]
) -> Iterator[LoggedMaterialization]:
    filtered = dg.AssetRecordsFilter(key, storage_ids=list(ids))
    yield from map(of_record, instance.fetch_materializations(filtered, limit=len(ids)).records)


def _code_version(tags: Mapping[str, str], run_id: str) -> str | None:
    """Dagster puts the run's id where an asset has no code version."""
    version = tags.get(CODE_VERSION_TAG)
    return None if version == run_id else version
