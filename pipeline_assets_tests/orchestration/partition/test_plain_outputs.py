"""Plain assets with the Parquet IO manager: what they may return for a day or for a range."""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import errno
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from pipeline_assets.partition import Partition
from pipeline_assets_tests.orchestration.lake import (
    DAYS,
    FIRST,
    QUIET,
    ROW,
    Asset,
    Lake,
    day,
    failure,
    key,
    numbers,
    stamps,
)

SINGLE_RUN = dg.BackfillPolicy.single_run()


def plain(returned: Any, *, column: str | None = None, days: dg.PartitionsDefinition = DAYS, **options: Any) -> Asset:
    """A plain asset that returns this, or what this returns of the days of the run."""

    def asset(context: dg.AssetExecutionContext) -> Any:
        return (
            returned([date.fromisoformat(each) for each in context.partition_keys]) if callable(returned) else returned
        )

    made: Asset = dg.asset(
        name="plain",
        partitions_def=days,
        backfill_policy=SINGLE_RUN,
        metadata={"day_column": column} if column else None,
        **options,
    )(asset)
    return made


def stream(*batches: pa.Table) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(
        batches[0].schema, [batch for table in batches for batch in table.to_batches()]
    )


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame({"n": [3, 1]}), numbers(3, 1), numbers(3, 1).to_batches()[0], stream(numbers(3), numbers(1))],
    ids=["DataFrame", "Table", "RecordBatch", "RecordBatchReader"],
)
def test_one_day_may_be_any_frame_and_keeps_the_order_of_its_rows(lake: Lake, frame: object) -> None:
    assert lake.run_key(plain(frame), 1).success
    assert lake.rows("plain", 1) == [{"n": 3}, {"n": 1}]
    (record,) = lake.recorded("plain")[1]
    assert record["dagster/row_count"] == 2
    assert record["digest"] == lake.digest("plain", 1)
    assert record["unchanged"] is False
    assert [column.name for column in record["dagster/column_schema"].columns] == ["n"]
    assert record["preview"].splitlines()[2] == "| 3 |"


def test_one_day_by_key_and_by_range_tags_leave_the_same_untouched_file(disk_lake: Lake) -> None:
    asset = plain(pd.DataFrame({"n": [1, 2]}, index=[7, 9]))
    assert disk_lake.run_key(asset, 0).success
    before = stamps(disk_lake.root / "plain")
    assert disk_lake.run(asset, 0).success
    assert stamps(disk_lake.root / "plain") == before
    assert [record["unchanged"] for record in disk_lake.recorded("plain")[0]] == [True, False]


def test_a_stream_of_one_day_is_never_held_as_a_whole(lake: Lake) -> None:
    peak, before = 0, pa.total_allocated_bytes()
    ones = pa.record_batch({"n": pa.array([1] * 250_000, pa.int64()), "on": pa.array([FIRST] * 250_000)})

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for _ in range(40):
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield pa.record_batch([pa.concat_arrays([column, column[:1]]) for column in ones.columns], ones.schema)

    for column in (None, "on"):
        reader = pa.RecordBatchReader.from_batches(ones.schema, batches())
        assert lake.run(plain(reader, column=column)).success
    assert lake.recorded("plain")[0][0]["dagster/row_count"] == 40 * 250_001
    assert peak < 40 * ones.nbytes / 2


def range_of(kind: pa.DataType | None, *, zone: str = "UTC") -> pa.Array:
    """Two rows of every second day of five, in no order of days, as that type."""
    values: list[Any] = [day(number) for number in (4, 0, 2, 2, 0, 4)]
    if kind is None:
        return pa.array([value.isoformat() for value in values])
    if pa.types.is_date(kind):
        return pa.array(values, kind)
    edge = [timedelta(0), timedelta(hours=24) - timedelta(microseconds=1)] * 3
    local = [datetime(value.year, value.month, value.day) + each for value, each in zip(values, edge, strict=True)]  # noqa: DTZ001 - local on purpose
    if kind.tz is None:
        return pa.array(local, kind)
    return pa.compute.assume_timezone(pa.array(local, pa.timestamp(kind.unit)), zone).cast(kind)


