"""The IO manager: daily partitions as Parquet files of a store.

`daily_asset` writes through its store day by day. For plain `@dg.asset`s it takes the frame that they return and, for a
range, cuts it into days; it loads any daily partition for any asset, by annotation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from pydantic import Field

from pipeline_assets.errors import ContractBroken, PartitionMismatch, PartitionMissing, SettingsError
from pipeline_assets.orchestration.frames import FrameKind, frame_kind, is_stream, tables_of, to_pandas
from pipeline_assets.orchestration.record import Record
from pipeline_assets.orchestration.staging import StagedRows, located
from pipeline_assets.orchestration.upstream import Upstream
from pipeline_assets.rules.calendar import day_bounds, zone
from pipeline_assets.store import LocalStore, Partition
from pipeline_assets.store.parquet import read_batches, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_assets.store import Version

DAY_COLUMN_KEY = "day_column"
"""Asset metadata: the date or timestamp column by which the frame of a range is cut into days."""


class ParquetIOManager(dg.ConfigurableIOManager):
    """Daily partitions as `{root}/{table}/dt=YYYY-MM-DD/data.parquet`, overwritten atomically.

    A plain asset returns, for one day, a frame; for a range, a mapping of partition key to frame, or one frame whose
    column named by the asset's metadata `day_column` tells the days apart.
    An input annotated pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatchReader gets the rows of all its
    partitions, one after the other; annotated dict, a table by partition key.
    """

    root: str = Field(description="Folder of the lake.")
    history: int = Field(default=5, ge=0, description="Replaced commits that are kept per partition.")

    def store(self) -> LocalStore:
        """The store that the partitions are in."""
        return LocalStore(Path(self.root), history=self.history)

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish what a plain asset returned, day by day.

        Raises:
            dagster.Failure: days failed; the others are committed and recorded.
        """
        table, days, timezone = _daily(context)
        store = self.store()
        store.sweep(table)
        expected = {day: store.version(Partition(table, day)) for day in days}
        column = (context.definition_metadata or {}).get(DAY_COLUMN_KEY)
        failed: dict[date, Exception] = {}
        records: dict[date, Record] = {}
        for day, frame in _frames_by_day(obj, days, table, timezone, column).items():
            try:
                records[day] = _commit(store, Partition(table, day), frame, timezone, expected[day])
            except (ContractBroken, PartitionMismatch) as error:
                failed[day] = located(error, Partition(table, day))
        if not failed:
            for day, record in records.items():
                # No public way leads from an output context to one partition's metadata.
                context.step_context.add_asset_metadata(
                    metadata=record.metadata(), asset_key=context.asset_key, partition_key=day.isoformat()
                )
            return
        for day, record in records.items():
            # An event logged on the context is dropped when handle_output raises; this one is not.
            context.step_context.instance.report_runless_asset_event(
                dg.AssetMaterialization(context.asset_key, partition=day.isoformat(), metadata=record.metadata())
            )
        described = "\n".join(f"  {day}: {type(error).__name__}: {error}" for day, error in failed.items())
        raise dg.Failure(
            description=(
                f"{table}: {len(failed)} of {len(days)} days failed; {len(records)} were committed and recorded.\n"
                f"{described}"
            ),
            allow_retries=False,
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """Rows of the input's partitions in the annotated form.

        Raises:
            PartitionMissing: one of them has not been computed.
        """
        table = _table_name(context.asset_key)
        annotation = context.dagster_type.typing_type
        if annotation is Upstream:
            return Upstream(self.store(), table)
        if not context.has_asset_partitions:
            msg = f"input {context.name}: {table} has no daily partitions, so this IO manager cannot hold it"
            raise SettingsError(msg)
        tables: dict[str, Any] = {}
        kind = frame_kind(annotation)
        for key in context.asset_partition_keys:
            pinned = self.store().open(Partition(table, _day(key, table)))
            if pinned is None:
                msg = f"{table}/dt={key} has not been computed; materialize {table} for {key} first"
                raise PartitionMissing(msg)
            tables[key] = read_batches(pinned.file) if kind is FrameKind.READER else read_table(pinned.file)
        if getattr(annotation, "__origin__", annotation) in {dict, Mapping}:
            return tables
        if kind is FrameKind.READER:
            readers = list(tables.values())
            return pa.RecordBatchReader.from_batches(
                readers[0].schema, (batch for reader in readers for batch in reader)
            )
        joined = pa.concat_tables(tables.values(), promote_options="default")
        return to_pandas(joined) if kind is FrameKind.DATAFRAME else joined


def _commit(store: LocalStore, partition: Partition, frame: object, timezone: str, expected: Version | None) -> Record:
    started = time.monotonic()
    with ExitStack() as stack:
        rows = StagedRows(stack.enter_context(store.stage(partition)), None, timezone)
        stack.callback(rows.abandon)
        rows.write(frame)
        rows.close()
        published = store.publish(rows.staged, expected=expected)
    return Record(published, rows.rows, rows.schema, rows.preview, time.monotonic() - started)


def _daily(context: dg.OutputContext) -> tuple[str, list[date], str]:
    table = _table_name(context.asset_key)
    if not context.has_asset_partitions:
        msg = (
            f"{table} has no partitions. This IO manager keeps one file per day: give the asset a "
            "DailyPartitionsDefinition, or another io_manager_key."
        )
        raise SettingsError(msg)
    timezone = getattr(context.asset_partitions_def, "timezone", "UTC")
    return table, [_day(key, table) for key in context.asset_partition_keys], timezone


def _table_name(key: dg.AssetKey) -> str:
    return "/".join(key.path)


def _day(key: str, table: str) -> date:
    try:
        return date.fromisoformat(key)
    except ValueError as error:
        msg = (
            f"{table} has the partition {key!r}, which is not a day. This IO manager keeps one file per day: give "
            "the asset a DailyPartitionsDefinition, or another io_manager_key."
        )
        raise SettingsError(msg) from error


def _frames_by_day(
    obj: object, days: Sequence[date], table: str, timezone: str, column: str | None
) -> dict[date, object]:
    if isinstance(obj, Mapping):
        frames = {_day(key, table): frame for key, frame in obj.items()}
        if set(frames) != set(days):
            msg = (
                f"{table}: the run is for {_span(days)}, the mapping holds {_span(sorted(frames)) or 'nothing'}; "
                "return a frame for every day, an empty one for a day without rows"
            )
            raise PartitionMismatch(msg)
        return frames
    if column is None:
        if len(days) == 1:
            return {days[0]: obj}
        msg = (
            f"{table}: one frame was returned for {len(days)} days ({_span(days)}) and nothing says which row "
            f"belongs to which. Set metadata={{'{DAY_COLUMN_KEY}': '<date or timestamp column>'}} on the asset, return "
            "a mapping of partition key to frame, or make it a daily_asset."
        )
        raise PartitionMismatch(msg)
    if is_stream(obj) and len(days) > 1:
        msg = f"{table}: a RecordBatchReader cannot be cut into {len(days)} days; return a mapping, or run day by day"
        raise PartitionMismatch(msg)
    return _cut(pa.concat_tables(tables_of(obj)), days, table, timezone, column)


def _cut(rows: pa.Table, days: Sequence[date], table: str, timezone: str, column: str) -> dict[date, object]:
    if column not in rows.column_names:
        msg = f"{table}: the frame has no column {column!r} (metadata {DAY_COLUMN_KEY}); it has {rows.column_names}"
        raise PartitionMismatch(msg)
    values = rows[column]
    frames: dict[date, object] = {}
    taken = 0
    for day in days:
        if pt.is_timestamp(values.type):
            start, end = day_bounds(day, timezone)
            if values.type.tz is None:  # a naive time is read as the partition's own zone
                start, end = (bound.astimezone(zone(timezone)).replace(tzinfo=None) for bound in (start, end))
            inside = pc.and_(
                pc.greater_equal(values, pa.scalar(start).cast(values.type)),
                pc.less(values, pa.scalar(end).cast(values.type)),
            )
        elif pt.is_date(values.type):
            inside = pc.equal(values, pa.scalar(day).cast(values.type))
        else:
            inside = pc.equal(values.cast(pa.string()), day.isoformat())
        part = rows.filter(inside)
        taken += part.num_rows
        frames[day] = part
    if taken != rows.num_rows:
        msg = (
            f"{table}: {rows.num_rows - taken} of {rows.num_rows} rows have a {column} outside {_span(days)} "
            f"({timezone}). A write may touch only its own partitions; nothing was published."
        )
        raise PartitionMismatch(msg)
    return frames


def _span(days: Sequence[date]) -> str:
    if not days:
        return ""
    return f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
