"""A function gets its rows, and returns them, as its annotations say."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, VISITS, Lake, checks, failure, numbers

MIXED = Contract(
    (
        Column("id", pa.string()),
        Column("amount", pa.decimal128(18, 4), nullable=True),
        Column("at", pa.timestamp("us", "UTC")),
        Column("count", pa.int64(), nullable=True),
        Column("on", pa.date32()),
    ),
    key=("id",),
)


@daily_asset(partitions_def=DAYS, contract=MIXED)
def source(day: date) -> pa.Table:
    at = datetime.fromisoformat(f"{day}T00:00:00.000001+00:00")
    rows = [
        {"id": "ä", "amount": Decimal("99999999999999.9999"), "at": at, "count": None, "on": day},
        {"id": "b", "amount": None, "at": at + timedelta(hours=1), "count": 2**60 + 1, "on": date(1, 1, 1)},
    ]
    return pa.Table.from_pylist(rows, MIXED.schema)


def module_with(folder: Path, *, future: bool, annotated: str, imported: str, type_checking: bool) -> ModuleType:
    """A user's module: a function that notes what it was given, and returns it."""
    if type_checking and not future and annotated:
        annotated = f'"{annotated}"'
    taken = f": {annotated}" if annotated else ""
    given = f" -> {annotated}" if annotated else ""
    lines = [
        "from __future__ import annotations" if future else "",
        "from datetime import date",
        "from typing import TYPE_CHECKING",
        f"if TYPE_CHECKING:\n    {imported}" if type_checking else imported,
        "seen = []",
        f"def copy(day: date, source{taken}){given}:",
        "    seen.append(source)",
        "    return source",
    ]
    path = folder / "users_module.py"
    path.write_text("\n".join(lines))
    spec = importlib.util.spec_from_file_location("users_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FORMS = [
    ("pd.DataFrame", "import pandas as pd", pd.DataFrame),
    ("DataFrame", "from pandas import DataFrame", pd.DataFrame),
    ("pa.Table", "import pyarrow as pa", pa.Table),
    ("pa.RecordBatchReader", "import pyarrow as pa", pa.RecordBatchReader),
    ("", "import pyarrow as pa", pa.Table),
]


@pytest.mark.parametrize("future", [True, False], ids=["with the future import", "without it"])
@pytest.mark.parametrize("type_checking", [True, False], ids=["for type checkers only", "imported"])
@pytest.mark.parametrize(("annotated", "imported", "expected"), FORMS, ids=[form[0] or "nothing" for form in FORMS])
def test_whatever_the_annotation_says_arrives_and_the_same_bytes_leave(
    lake: Lake, tmp_path: Path, annotated: str, imported: str, expected: type, *, future: bool, type_checking: bool
) -> None:
    users = module_with(tmp_path, future=future, annotated=annotated, imported=imported, type_checking=type_checking)
    copy = daily_asset(users.copy, partitions_def=DAYS, contract=MIXED, ins={"source": same_day()})
    assert lake.run([source, copy], 0, 1).success
    assert [type(rows) for rows in users.seen] == [expected, expected]
    assert lake.rows("copy", 1) == lake.rows("source", 1)


def test_all_columns_of_a_dataframe_are_arrow_backed_so_that_nothing_is_lost(lake: Lake) -> None:
    seen: list[pd.DataFrame] = []

    @daily_asset(partitions_def=DAYS, contract=MIXED, ins={"source": same_day()})
    def framed(day: date, source: pd.DataFrame) -> pd.DataFrame:
        seen.append(source)
        return source

    assert lake.run([source, framed], 0).success
    (frame,) = seen
    assert {name: kind.pyarrow_dtype for name, kind in frame.dtypes.items()} == {
        column.name: column.type for column in MIXED.columns
    }


def test_a_pandas_frame_made_from_scratch_is_taken_as_the_contract_says(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=MIXED)
    def made(day: date) -> pd.DataFrame:
        frame = pd.DataFrame({"id": ["b", "a"], "count": [1, None], "amount": [Decimal("1.5"), None]}, index=[7, 3])
        frame["at"] = pd.to_datetime([f"{day} 12:00", f"{day} 13:00"]).tz_localize("Europe/London")
        return frame.assign(on=day)

    result = lake.run(made)
    assert result.success, failure(result)
    rows = lake.rows("made", 0)
    assert [row["id"] for row in rows] == ["a", "b"]
    assert [row["count"] for row in rows] == [None, 1]
    assert rows[1]["amount"] == Decimal("1.5000")


def test_a_dataframe_that_arrow_has_no_type_for_is_named(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def odd(day: date) -> pd.DataFrame:
        return pd.DataFrame({"n": [1, "two"]})

    assert "odd 2024-02-27: the DataFrame cannot be turned into Arrow" in failure(lake.run(odd))


def test_a_record_batch_is_a_frame_too(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def batch(day: date) -> pa.RecordBatch:
        return pa.record_batch({"n": pa.array([1], pa.int64())})

    assert lake.run(batch).success
    assert lake.rows("batch", 0) == [{"n": 1}]


def test_how_rows_are_cut_into_batches_does_not_show_in_the_bytes(lake: Lake) -> None:
    sizes = iter([5000, 1700, 1])

    @daily_asset(partitions_def=DAYS, contract=VISITS)
    def cut(day: date) -> pa.RecordBatchReader:
        rows = pa.table({"user": [f"u{number:05}" for number in range(5000)], "seconds": range(5000)}, VISITS.schema)
        return pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=next(sizes)))

    digests = set()
    for _ in range(3):
        assert lake.run(cut).success
        digests.add(lake.digest("cut", 0))
    assert len(digests) == 1


