"""Plain assets with the Parquet IO manager: what their inputs are given, alone and beside daily assets."""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.rules.windows import same_day, trailing
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
    open_files,
)

SINGLE_RUN = dg.BackfillPolicy.single_run()


def given(annotation: Any, seen: list[Any], *, source: str = "source", mapping: Any = None) -> Asset:
    """A plain asset that notes what it was given of `source`."""

    def reader(context: dg.AssetExecutionContext, source: Any) -> Any:
        seen.append(source)
        return {each: numbers(1) for each in context.partition_keys}

    reader.__annotations__ = {"context": dg.AssetExecutionContext, "source": annotation, "return": Any}
    if annotation is None:
        del reader.__annotations__["source"]
    return dg.asset(
        partitions_def=DAYS, backfill_policy=SINGLE_RUN, ins={"source": dg.AssetIn(source, partition_mapping=mapping)}
    )(reader)


@dg.asset(partitions_def=DAYS, backfill_policy=SINGLE_RUN, metadata={"day_column": "on"})
def source(context: dg.AssetExecutionContext) -> pa.Table:
    days = [date.fromisoformat(each) for each in context.partition_keys]
    return pa.table({"n": [each.toordinal() - FIRST.toordinal() for each in days], "on": days})


def values(frame: Any) -> list[int]:
    """Column n of whatever it is."""
    if isinstance(frame, pa.RecordBatchReader):
        frame = frame.read_all()
    return list(frame["n"]) if isinstance(frame, pd.DataFrame) else frame["n"].to_pylist()


FRAMES: list[Any] = [pd.DataFrame, pa.Table, pa.RecordBatchReader]


@pytest.mark.parametrize(
    ("annotation", "kind"), [*((each, each) for each in FRAMES), (None, pa.Table), (Any, pa.Table)]
)
def test_an_input_is_what_its_annotation_says_the_days_one_after_the_other(
    lake: Lake, annotation: Any, kind: type
) -> None:
    lake.run(source, 0, 3)
    seen: list[Any] = []
    reader = given(annotation, seen)
    for first, last, expected in ((1, 1, [1]), (0, 3, [0, 1, 2, 3])):
        result = lake.run([source, reader], first, last, select=["reader"])
        assert result.success, failure(result)
        frame = seen.pop()
        assert type(frame) is kind
        assert values(frame) == expected


def test_a_dataframe_input_is_arrow_backed(lake: Lake) -> None:
    lake.run(source, 0, 3)
    seen: list[Any] = []
    lake.run([source, given(pd.DataFrame, seen)], 0, 3, select=["reader"])
    assert {name: kind.pyarrow_dtype for name, kind in seen[0].dtypes.items()} == {"n": pa.int64(), "on": pa.date32()}


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (dict, pa.Table),
        (Mapping[str, pa.Table], pa.Table),
        (dict[str, pa.Table], pa.Table),
        (dict[str, pd.DataFrame], pd.DataFrame),
        (dict[str, pa.RecordBatchReader], pa.RecordBatchReader),
    ],
    ids=str,
)
def test_an_input_annotated_dict_is_a_frame_per_partition(lake: Lake, annotation: Any, kind: type) -> None:
    lake.run(source, 0, 2)
    seen: list[Any] = []
    result = lake.run([source, given(annotation, seen)], 0, 2, select=["reader"])
    assert result.success, failure(result)
    assert {each: values(frame) for each, frame in seen[0].items()} == {key(0): [0], key(1): [1], key(2): [2]}
    assert {type(frame) for frame in seen[0].values()} == {kind}


def window(first: int, last: int) -> dg.TimeWindowPartitionMapping:
    with pytest.warns(dg.BetaWarning):
        return dg.TimeWindowPartitionMapping(first, last, allow_nonexistent_upstream_partitions=True)


def test_a_trailing_mapping_is_cut_at_the_beginning_of_the_history(lake: Lake) -> None:
    lake.run(source, 0, 3)
    for number, expected in ((0, [0]), (1, [0, 1]), (3, [1, 2, 3])):
        seen: list[Any] = []
        asset = given(dict[str, pa.Table], seen, mapping=window(-2, 0))
        assert lake.run([source, asset], number, select=["reader"]).success
        assert list(seen[0]) == [key(each) for each in expected]


def test_missing_days_of_an_input_are_named_all_at_once(lake: Lake) -> None:
    lake.run(source, 2)
    told = failure(lake.run([source, given(pa.Table, [])], 1, 3, select=["reader"]))
    assert told == (
        f"source: the input source needs {key(1)}, {key(3)}, not computed yet. Materialize source for these days first."
    )
    told = failure(lake.run([source, given(pa.Table, [])], 3, 99, select=["reader"]))
    assert f"needs {key(3)} to {key(99)}, not computed yet." in told