@pytest.mark.parametrize(
    "kind",
    [
        pa.date32(),
        pa.date64(),
        pa.timestamp("us", "UTC"),
        pa.timestamp("ns", "America/New_York"),
        pa.timestamp("us"),
        None,
    ],
    ids=["date", "date64", "timestamp in UTC", "timestamp in another zone", "naive timestamp", "ISO text"],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Pacific/Apia"])
def test_a_frame_of_a_range_is_cut_by_its_day_column(lake: Lake, kind: pa.DataType | None, zone: str) -> None:
    frame = pa.table({"n": range(6), "on": range_of(kind, zone=zone)})
    days = dg.DailyPartitionsDefinition(FIRST.isoformat(), timezone=zone)
    result = lake.run(plain(frame, column="on", days=days), 0, 4)
    assert result.success, failure(result)
    assert [[row["n"] for row in lake.rows("plain", number)] for number in range(5)] == [[1, 4], [], [2, 3], [], [0, 5]]
    assert [record["dagster/row_count"] for (record,) in lake.recorded("plain").values()].count(0) == 2


def test_a_day_of_23_hours_ends_where_the_next_begins(lake: Lake) -> None:
    spring = date(2024, 3, 31)  # 01:00 becomes 02:00 in London; the day begins at 00:00 UTC and ends at 23:00 UTC
    instants = [datetime(2024, 3, 31, 22, 59, tzinfo=UTC), datetime(2024, 3, 31, 23, 0, tzinfo=UTC)]
    frame = pa.table({"at": pa.array(instants, pa.timestamp("us", "UTC"))})
    number = (spring - FIRST).days
    days = dg.DailyPartitionsDefinition(FIRST.isoformat(), timezone="Europe/London")
    assert lake.run(plain(frame, column="at", days=days), number, number + 1).success
    assert [len(lake.rows("plain", each)) for each in (number, number + 1)] == [1, 1]


def test_a_mapping_holds_a_frame_for_every_partition_key(lake: Lake) -> None:
    def mapping(days: list[date]) -> Mapping[Any, Any]:
        first, second, third = days
        return {second.isoformat(): stream(numbers(2)), third: numbers(), first.isoformat(): pd.DataFrame({"n": [1]})}

    result = lake.run(plain(mapping), 0, 2)
    assert result.success, failure(result)
    assert [lake.rows("plain", number) for number in range(3)] == [[{"n": 1}], [{"n": 2}], []]


def test_nothing_that_tells_the_days_apart_is_an_error_that_says_what_to_do(lake: Lake) -> None:
    told = failure(lake.run(plain(numbers(1)), 0, 2))
    assert told == (
        f"plain: one frame was returned for 3 days ({key(0)} to {key(2)}) and nothing says which row belongs to which. "
        "Set metadata={'day_column': '<date or timestamp column>'} on the asset, return a mapping of partition key to "
        "frame, or make it a daily_asset."
    )
    assert lake.days("plain") == []


@pytest.mark.parametrize(
    ("returned", "column", "told"),
    [
        (
            {"on": [day(0), day(9), day(1)]},
            "on",
            f"plain: 1 of 3 rows belong to another day than {key(0)} to {key(1)} (UTC) by their on. A write may touch",
        ),
        (
            {"on": [day(0), None, day(1)]},
            "on",
            f"plain: 1 of 3 rows belong to another day than {key(0)} to {key(1)} (UTC) by their on, 1 of them to none.",
        ),
        ({"on": [f"{key(0)}T10:00", key(1)]}, "on", "plain: 1 of 2 rows belong to another day"),
        ({"n": [1]}, "on", "plain: the frame has no column 'on' (metadata day_column); it has ['n']"),
        (None, "on", "plain: a NoneType was returned; return a pandas.DataFrame"),
    ],
    ids=["another day", "null", "text that is no day", "no such column", "nothing"],
)
def test_rows_that_belong_to_no_day_of_the_range_keep_all_of_it_from_being_published(
    lake: Lake, returned: Any, column: str, told: str
) -> None:
    frame = None if returned is None else pa.table(returned)
    assert failure(lake.run(plain(frame, column=column, retry_policy=dg.RetryPolicy(max_retries=3)), 0, 1)).startswith(
        told
    )
    assert lake.days("plain") == []
    assert lake.recorded("plain") == {}


def test_a_stream_of_one_day_with_rows_of_another_is_refused(lake: Lake) -> None:
    batches = [pa.table({"on": [day(0)]}), pa.table({"on": [day(1)]})]
    told = failure(lake.run(plain(stream(*batches), column="on"), 0))
    assert f"PartitionMismatch: plain {key(0)}: 1 of 1 rows belong to another day than {key(0)}" in told
    assert lake.days("plain") == []


def test_a_stream_of_several_days_cannot_be_cut(lake: Lake) -> None:
    told = failure(lake.run(plain(stream(pa.table({"on": [day(0)]})), column="on"), 0, 1))
    assert told.startswith("plain: a RecordBatchReader cannot be cut into 2 days; return a mapping of partition key")


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ({key(0): numbers(1)}, f"the mapping lacks {key(1)} and holds besides nothing"),
        ({key(0): numbers(1), key(1): numbers(1), "x": numbers(1)}, "the mapping lacks nothing and holds besides x"),
        ({}, f"the mapping lacks {key(0)}, {key(1)} and holds besides nothing"),
    ],
    ids=["a day is left out", "a foreign key", "empty"],
)
def test_a_mapping_of_other_days_is_refused(lake: Lake, returned: object, told: str) -> None:
    assert failure(lake.run(plain(returned), 0, 1)).startswith(f"plain: the run is for {key(0)} to {key(1)}; {told}")
    assert lake.days("plain") == []


