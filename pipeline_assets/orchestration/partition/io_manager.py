"""The IO manager: daily partitions as Parquet files of a store.

`daily_asset` writes through its store day by day. For plain `@dg.asset`s it takes the frame that they return and, for a
range, cuts it into days (`cut`); it loads any daily partition for any asset, by annotation.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, get_args

import dagster as dg
import pyarrow as pa
from pydantic import Field

from pipeline_assets.errors import ContractBroken, DefinitionError, PartitionMismatch, PartitionMissing
from pipeline_assets.orchestration.history.event_log import step_starts
from pipeline_assets.orchestration.history.graph import described, is_daily
from pipeline_assets.orchestration.partition.cut import DAY_COLUMN_KEY, frames_by_day
from pipeline_assets.orchestration.partition.frames import FrameKind, frame_kind, to_pandas
from pipeline_assets.orchestration.partition.materialization import Materialization
from pipeline_assets.orchestration.partition.outcome import Outcome
from pipeline_assets.orchestration.partition.staging import StagedRows, located
from pipeline_assets.orchestration.partition.table_keys import key_in
from pipeline_assets.orchestration.partition.upstream import Upstream, common_schema, conformed
from pipeline_assets.orchestration.retry.layers import classified
from pipeline_assets.orchestration.retry.step import RetryRules, step_of
from pipeline_assets.partition import Partition, days_in_words
from pipeline_assets.record import Record
from pipeline_assets.store import Seen, Store, open_store
from pipeline_assets.store.parquet import read_batches, read_table, undamaged, undamaged_batches

LISTED_STRETCHES = 10


class ParquetIOManager(dg.ConfigurableIOManager):
    """Daily partitions as `{root}/{table}/dt=YYYY-MM-DD/data.parquet`, overwritten atomically.

    A plain asset returns, for one day, a frame; for a range, a mapping of partition key to frame, or one frame whose
    column named by the asset's metadata `day_column` tells the days apart.
    An input annotated pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatchReader gets the rows of all its
    partitions, one after the other; annotated dict[str, <one of these>], a frame by partition key.
    """

    root: str = Field(description="Folder of the lake, or memory://name for tests.")
    history: int = Field(default=5, ge=0, description="Replaced commits that are kept per partition.")

    def store(self) -> Store:
        """The store that the partitions are in."""
        return open_store(self.root, history=self.history)

    def retrying(self) -> RetryRules:
        """Give the rules by which failures of assets that write through this manager get their verdicts."""
        return RetryRules()

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish what a plain asset returned, day by day.

        Raises:
            dagster.Failure: days failed; the others are committed and recorded.
            dagster.RetryRequested: all that failed may pass soon.
        """
        with classified(context, self.retrying()):
            self._publish(context, obj)

    def load_input(self, context: dg.InputContext) -> Any:
        """Rows of the input's partitions in the annotated form.

        Raises:
            dagster.Failure: some of them have not been computed, or there is none.
            dagster.RetryRequested: reading them may pass soon.
        """
        annotation = context.dagster_type.typing_type
        if annotation is Upstream:
            return Upstream(self.store(), context.asset_key.to_user_string())
        with classified(context, self.retrying()):
            partitions = self._partitions(context)
            if getattr(annotation, "__origin__", annotation) is dict:
                kind = frame_kind(next(reversed(get_args(annotation)), pa.Table))
                return {str(each.day): self._rows([each], kind) for each in partitions}
            return self._rows(partitions, frame_kind(annotation))

    def _publish(self, context: dg.OutputContext, obj: object) -> None:
        table = _daily_table(context)
        days = [date.fromisoformat(key) for key in context.asset_partition_keys]
        timezone: str = context.asset_partitions_def.timezone  # type: ignore[attr-defined]  # it is daily
        store = self.store()
        store.sweep(table)
        seen = store.look(Partition(table, day) for day in days)
        column = (context.definition_metadata or {}).get(DAY_COLUMN_KEY)
        record = _record(context)
        outcome: Outcome[Materialization] = Outcome(table, days, step_of(context, self.retrying()))
        try:
            with _located(table):
                frames = frames_by_day(obj, days, timezone, column)
            for day, frame in frames.items():
                partition = Partition(table, day)
                commit = partial(_commit, store, partition, frame, timezone, seen=seen[partition], record=record)
                outcome.attempt(day, commit)
                if outcome.is_hopeless:
                    break
        finally:
            if not outcome.is_complete:  # failed, or interrupted: Dagster would record none
                for day, made in outcome.committed.items():
                    context.log_event(
                        dg.AssetMaterialization(context.asset_key, partition=str(day), metadata=made.metadata())
                    )
        if outcome.failed:
            raise outcome.failure()
        for day, made in outcome.committed.items():
            # No public way leads from an output context to one partition's metadata.
            context.step_context.add_asset_metadata(
                metadata=made.metadata(), asset_key=context.asset_key, partition_key=str(day)
            )

    def _partitions(self, context: dg.InputContext) -> list[Partition]:
        """All that the input asks for; they are there."""
        table, store = _daily_table(context), self.store()
        partitions = [Partition(table, date.fromisoformat(key)) for key in context.asset_partition_keys]
        if not partitions:
            raise PartitionMissing(
                f"{table}: the input {context.name} is mapped to no day of it, so there is nothing to tell its columns "
                "by. Widen the partition mapping, or begin with a day that it reaches from."
            )
        seen = store.look(partitions)
        missing = [each.day for each in partitions if seen[each].version is None]
        if missing:
            raise PartitionMissing(
                f"{table}: the input {context.name} needs {days_in_words(missing, at_most=LISTED_STRETCHES)}, not "
                f"computed yet. Materialize {table} for these days first."
            )
        return partitions

    def _rows(self, partitions: Sequence[Partition], kind: FrameKind | None) -> Any:
        """Rows of the partitions, one after the other."""
        table, tables, schemas = partitions[0].table, [], {}
        for each in partitions:
            with self._open(each) as file, undamaged(each):
                if kind is FrameKind.READER:
                    schemas[each.day] = read_batches(file).schema
                else:
                    tables.append(read_table(file))
                    schemas[each.day] = tables[-1].schema
        schema = common_schema(table, schemas)
        if kind is FrameKind.READER:
            return pa.RecordBatchReader.from_batches(schema, self._batches(partitions, schema))
        joined = pa.concat_tables([conformed(each, schema) for each in tables])
        return to_pandas(joined) if kind is FrameKind.DATAFRAME else joined

    def _batches(self, partitions: Sequence[Partition], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for each in partitions:
            with self._open(each) as file:
                for batch in undamaged_batches(each, file):
                    yield from conformed(pa.Table.from_batches([batch]), schema).to_batches()

    def _open(self, partition: Partition) -> pa.NativeFile:
        pinned = self.store().open(partition)
        if pinned is None:
            raise PartitionMissing(f"{partition} was there a moment ago and is gone; materialize it again")
        return pinned.file


def _commit(
    store: Store, partition: Partition, frame: object, timezone: str, *, seen: Seen, record: Record
) -> Materialization:
    started = time.monotonic()
    with ExitStack() as stack:
        rows = StagedRows(stack.enter_context(store.stage(partition)), None, timezone)
        stack.callback(rows.abandon)
        with _located(partition):
            rows.write(frame)
            rows.close()
        record = replace(record, digest=rows.digest, rows=rows.rows, seconds=time.monotonic() - started)
        published = store.publish(rows.staged, record, seen=seen)
    return Materialization(published, rows.rows, rows.schema, rows.preview, time.monotonic() - started)


def _record(context: dg.OutputContext) -> Record:
    """What is known of a commit before it is made. What a plain asset read is told by when its step began."""
    step: Any = context.step_context
    began = step_starts(step.instance, context.run_id).get(step.step.key)
    versions = step.assets_def.code_versions_by_key if step.assets_def else {}
    return Record(
        began_at=began or datetime.now(UTC),
        code_version=versions.get(context.asset_key),
        run_id=context.run_id,
        key=key_in(context.definition_metadata or {}),
    )


@contextmanager
def _located(where: object) -> Iterator[None]:
    try:
        yield
    except (ContractBroken, PartitionMismatch) as error:
        raise located(error, where) from error


def _daily_table(context: dg.OutputContext | dg.InputContext) -> str:
    """Name of the asset's table.

    Raises:
        DefinitionError: the asset has no daily partitions.
    """
    table = context.asset_key.to_user_string()
    if not context.has_asset_partitions or not is_daily(context.asset_partitions_def):
        found = described(context.asset_partitions_def if context.has_asset_partitions else None)
        raise DefinitionError(
            f"{table}: its partitions ({found}) are not days. This IO manager keeps one file per day, from midnight to "
            "midnight: give the asset a dg.DailyPartitionsDefinition without offsets, or another io_manager_key."
        )
    return table
