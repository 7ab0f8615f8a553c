"""The commit of one day, without Dagster: what it publishes and hands back, and what it found when it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from pipeline_assets import Result
from pipeline_assets.errors import ContractBroken, PartitionConflict
from pipeline_assets.orchestration.asset.day import DayCommit
from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.partition.upstream import Upstream
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.windows import trailing
from pipeline_assets_tests.orchestration.lake import FIRST, ROW, Lake, day, numbers


@check(blocking=True)
def is_short(day: date, even: pa.RecordBatchReader, source: pa.Table, most: int) -> Finding:
    """No more rows than said."""
    rows: Any = np.int64(sum(batch.num_rows for batch in even))
    return Finding(rows <= most, f"{rows} of {source.num_rows}", {"rows": rows})


@check(blocking=True)
def has_a_bug(day: date) -> Finding:
    """Raises."""
    raise RuntimeError(day)


def even(day: date, source: pa.Table, most: int) -> Result:
    found = source["n"].to_pylist()
    kept, dropped = [n for n in found if n % 2 == 0], [n for n in found if n % 2]
    return Result(
        {"even": numbers(*kept), "odd": numbers(*dropped)}, Accounting(len(found), len(kept), 0, len(dropped))
    )


def commit_of(lake: Lake, number: int, *, function: Callable[..., Any] = even, most: int = 2, **spec: Any) -> DayCommit:
    stated = DailySpec(
        function=function,
        contracts={"even": ROW, "odd": ROW},
        asset_keys={"even": dg.AssetKey("even"), "odd": dg.AssetKey("odd")},
        windows={"source": trailing(days=2)},
        deps=(),
        params={"most": most},
        checks=spec.get("checks", (is_short,)),
        drops_rows=True,
        dead_letter="odd",
        timezone="UTC",
        code_version="1",
    )
    partitions = [stated.partition(table, day(number)) for table in stated.contracts]
    seen, upstreams = lake.store.look(partitions), {"source": Upstream(lake.store, "source")}
    return DayCommit(stated, lake.store, upstreams, (FIRST, day(9)), seen, Record(), day(number))


def found(commit: DayCommit) -> Mapping[tuple[str, str], bool]:
    """In the order in which they came."""
    return {(table, name): finding.passed for table, name, finding in commit.findings}


def test_a_day_is_published_and_its_records_and_findings_are_handed_back(lake: Lake) -> None:
    digest = lake.put("source", 1, numbers(1, 2, 3))
    commit = commit_of(lake, 1)
    records = commit.compute()
    assert lake.rows("even", 1) == [{"n": 2}]
    assert lake.rows("odd", 1) == [{"n": 1}, {"n": 3}]
    assert {table: (record.rows, record.published.commit.digest) for table, record in records.items()} == {
        table: (rows, lake.digest(table, 1)) for table, rows in {"even": 1, "odd": 2}.items()
    }
    assert records["even"].accounting == Accounting(read=3, kept=1, rejected=2)
    even, odd = (lake.store.head(Partition(table, day(1))) for table in ("even", "odd"))
    assert even is not None
    assert odd is not None
    assert even.record is not None
    assert odd.record is not None
    assert (even.record.rows, even.record.rows_read, even.record.rows_rejected) == (1, 3, 2)
    assert (odd.record.rows, odd.record.rows_read) == (2, None)
    assert even.record.inputs == odd.record.inputs
    assert list(even.record.inputs["source"]) == [day(1)]
    assert records["even"].inputs["source"].digests == {day(1): digest}
    assert found(commit) == {
        ("even", "contract"): True,
        ("odd", "contract"): True,
        ("even", "inputs_complete"): False,  # the day before has not been computed
        ("even", "row_accounting"): True,
        ("even", "is_short"): True,
    }


def test_numbers_that_a_check_found_are_plain_ones(lake: Lake) -> None:
    lake.put("source", 1, numbers(2))
    commit = commit_of(lake, 1)
    commit.compute()
    assert commit.findings[-1] == ("even", "is_short", Finding(passed=True, message="1 of 1", numbers={"rows": 1}))
    assert type(commit.findings[-1][2].numbers["rows"]) is int


def _odd_columns(day: date, source: pa.Table, most: int) -> Result:
    return Result({"even": numbers(2), "odd": pa.table({"m": [1]})}, Accounting(read=1, kept=1))


def _no_books(day: date, source: pa.Table, most: int) -> dict[str, pa.Table]:
    return {"even": numbers(2), "odd": numbers(1)}


def _lost_row(day: date, source: pa.Table, most: int) -> Result:
    return Result({"even": numbers(2), "odd": numbers(1)}, Accounting(read=3, kept=1, rejected=1))


CONTRACTS = {("even", "contract"): True, ("odd", "contract"): True}
UP_TO_BOOKS = {**CONTRACTS, ("even", "inputs_complete"): True}
UP_TO_CHECKS = {**UP_TO_BOOKS, ("even", "row_accounting"): True}


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"function": _odd_columns}, ContractBroken, {("odd", "contract"): False}),
        ({"function": _no_books}, ContractBroken, UP_TO_BOOKS),
        ({"function": _lost_row}, ContractBroken, {**UP_TO_BOOKS, ("even", "row_accounting"): False}),
        ({"most": 0}, ContractBroken, {**UP_TO_CHECKS, ("even", "is_short"): False}),
        ({"checks": (is_short, has_a_bug)}, RuntimeError, {**UP_TO_CHECKS, ("even", "is_short"): True}),
    ],
    ids=["contract", "no books", "a lost row", "a blocking check", "a bug in a check"],
)
def test_a_refused_day_publishes_nothing_and_loses_no_finding(
    disk_lake: Lake, options: dict[str, Any], error: type[Exception], expected: Mapping[tuple[str, str], bool]
) -> None:
    for number in (0, 1):
        disk_lake.put("source", number, numbers(number + 1))
    commit = commit_of(disk_lake, 1, **options)
    with pytest.raises(error):
        commit.compute()
    assert found(commit) == expected
    assert list(found(commit)) == list(expected)
    assert disk_lake.days("even") == disk_lake.days("odd") == []
    assert list((disk_lake.root / "_staging").rglob("*.parquet")) == []


def test_a_day_that_another_published_meanwhile_is_refused_with_all_that_was_found(lake: Lake) -> None:
    for number in (0, 1):
        lake.put("source", number, numbers(2))
    commit = commit_of(lake, 1)
    theirs = lake.put("even", 1, numbers(77))
    with pytest.raises(PartitionConflict):
        commit.compute()
    assert found(commit) == {**UP_TO_CHECKS, ("even", "is_short"): True}
    assert lake.digest("even", 1) == theirs