def test_one_bad_day_of_a_mapping_neither_undoes_nor_hides_the_others(lake: Lake) -> None:
    frames = {key(0): numbers(0), key(1): None, key(2): numbers(2), key(3): pd.DataFrame({"n": [1, "two"]})}
    told = failure(lake.run(plain(frames, retry_policy=dg.RetryPolicy(max_retries=3)), 0, 3))
    assert told == (
        "plain: 2 of 4 days failed; 2 were committed and recorded.\n"
        f"  {key(1)}: ContractBroken: plain {key(1)}: a NoneType was returned; return a pandas.DataFrame, "
        "pyarrow.Table, pyarrow.RecordBatch or pyarrow.RecordBatchReader\n"
        f"  {key(3)}: ContractBroken: plain {key(3)}: the DataFrame cannot be turned into Arrow: "
        "(\"Could not convert 'two' with type str: tried to convert to int64\", 'Conversion failed for column n with "
        "type object')"
    )
    assert lake.days("plain") == sorted(lake.recorded("plain")) == [0, 2]
    assert lake.recorded("plain")[2][0]["digest"] == lake.digest("plain", 2)


def test_an_error_that_nobody_foresaw_records_what_was_committed_before_it(lake: Lake) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield numbers(1).to_batches()[0]
        raise OSError(errno.EIO, "the source went away")

    frames = {key(0): numbers(0), key(1): pa.RecordBatchReader.from_batches(ROW.schema, broken()), key(2): numbers(2)}
    result = lake.run(plain(frames), 0, 2)
    assert f"  {key(1)}: OSError: [Errno 5] the source went away" in failure(result)
    assert "in broken" in lake.log(result)  # the traceback of a bug
    assert lake.days("plain") == sorted(lake.recorded("plain")) == [0, 2]


