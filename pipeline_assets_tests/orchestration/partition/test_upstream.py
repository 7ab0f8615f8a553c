"""What a day is given of its upstream tables: which days, of which commits, and how often they are read."""

from __future__ import annotations

import shutil
from datetime import date
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.partition import upstream
from pipeline_assets.orchestration.partition.frames import FrameKind
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import Window, arrivals, same_day, trailing
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, Asset, Lake, day, failure, key, numbers, open_files

ANY = Contract((Column("n", pa.int64(), nullable=True),))


@daily_asset(partitions_def=DAYS, contract=ROW)
def source(day: date) -> pa.Table:
    return numbers(day.toordinal())


def reader(window: Window, seen: dict[int, list[int]], *, name: str = "reader") -> Asset:
    """An asset that notes which days of `source` each of its days was given, by the column `dt` if there is one."""

    def read(day: date, source: pa.Table) -> pa.Table:
        if "dt" in source.column_names:
            assert [each.toordinal() for each in source["dt"].to_pylist()] == source["n"].to_pylist()
        seen[_number(day.toordinal())] = [_number(each) for each in source["n"].to_pylist()]
        return numbers(source.num_rows)

    read.__name__ = name
    return daily_asset(read, partitions_def=DAYS, contract=ROW, ins={"source": window})


def _number(ordinal: int) -> int:
    return ordinal - day(0).toordinal()


def test_the_same_day_is_that_day_without_a_column_for_it(lake: Lake) -> None:
    seen: dict[int, list[int]] = {}
    assert lake.run([source, reader(same_day(), seen)], 0, 2).success
    assert seen == {0: [0], 1: [1], 2: [2]}


def test_a_trailing_window_begins_with_the_history_and_never_looks_ahead(lake: Lake) -> None:
    seen: dict[int, list[int]] = {}
    asset = reader(trailing(days=3), seen)
    assert lake.run([source, asset], 0, 4).success
    assert seen == {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [1, 2, 3], 4: [2, 3, 4]}
    assert not any("inputs_missing" in record for (record,) in lake.recorded("reader").values())


def test_a_window_of_arrivals_takes_what_is_there_at_both_edges(lake: Lake) -> None:
    seen: dict[int, list[int]] = {}
    asset = reader(arrivals(lateness_days=2), seen)
    assert lake.run([source, asset], 0, 4).success
    assert seen == {0: [0, 1, 2], 1: [0, 1, 2, 3], 2: [1, 2, 3, 4], 3: [2, 3, 4], 4: [3, 4]}
    (last,) = lake.recorded("reader")[4]
    assert last["inputs_missing"] == {"source": [key(5), key(6)]}
    assert last["inputs"] == {"source": {key(number): lake.digest("source", number) for number in (3, 4)}}


def test_the_last_day_of_the_history_reads_no_day_after_it(lake: Lake) -> None:
    last = len(DAYS.get_partition_keys()) - 1
    seen: dict[int, list[int]] = {}
    assert lake.run([source, reader(arrivals(lateness_days=2), seen)], last - 1, last).success
    assert seen == {last - 1: [last - 1, last], last: [last - 1, last]}


def test_a_hole_in_the_window_is_recorded_and_does_not_stop_the_day(lake: Lake) -> None:
    seen: dict[int, list[int]] = {}
    for number in (0, 2):
        lake.run(source, number)
    assert lake.run([source, reader(trailing(days=3), seen)], 2, select=["reader"]).success
    assert seen == {2: [0, 2]}
    assert lake.recorded("reader")[2][0]["inputs_missing"] == {"source": [key(1)]}


@pytest.mark.parametrize("window", [same_day(), trailing(days=1), arrivals(lateness_days=0)])
def test_a_day_none_of_whose_inputs_has_been_computed_is_named_with_what_to_do(lake: Lake, window: Window) -> None:
    lake.run(source, 0)
    result = lake.run([source, reader(window, {})], 0, 2, select=["reader"])
    told = failure(result)
    assert f"PartitionMissing: source {key(2)} has not been computed and is needed for {key(2)}." in told
    assert f"Materialize source for {key(2)} first" in told
    assert 0 in lake.days("reader")
    assert 2 not in lake.days("reader")


