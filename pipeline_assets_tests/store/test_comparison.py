"""Two lakes: which days are there, equal, different; and what a table's days add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline_assets.errors import UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.store.comparison import DayStatus, TableDiff, compare_lakes, open_lake
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.row_diff import EXAMPLES, TypeChange
from pipeline_assets_tests.support.commits import overwrite, publish_table, seen_of

FIRST = date(2026, 3, 1)
KEYS = {"sales": ["id"]}


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def put(root: Path, table: str, number: int, rows: pa.Table) -> None:
    store, partition = LocalStore(root), Partition(table, day(number))
    publish_table(store, partition, rows, seen=seen_of(store, partition))


def sales(*amounts: int, first_id: int = 0) -> pa.Table:
    ids = range(first_id, first_id + len(amounts))
    return pa.table({"id": list(ids), "amount": pa.array([Decimal(each) for each in amounts], pa.decimal128(18, 4))})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "base"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other"


def diffs(
    base: Path,
    other: Path,
    *,
    tables: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    keys: Mapping[str, Sequence[str]] = KEYS,
) -> dict[str, TableDiff]:
    found = compare_lakes(open_lake(base), open_lake(other), tables=tables, first=first, last=last, keys=keys)
    return {each.table: each for each in found}


def test_a_day_is_equal_different_the_same_rows_or_in_one_lake_only(base: Path, other: Path) -> None:
    for root in (base, other):
        put(root, "sales", 0, sales(1, 2))
    put(base, "sales", 1, sales(1, 2))
    put(other, "sales", 1, sales(1, 3))
    put(base, "sales", 2, sales(1, 2))
    put(other, "sales", 2, sales(1, 2).sort_by([("id", "descending")]))
    put(base, "sales", 3, sales(1, 2, 3))
    put(other, "sales", 4, sales(1, 2, 3, 4, 5))
    (found,) = diffs(base, other).values()
    assert found.days == {
        DayStatus.EQUAL: [day(0)],
        DayStatus.DIFFERENT: [day(1)],
        DayStatus.SAME_ROWS: [day(2)],
        DayStatus.ONLY_BASE: [day(3)],
        DayStatus.ONLY_OTHER: [day(4)],
    }
    assert (found.added, found.removed, found.changed, found.differing) == (5, 3, 1, 9)
    assert (found.rows_base, found.rows_other, found.differing_share) == (9, 11, 9 / 11)
    assert not found.is_equal


def test_the_same_rows_in_other_bytes_are_equal(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1, 2))
    put(other, "sales", 0, sales(1, 2).sort_by([("id", "descending")]))
    (found,) = diffs(base, other).values()
    assert (found.is_equal, found.differing) == (True, 0)


def test_equal_days_are_counted_and_not_decoded(base: Path, other: Path) -> None:
    for root in (base, other):
        put(root, "sales", 0, sales(1, 2))
        path = root / "sales" / f"dt={day(0)}" / "data.parquet"
        data = bytearray(path.read_bytes())
        data[4:40] = b"?" * 36  # the first column's pages; the footer is whole
        overwrite(LocalStore(root), Partition("sales", day(0)), bytes(data))
    (found,) = diffs(base, other).values()
    assert (found.days[DayStatus.EQUAL], found.rows_base) == ([day(0)], 2)


def test_an_empty_day_is_there(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales())
    put(other, "sales", 0, sales())
    put(other, "sales", 1, sales())
    (found,) = diffs(base, other).values()
    assert (found.days[DayStatus.EQUAL], found.days[DayStatus.ONLY_OTHER]) == ([day(0)], [day(1)])
    assert (found.is_equal, found.differing, found.differing_share) == (False, 0, 0.0)


def test_days_are_added_up(base: Path, other: Path) -> None:
    for number in range(5):
        put(base, "sales", number, sales(1, 2, 3))
        put(other, "sales", number, sales(1, 2, 4, 5))
    (found,) = diffs(base, other).values()
    assert (found.added, found.changed, found.removed) == (5, 5, 0)
    amount = found.columns["amount"]
    assert amount.base is not None
    assert amount.other is not None
    assert (amount.changed, amount.base.sum, amount.other.sum) == (5, 30, 60)
    assert (amount.base.mean, amount.other.mean) == (2.0, 3.0)
    assert [each for each, _ in amount.examples] == [day(0), day(1), day(2)]
    assert len(found.added_rows) == EXAMPLES


def test_sums_of_days_keep_all_their_digits(base: Path, other: Path) -> None:
    cent, large = Decimal("0.0001"), Decimal("9" * 33)
    for number, value in enumerate((large, cent)):
        kind = pa.decimal128(38, 4)
        put(base, "sales", number, pa.table({"id": [1], "amount": pa.array([value], kind)}))
        put(other, "sales", number, pa.table({"id": [1], "amount": pa.array([value + 1], kind)}))
    total = diffs(base, other)["sales"].columns["amount"].base
    assert total is not None
    assert total.sum == Decimal("9" * 33 + ".0001")


def test_a_column_that_is_a_float_later_is_added_up_as_one(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1))
    put(base, "sales", 1, sales(1))
    put(other, "sales", 0, sales(2))
    put(other, "sales", 1, pa.table({"id": [0], "amount": [2.5]}))
    total = diffs(base, other)["sales"].columns["amount"].other
    assert total is not None
    assert total.sum == 4.5


def test_all_rows_of_a_day_differ_when_its_columns_do(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1, 2))
    put(other, "sales", 0, sales(1, 2, 3).append_column("new", pa.array([0, 0, 0])))
    put(base, "sales", 1, sales(1))
    put(other, "sales", 1, sales(2))
    put(base, "sales", 2, sales(1))
    put(other, "sales", 2, sales(1).append_column("new", pa.array([0])))
    (found,) = diffs(base, other).values()
    assert found.days[DayStatus.DIFFERENT] == [day(0), day(1), day(2)]
    assert found.types == {TypeChange("new", None, "int64"): [day(0), day(2)]}
    assert (found.added, found.changed, found.differing) == (1, 1, 5)


def test_a_table_of_one_lake_only_has_all_its_days_there(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1))
    put(other, "sales", 0, sales(1))
    put(other, "shop/stock", 0, sales(1, 2))
    found = diffs(base, other)
    assert found["sales"].is_equal
    assert (found["shop/stock"].days[DayStatus.ONLY_OTHER], found["shop/stock"].added) == ([day(0)], 2)


def test_what_the_store_keeps_for_itself_is_no_table(base: Path, other: Path) -> None:
    for root in (base, other):
        put(root, "sales", 0, sales(1))
        put(root, "sales", 0, sales(2))
        (root / "_reports" / "sla").mkdir(parents=True)
    assert (base / "_history").exists()
    assert list(diffs(base, other)) == ["sales"]


def test_only_the_asked_tables_and_days_are_compared(base: Path, other: Path) -> None:
    for table in ("sales", "stock"):
        for number in range(5):
            put(base, table, number, sales(1))
            put(other, table, number, sales(2))
    found = diffs(base, other, tables=["stock"], first=day(1), last=day(3))
    assert list(found) == ["stock"]
    assert found["stock"].days[DayStatus.DIFFERENT] == [day(1), day(2), day(3)]


def test_without_a_key_rows_are_added_and_removed(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1, 2))
    put(other, "sales", 0, sales(1, 3))
    (found,) = diffs(base, other, keys={}).values()
    assert (found.added, found.removed, found.changed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("nowhere", "nowhere is not a folder"), ("a file", "is not a folder"), ("empty", "empty is no lake")],
)
def test_what_is_no_lake_is_refused(tmp_path: Path, wrong: str, said: str) -> None:
    (tmp_path / "empty" / "sales" / "dt=2026-03-01").mkdir(parents=True)
    (tmp_path / "a file").touch()
    with pytest.raises(UsageError, match=said):
        open_lake(tmp_path / wrong)


def test_a_lake_is_not_compared_with_itself(base: Path, tmp_path: Path) -> None:
    put(base, "sales", 0, sales(1))
    (tmp_path / "link").symlink_to(base)
    with pytest.raises(UsageError, match="would be compared with itself"):
        diffs(base, tmp_path / "link")


def test_unknown_tables_and_empty_ranges_are_told(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1))
    put(other, "stock", 0, sales(1))
    with pytest.raises(UsageError, match="neither lake has a table sale; tables: sales, stock"):
        diffs(base, other, tables=["sales", "sale"])
    with pytest.raises(UsageError, match=r"has a day from 2026-03-02 to the last of sales, stock"):
        diffs(base, other, first=day(1))


def test_a_file_that_is_not_parquet_is_named_by_table_and_day(base: Path, other: Path) -> None:
    put(base, "sales", 0, sales(1))
    overwrite(LocalStore(other), Partition("sales", day(0)), b"no Parquet")
    with pytest.raises(UsageError, match="sales 2026-03-01: it cannot be compared"):
        diffs(base, other)