def test_an_input_mapped_to_no_day_is_an_error(lake: Lake) -> None:
    lake.run(source, 0)
    told = failure(lake.run([source, given(pa.Table, [], mapping=window(-1, -1))], 0, select=["reader"]))
    assert told.startswith(
        "source: the input source is mapped to no day of it, so there is nothing to tell its columns"
    )


def test_days_with_other_columns_are_read_as_one_table(lake: Lake) -> None:
    lake.put("source", 0, numbers(0))
    lake.put("source", 1, pa.table({"n": pa.nulls(1), "more": ["x"]}))
    for annotation in (pa.Table, pa.RecordBatchReader, pd.DataFrame):
        seen: list[Any] = []
        assert lake.run([source, given(annotation, seen)], 0, 1, select=["reader"]).success
        frame = seen[0].read_all() if annotation is pa.RecordBatchReader else seen[0]
        frame = pa.Table.from_pandas(frame) if annotation is pd.DataFrame else frame
        assert frame.to_pylist() == [{"n": 0, "more": None}, {"n": None, "more": "x"}]


def test_a_stream_of_many_days_holds_one_of_them_open(disk_lake: Lake) -> None:
    most = 0

    @dg.asset(partitions_def=DAYS, backfill_policy=SINGLE_RUN)
    def reader(context: dg.AssetExecutionContext, source: pa.RecordBatchReader) -> Any:
        nonlocal most
        for _ in source:
            most = max(most, len(open_files(disk_lake.root)))
        return {each: numbers(1) for each in context.partition_keys}

    for number in range(5):
        disk_lake.put("source", number, numbers(number))
    result = disk_lake.run([source, reader], 0, 4, select=["reader"])
    assert result.success, failure(result)
    assert most == 1
    assert open_files(disk_lake.root) == []


def test_an_unpartitioned_asset_reads_all_days_that_there_are(lake: Lake) -> None:
    days = dg.DailyPartitionsDefinition(FIRST.isoformat(), end_date=day(3).isoformat())

    @daily_asset(partitions_def=days, contract=ROW)
    def three(day: date) -> pa.Table:
        return numbers(day.day)

    @dg.asset(io_manager_key="memory")
    def report(three: pa.Table) -> Any:
        return three["n"].to_pylist()

    lake.run(three, 0, 2)
    result = dg.materialize(
        [three, report],
        selection=[report],
        instance=lake.instance,
        resources={"io_manager": lake.manager, "memory": dg.mem_io_manager},
        run_config=QUIET,
    )
    assert result.output_for_node("report") == [27, 28, 29]


def test_a_daily_asset_reads_a_plain_one(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"source": trailing(days=2)})
    def added(day: date, source: pd.DataFrame) -> pa.Table:
        return numbers(int(source["n"].sum()))

    result = lake.run([source, added], 0, 3)
    assert result.success, failure(result)
    assert [lake.rows("added", number)[0]["n"] for number in range(4)] == [0, 1, 3, 5]


def test_a_plain_asset_reads_a_daily_one(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, key_prefix=["a"])
    def b(day: date) -> pa.Table:
        return numbers(day.toordinal() - FIRST.toordinal())

    @dg.asset(key=["a", "c"], partitions_def=DAYS, backfill_policy=SINGLE_RUN, ins={"b": dg.AssetIn(["a", "b"])})
    def c(b: dict[str, pa.Table]) -> Any:
        return b

    @daily_asset(partitions_def=DAYS, contract=ROW, key_prefix=["a"], ins={"c": same_day()})
    def d(day: date, c: pa.Table) -> pa.Table:
        return c

    result = lake.run([b, c, d], 0, 2)
    assert result.success, failure(result)
    assert [values(pa.Table.from_pylist(lake.rows("a/d", number))) for number in range(3)] == [[0], [1], [2]]


def test_a_daily_asset_whose_upstream_is_kept_elsewhere_reads_it_from_there(lake: Lake, tmp_path: Path) -> None:
    elsewhere = ParquetIOManager(root=str(tmp_path / "elsewhere"))

    @daily_asset(partitions_def=DAYS, contract=ROW, io_manager_key="elsewhere")
    def there(day: date) -> pa.Table:
        return numbers(day.day)

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"there": same_day()})
    def here(day: date, there: pa.Table) -> pa.Table:
        return there

    result = lake.run([there, here], resources={"io_manager": lake.manager, "elsewhere": elsewhere})
    assert result.success, failure(result)
    assert lake.rows("here", 0) == [{"n": 27}]
    assert lake.days("there") == []