def test_a_check_warns_of_days_that_were_made_from_windows_with_gaps(lake: Lake) -> None:
    for number in (0, 2):
        lake.run(source, number)
    with_gap = lake.run([source, reader(trailing(days=3), {})], 0, 2, select=["reader"])
    (warned,) = [each for each in with_gap.get_asset_check_evaluations() if each.check_name == "inputs_complete"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert warned.metadata["days_failed"].value == [key(1), key(2)]
    assert f"reader {key(1)} was made without source of {key(1)}" in (warned.description or "")
    lake.run(source, 1)
    complete = lake.run([source, reader(trailing(days=3), {})], 0, 2, select=["reader"])
    assert [e.passed for e in complete.get_asset_check_evaluations() if e.check_name == "inputs_complete"] == [True]


@pytest.mark.parametrize("kept_bytes", [upstream.KEPT_BYTES, 0], ids=["rows fit in memory", "rows are read again"])
@pytest.mark.parametrize("kind", [pa.Table, pd.DataFrame, pa.RecordBatchReader])
def test_a_day_that_several_days_share_is_the_same_commit_for_all_of_them(
    disk_lake: Lake, monkeypatch: pytest.MonkeyPatch, kind: Any, kept_bytes: int
) -> None:
    monkeypatch.setattr(upstream, "KEPT_BYTES", kept_bytes)
    disk_lake.run(source, 0, 4)
    original = {number: disk_lake.digest("source", number) for number in range(5)}
    seen: dict[date, list[int]] = {}

    def read(day: date, source: Any) -> pa.Table:
        table = source.read_all() if kind is pa.RecordBatchReader else source
        seen[day] = list(table["n"]) if kind is pd.DataFrame else table["n"].to_pylist()
        if len(seen) == 1:  # day 2: it has read the days 0 to 2
            disk_lake.put("source", 1, numbers(-1))
            shutil.rmtree(disk_lake.root / "source" / f"dt={key(2)}")
            disk_lake.put("source", 3, numbers(-3))
        return numbers(len(seen[day]))

    read.__annotations__ = {"day": date, "source": kind, "return": pa.Table}
    asset = daily_asset(read, partitions_def=DAYS, contract=ROW, ins={"source": trailing(days=3)})
    result = disk_lake.run([source, asset], 2, 4, select=["read"])
    assert result.success, failure(result)
    values = {number: day(number).toordinal() for number in range(5)} | {3: -3}
    assert list(seen.values()) == [[values[n] for n in range(first, first + 3)] for first in range(3)]
    recorded = {number: record["inputs"]["source"] for number, (record,) in disk_lake.recorded("read").items()}
    assert recorded[3] == {key(1): original[1], key(2): original[2], key(3): disk_lake.digest("source", 3)}


def test_no_more_than_the_window_is_held_open_and_nothing_after_the_run(disk_lake: Lake) -> None:
    most = 0

    @check(blocking=True)
    def again(source: pa.RecordBatchReader) -> Finding:
        """Reads the window once more."""
        return Finding(passed=True, message=str(source.schema))

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"source": trailing(days=3)}, checks=[again])
    def windowed(day: date, source: pa.RecordBatchReader) -> pa.Table:
        nonlocal most
        most = max(most, len(open_files(disk_lake.root / "source")))
        if day.day == 2:
            raise ValueError("a bug must not keep files open")
        return numbers(source.read_all().num_rows)

    assert not disk_lake.run([source, windowed], 0, 9).success
    assert most == 3
    assert open_files(disk_lake.root) == []


def test_an_upstream_column_named_dt_is_left_as_it_is(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=Contract((Column("dt", pa.string()),)))
    def dated(day: date) -> pa.Table:
        return pa.table({"dt": [f"own {day}"]})

    def listed(day: date, dated: pa.Table) -> pa.Table:
        return pa.table({"dt": dated["dt"]})

    def streamed(day: date, dated: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return dated

    windowed = [
        daily_asset(each, partitions_def=DAYS, contract=Contract((Column("dt", pa.string()),)), ins=ins)
        for ins in ({"dated": trailing(days=2)},)
        for each in (listed, streamed)
    ]
    result = lake.run([dated, *windowed], 0, 1)
    assert result.success, failure(result)
    for table in ("listed", "streamed"):
        assert lake.rows(table, 1) == [{"dt": f"own {key(0)}"}, {"dt": f"own {key(1)}"}]


@pytest.mark.parametrize("kind", [pa.Table, pd.DataFrame, pa.RecordBatchReader])
@pytest.mark.parametrize("kept_bytes", [upstream.KEPT_BYTES, 0], ids=["rows fit in memory", "rows are read again"])
def test_a_column_that_was_added_on_some_day_is_null_before_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, kind: Any, kept_bytes: int
) -> None:
    monkeypatch.setattr(upstream, "KEPT_BYTES", kept_bytes)
    lake.put("source", 0, numbers(0))
    lake.put("source", 1, numbers(1).append_column("more", pa.array(["x"])))
    lake.put("source", 2, pa.table({"n": pa.nulls(1), "more": pa.nulls(1)}))  # as pandas says that it does not know
    seen: list[dict[str, Any]] = []

    def read(day: date, source: Any) -> pa.Table:
        table = source.read_all() if kind is pa.RecordBatchReader else source
        table = pa.Table.from_pandas(table) if kind is pd.DataFrame else table
        seen.extend(table.select(["n", "more"]).to_pylist())
        return numbers(len(table))

    read.__annotations__ = {"day": date, "source": kind, "return": pa.Table}
    asset = daily_asset(read, partitions_def=DAYS, contract=ROW, ins={"source": trailing(days=3)})
    result = lake.run([source, asset], 2, select=["read"])
    assert result.success, failure(result)
    assert seen == [{"n": 0, "more": None}, {"n": 1, "more": "x"}, {"n": None, "more": None}]


def test_a_column_that_changed_its_type_is_named(lake: Lake) -> None:
    lake.put("source", 0, pa.table({"n": ["zero"]}))
    lake.put("source", 1, numbers(1))
    asset = reader(trailing(days=2), {})
    told = failure(lake.run([source, asset], 1, select=["reader"]))
    assert f"source: the partitions {key(0)} to {key(1)} cannot be read as one table" in told
    assert "Field n has incompatible types: string vs int64" in told


def test_a_day_that_did_not_fit_the_budget_does_not_take_the_place_of_one_that_does(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "KEPT_BYTES", 100)
    for number, count in enumerate((3, 100, 3, 3)):
        lake.put("source", number, numbers(*range(count)))
    table = upstream.Upstream(lake.store, "source")
    for number in range(4):
        read = table.read(day(number), trailing(days=2), FrameKind.TABLE, (day(0), day(3)))
        assert read.frame.num_rows == {0: 3, 1: 103, 2: 103, 3: 6}[number]
        del read
        assert sum(kept.nbytes for kept in table._decoded.values()) <= 100
    assert set(table._decoded) == {day(2), day(3)}
    table.close()
