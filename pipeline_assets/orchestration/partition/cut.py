"""What a plain asset returned for its days, as one frame a day."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline_assets.errors import PartitionMismatch
from pipeline_assets.orchestration.partition.frames import tables_of
from pipeline_assets.partition import days_in_words
from pipeline_assets.rules.calendar import day_bounds, zone

DAY_COLUMN_KEY = "day_column"
"""Asset metadata: the date or timestamp column by which the frame of a range is cut into days."""


def frames_by_day(obj: object, days: Sequence[date], timezone: str, column: str | None) -> dict[date, object]:
    """Cut what a plain asset returned into a frame for every day.

    Args:
        obj: a frame, or a mapping of partition key to frame.
        column: date or timestamp column that tells the day of a row.

    Raises:
        PartitionMismatch: rows belong to other days, or nothing tells to which.
        ContractBroken: the object is no frame.
    """
    if isinstance(obj, Mapping):
        return _from_mapping(obj, days)
    if column is None:
        if len(days) == 1:
            return {days[0]: obj}
        raise PartitionMismatch(
            f"one frame was returned for {len(days)} days ({days_in_words(days)}) and nothing says which row "
            f"belongs to which. Set metadata={{'{DAY_COLUMN_KEY}': '<date or timestamp column>'}} on the asset, return "
            "a mapping of partition key to frame, or make it a daily_asset."
        )
    if isinstance(obj, pa.RecordBatchReader):
        if len(days) > 1:
            raise PartitionMismatch(
                f"a RecordBatchReader cannot be cut into {len(days)} days; return a mapping of partition key "
                "to reader, or materialize day by day"
            )
        return {days[0]: pa.RecordBatchReader.from_batches(obj.schema, _checked(obj, days, timezone, column))}
    return _cut(pa.concat_tables(tables_of(obj)), days, timezone, column)


def _from_mapping(frames: Mapping[object, object], days: Sequence[date]) -> dict[date, object]:
    by_key = {str(key): frame for key, frame in frames.items()}
    wanted = {day.isoformat(): day for day in days}
    if set(by_key) != set(wanted):
        lacking, foreign = sorted(set(wanted) - set(by_key)), sorted(set(by_key) - set(wanted))
        raise PartitionMismatch(
            f"the run is for {days_in_words(days)}; the mapping lacks {', '.join(lacking) or 'nothing'} and holds "
            f"besides {', '.join(foreign) or 'nothing'}. Return a frame for every partition key, an empty one for a "
            "day without rows."
        )
    return {day: by_key[key] for key, day in wanted.items()}


def _checked(rows: pa.RecordBatchReader, days: Sequence[date], timezone: str, column: str) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        _cut(pa.Table.from_batches([batch]), days, timezone, column)
        yield batch


def _cut(rows: pa.Table, days: Sequence[date], timezone: str, column: str) -> dict[date, object]:
    if column not in rows.column_names:
        raise PartitionMismatch(
            f"the frame has no column {column!r} (metadata {DAY_COLUMN_KEY}); it has {rows.column_names}"
        )
    frames: dict[date, pa.Table] = {day: rows.filter(_within(rows[column], day, timezone)) for day in days}
    strangers = rows.num_rows - sum(frame.num_rows for frame in frames.values())
    if strangers:
        nulls = rows[column].null_count
        raise PartitionMismatch(
            f"{strangers} of {rows.num_rows} rows belong to another day than {days_in_words(days)} ({timezone}) by "
            f"their {column}{f', {nulls} of them to none' if nulls else ''}. A write may touch only its own partitions."
        )
    return dict(frames)


def _within(values: pa.ChunkedArray, day: date, timezone: str) -> pa.ChunkedArray:
    if pt.is_date(values.type):
        return pc.equal(values, pa.scalar(day).cast(values.type))
    if not pt.is_timestamp(values.type):
        return pc.equal(values.cast(pa.string()), day.isoformat())
    start, end = day_bounds(day, timezone)
    if values.type.tz is None:  # a naive time is read as the partition's own zone
        start, end = (bound.astimezone(zone(timezone)).replace(tzinfo=None) for bound in (start, end))
    return pc.and_(
        pc.greater_equal(values, pa.scalar(start).cast(values.type)), pc.less(values, pa.scalar(end).cast(values.type))
    )