def test_an_interrupt_while_publishing_records_what_was_committed_before_it(lake: Lake) -> None:
    def interrupted() -> Iterator[pa.RecordBatch]:
        yield numbers(1).to_batches()[0]
        raise KeyboardInterrupt

    frames = {key(0): numbers(0), key(1): pa.RecordBatchReader.from_batches(ROW.schema, interrupted())}
    assert not lake.run(plain(frames), 0, 1).success
    assert lake.days("plain") == sorted(lake.recorded("plain")) == [0]


def test_a_conflict_is_retried(lake: Lake) -> None:
    calls = []

    def frames(days: list[date]) -> Mapping[str, Any]:
        calls.append(days)

        def batches() -> Iterator[pa.RecordBatch]:
            if len(calls) == 1:
                lake.put("plain", 0, numbers(77))
            yield numbers(len(calls)).to_batches()[0]

        return {key(0): pa.RecordBatchReader.from_batches(ROW.schema, batches())}

    assert lake.run(plain(frames, retry_policy=dg.RetryPolicy(max_retries=1)), 0).success
    assert len(calls) == 2
    assert lake.rows("plain", 0) == [{"n": 2}]


@pytest.mark.parametrize(
    ("partitions_def", "partition", "described"),
    [
        (None, None, "none"),
        (dg.StaticPartitionsDefinition(["a", "2024-02-27"]), "2024-02-27", "a StaticPartitionsDefinition"),
        (dg.WeeklyPartitionsDefinition("2024-02-25"), "2024-02-25", "cron 0 0 * * 0, named %Y-%m-%d"),
        (dg.HourlyPartitionsDefinition("2024-02-27-00:00"), "2024-02-27-00:00", "cron 0 * * * *, named %Y-%m-%d-%H:%M"),
    ],
)
def test_partitions_that_are_no_days_are_named_with_what_to_do(
    disk_lake: Lake, partitions_def: Any, partition: str | None, described: str
) -> None:
    @dg.asset(partitions_def=partitions_def, retry_policy=dg.RetryPolicy(max_retries=3))
    def undated() -> Any:
        return numbers(1)

    result = dg.materialize(
        [undated],
        instance=disk_lake.instance,
        resources={"io_manager": disk_lake.manager},
        partition_key=partition,
        run_config=QUIET,
        raise_on_error=False,
    )
    assert failure(result) == (
        f"undated: its partitions ({described}) are not days. This IO manager keeps one file per day, from midnight to "
        "midnight: give the asset a dg.DailyPartitionsDefinition without offsets, or another io_manager_key."
    )
    assert not disk_lake.root.exists()


def test_a_plain_asset_that_returns_nothing_on_purpose_is_left_alone(disk_lake: Lake) -> None:
    @dg.asset(partitions_def=DAYS, backfill_policy=SINGLE_RUN)
    def effect() -> None:
        return None

    assert disk_lake.run(effect, 0, 1).success
    assert not disk_lake.root.exists()


def test_a_plain_asset_that_forgot_to_return_is_told_so(lake: Lake) -> None:
    assert f"plain {key(0)}: a NoneType was returned; return a pandas.DataFrame" in failure(lake.run(plain(None)))


def test_a_key_of_two_parts_ends_in_two_folders(disk_lake: Lake) -> None:
    @dg.asset(key=["a", "b"], partitions_def=DAYS)
    def two() -> pa.Table:
        return numbers(1)

    assert disk_lake.run_key(two, 0).success
    assert (disk_lake.root / "a" / "b" / f"dt={key(0)}" / "data.parquet").exists()
    assert disk_lake.recorded("a/b")[0][0]["digest"] == disk_lake.digest("a/b", 0)


def test_the_lake_says_which_run_made_the_partition_of_a_plain_asset(lake: Lake) -> None:
    result = lake.run(plain(numbers(1, 2)))
    head = lake.store.head(Partition("plain", day(0)))
    assert head is not None
    assert head.record is not None
    assert (head.record.run_id, head.record.rows) == (result.run_id, 2)