def test_a_stream_without_batches_is_a_day_without_rows(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def none(day: date) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(ROW.schema, [])

    assert lake.run(none).success
    assert lake.rows("none", 0) == []


BIG_ROWS, BATCH_ROWS = 12_000_000, 250_000
BIG_BYTES = BIG_ROWS * 8


def test_a_stream_in_and_out_is_never_held_as_a_whole(disk_lake: Lake) -> None:
    peak = 0

    def watched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for batch in batches:
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield batch

    def random() -> Iterator[pa.RecordBatch]:
        generator = np.random.default_rng(1)
        for _ in range(BIG_ROWS // BATCH_ROWS):
            yield pa.record_batch({"n": pa.array(generator.integers(0, 2**62, BATCH_ROWS))})

    @check(blocking=True)
    def counted(streamed: pa.RecordBatchReader, big: pa.RecordBatchReader) -> Finding:
        """As many rows."""
        rows = [sum(batch.num_rows for batch in watched(iter(reader))) for reader in (streamed, big)]
        return Finding(rows == [BIG_ROWS, BIG_ROWS], str(rows))

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def big(day: date) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(ROW.schema, watched(random()))

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"big": same_day()}, checks=[counted])
    def streamed(day: date, big: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(big.schema, watched(iter(big)))

    before = pa.total_allocated_bytes()
    result = disk_lake.run([big, streamed])
    assert result.success, failure(result)
    assert peak < BIG_BYTES / 2


def test_a_range_holds_one_day_in_memory_at_a_time(disk_lake: Lake) -> None:
    rows, held = 200_000, []

    @check(blocking=True)
    def looked_at(wide: pa.Table, tall: pd.DataFrame) -> Finding:
        """Whatever a check was given is let go as well."""
        return Finding(passed=True, message="", numbers={"rows": wide.num_rows + len(tall)})

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def tall(day: date) -> pa.Table:
        held.append(pa.total_allocated_bytes())
        return numbers(*range(rows))

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"tall": same_day()}, checks=[looked_at])
    def wide(day: date, tall: pd.DataFrame) -> pa.Table:
        held.append(pa.total_allocated_bytes())
        if day.day % 2:
            raise ValueError("a bug keeps nothing either")
        return pa.Table.from_pandas(tall + 0, preserve_index=False)

    gc.collect()
    before = pa.total_allocated_bytes()  # what other tests of this process hold
    assert not disk_lake.run([tall, wide], 0, 9).success
    assert max(held) - before < 4 * rows * 8


def test_a_function_that_changes_its_input_changes_nobody_elses(lake: Lake) -> None:
    @check(blocking=True)
    def still_the_same(source: pd.DataFrame) -> Finding:
        """The check reads what the function read."""
        return Finding(bool((source["id"] == ["b", "ä"]).all()), str(list(source["id"])))

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"source": same_day()}, checks=[still_the_same])
    def vandal(day: date, source: pd.DataFrame) -> pd.DataFrame:
        source.loc[:, "id"] = "x"
        source["n"] = 1
        return source[["n"]]

    result = lake.run([source, vandal], 0, 1)
    assert result.success, failure(result)
    assert [row["id"] for row in lake.rows("source", 0)] == ["b", "ä"]


def test_a_check_gets_frames_as_it_annotates_them_tables_unless_it_says(lake: Lake) -> None:
    seen: list[object] = []

    @check(blocking=False)
    def looks(day, copied, source: pd.DataFrame, params_too):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """Looks."""
        seen.extend([day, copied, source, params_too])
        return Finding(passed=True, message="")

    @daily_asset(
        partitions_def=DAYS, contract=MIXED, ins={"source": same_day()}, params={"params_too": "yes"}, checks=[looks]
    )
    def copied(day: date, source: pa.RecordBatchReader, params_too: str) -> pa.RecordBatchReader:
        return source

    assert lake.run([source, copied]).success
    assert [type(each) for each in seen] == [date, pa.Table, pd.DataFrame, str]
    assert len(seen[2]) == len(seen[1])  # type: ignore[arg-type]  # both are frames


def test_numbers_of_numpy_and_arrow_are_as_good_as_pythons(lake: Lake) -> None:
    @check(blocking=True)
    def counted(tallied: pd.DataFrame) -> Finding:
        """Comparisons and counts of pandas are numpy's."""
        large = np.int64(len(tallied))
        found = {"rows": large, "mean": np.float64(0.5), "arrow": pa.scalar(3), "text": "x", "sum": Decimal("1.5")}
        return Finding(large == 3, "fine", found)

    @daily_asset(partitions_def=DAYS, contract=ROW, checks=[counted])
    def tallied(day: date) -> pa.Table:
        return numbers(1, 2, 3)

    result = lake.run(tallied)
    assert result.success, failure(result)
    metadata = checks(result)["tallied.counted"].metadata
    assert {name: metadata[name].value for name in ("rows", "mean", "arrow", "text", "sum")} == {
        "rows": 3,
        "mean": 0.5,
        "arrow": 3,
        "text": "x",
        "sum": "1.5",
    }
