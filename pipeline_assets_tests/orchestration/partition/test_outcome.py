"""Days that fail: what is published, what is recorded, what is said, and what is tried again."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from pipeline_assets import ParquetIOManager, Result, daily_asset
from pipeline_assets.errors import LandingInProgress, PipelineError, SourceError, StorageFull
from pipeline_assets.orchestration.retry.step import RetryRules
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, Lake, checks, day, failure, key, numbers

PROJECT = Path(__file__).resolve().parents[3]
RETRY = dg.RetryPolicy(max_retries=2)


class Never(ParquetIOManager):
    """Takes nothing for transient."""

    def retrying(self) -> RetryRules:
        return RetryRules(verdicts=())


def events(result: dg.ExecuteInProcessResult, kind: str) -> int:
    return sum(event.event_type_value == kind for event in result.all_events)


def test_a_bug_on_one_day_neither_undoes_nor_hides_the_others(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def buggy(day: date) -> pa.Table:
        if day.day == 28:
            return numbers(1 // (day.day - 28))
        return numbers(day.day)

    result = lake.run(buggy, 0, 3)
    told = failure(result)
    assert told.startswith("buggy: 1 of 4 days failed; 3 were committed and recorded.\n")
    assert f"  {key(1)}: ZeroDivisionError: integer division or modulo by zero" in told
    assert lake.days("buggy") == [0, 2, 3]
    recorded = lake.recorded("buggy")
    assert sorted(recorded) == [0, 2, 3]
    for number, (record,) in recorded.items():
        assert record["digest"] == lake.digest("buggy", number)
        assert record["dagster/row_count"] == 1
    assert lake.instance.get_materialized_partitions(dg.AssetKey("buggy")) == {key(0), key(2), key(3)}
    log = lake.log(result)
    assert f"buggy {key(1)} failed: integer division" in log
    assert "return numbers(1 // (day.day - 28))" in log
    assert "4 of 4 days" in log


def test_the_failure_keeps_its_cause_and_names_the_days_for_machines_too(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def buggy(day: date) -> pa.Table:
        if day.day in {28, 29}:
            raise KeyError(f"no {day}")
        return numbers(1)

    result = lake.run(buggy, 0, 3)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    assert data.user_failure_data is not None
    metadata = {name: value.value for name, value in data.user_failure_data.metadata.items()}
    assert "judgements" in metadata
    del metadata["judgements"]  # test_retry reads them back
    assert metadata == {
        "failed_days": [key(1), key(2)],
        "committed_days": [key(0), key(3)],
        "first_failed_day": key(1),
        "kind": "bug",
        "verdict": "not named",
        "attempts": 1,
        "max_attempts": 1,
        "delays_seconds": [],
    }
    assert data.error is not None
    assert data.error.cause is not None
    assert data.error.cause.cls_name == "KeyError"
    assert "raise KeyError(" in "".join(data.error.cause.stack)


def test_many_failed_days_are_counted_and_only_some_described(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def never(day: date) -> pa.Table:
        raise ValueError("never")

    told = failure(lake.run(never, 0, 29))
    assert told.startswith("never: 30 of 30 days failed; 0 were committed and recorded.")
    assert told.endswith(f"  {key(19)}: ValueError: never\n  and 10 more, up to {key(29)}")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, dg.DagsterExecutionInterruptedError])
def test_an_interrupt_records_the_days_that_were_committed(lake: Lake, interrupt: type[BaseException]) -> None:
    asked = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def stopped(day: date) -> pa.Table:
        asked.append(day)
        if day.day == 29:
            raise interrupt
        return numbers(day.day)

    with suppress(interrupt):
        lake.run(stopped, 0, 3)
    assert asked == [day(0), day(1), day(2)]
    assert sorted(lake.recorded("stopped")) == lake.days("stopped") == [0, 1]


def test_a_store_that_refuses_ends_the_range_and_says_how_many_days_were_not_attempted(disk_lake: Lake) -> None:
    asked = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def refused(day: date) -> pa.Table:
        asked.append(day)
        if day.day == 28:  # from here on nobody can stage anything
            shutil.rmtree(disk_lake.root / "_staging" / "refused")
            (disk_lake.root / "_staging" / "refused").write_text("in the way")
        return numbers(1)

    told = failure(disk_lake.run(refused, 0, 5))
    assert told.startswith(
        "refused: 1 of 6 days failed; 1 were committed and recorded. 4 further days were not attempted.\n"
        f"  {key(1)}: StorageRefused: refused {key(1)}: "
    )
    assert len(asked) == 2
    assert sorted(disk_lake.recorded("refused")) == [0]


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_the_range_and_harms_nothing(disk_lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def growing(day: date) -> pa.Table:
        random = np.random.default_rng(1).integers(0, 2**62, 1_000_000 if day.day == 29 else 10)
        return pa.table({"n": random})

    with files_of_at_most(1_000_000):
        told = failure(disk_lake.run(growing, 0, 3))
    assert "2 were committed and recorded. 1 further days were not attempted." in told
    assert f"  {key(2)}: StorageFull: growing {key(2)}: " in told
    assert disk_lake.days("growing") == [0, 1]
    assert list((disk_lake.root / "_staging").rglob("*.parquet")) == []
    assert disk_lake.run(growing, 0, 3).success


@pytest.mark.parametrize("error", [StorageFull, SourceError])
def test_what_would_fail_every_day_the_same_way_is_tried_once(lake: Lake, error: type[PipelineError]) -> None:
    asked = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def hopeless(day: date) -> pa.Table:
        asked.append(day)
        raise error("as said")

    assert "3 further days were not attempted" in failure(lake.run(hopeless, 0, 3))
    assert len(asked) == 1


def publish_elsewhere(root: Path, table: str, number: int, value: int) -> None:
    """Another process publishes a day."""
    code = f"""
from datetime import date
from pathlib import Path
import dagster as dg
from pipeline_assets_tests.orchestration.lake import Lake, numbers
Lake(Path({str(root)!r}), dg.DagsterInstance.ephemeral()).put({table!r}, {number}, numbers({value}))
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_a_conflict_is_told_and_the_step_is_run_again_from_its_inputs(disk_lake: Lake) -> None:
    calls = 0

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def contested(day: date) -> pa.Table:
        nonlocal calls
        calls += 1
        if calls == 2:
            publish_elsewhere(disk_lake.root, "contested", 1, 77)
        return numbers(calls)

    result = disk_lake.run(contested, 0, 2)
    assert result.success
    assert events(result, "STEP_UP_FOR_RETRY") == 1
    assert calls == 4  # the other two days are committed
    assert [disk_lake.rows("contested", number) for number in range(3)] == [[{"n": 1}], [{"n": 4}], [{"n": 3}]]
    for number, records in disk_lake.recorded("contested").items():
        assert records[0]["digest"] == disk_lake.digest("contested", number)
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert failed.step_retry_data.error is not None
    assert failed.step_retry_data.error.cause is not None
    said = failed.step_retry_data.error.cause.message
    assert f"contested {key(1)}: another run published this partition" in said
    assert "1 of 3 days failed; 2 were committed and recorded" in said


def test_a_conflict_that_does_not_end_leaves_the_others_commit(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def contested(day: date) -> pa.Table:
        theirs.append(lake.put("contested", 0, numbers(77 + len(theirs))))
        return numbers(1)

    theirs: list[str] = []
    assert "PartitionConflict" in failure(lake.run(contested))
    assert len(theirs) == 4
    assert lake.digest("contested", 0) == theirs[-1]
    assert lake.recorded("contested") == {}


def test_a_late_zombie_does_not_overwrite_what_was_computed_after_it_began(disk_lake: Lake) -> None:
    nested = False

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def source(day: date) -> pa.Table:
        return numbers(day.day)

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"source": same_day()})
    def doubled(day: date, source: pa.Table) -> pa.Table:
        nonlocal nested
        if not nested:  # while this run stands still, the source is corrected and another run makes day 2 of it
            nested = True
            disk_lake.put("source", 2, numbers(1000))
            with dg.DagsterInstance.ephemeral() as other:
                assert Lake(disk_lake.root, other).run([assets[0], assets[1]], 2, select=["doubled"]).success
            disk_lake.put("source", 2, numbers(5))  # and what the zombie is about to read is older again
        return numbers(source["n"][0].as_py() * 2)

    assets = (source, doubled)
    disk_lake.run(source, 0, 2)
    told = failure(
        disk_lake.run(assets, 0, 2, select=["doubled"], resources={"io_manager": Never(root=str(disk_lake.root))})
    )
    assert f"  {key(2)}: PartitionConflict: " in told
    assert disk_lake.rows("doubled", 2) == [{"n": 2000}]
    assert sorted(disk_lake.recorded("doubled")) == [0, 1]


@pytest.mark.parametrize(
    ("error", "attempts"), [(LandingInProgress("still written"), 4), (ValueError("a bug"), 1), (StorageFull("full"), 1)]
)
def test_only_what_may_pass_next_time_is_retried(lake: Lake, error: Exception, attempts: int) -> None:
    calls = 0

    @daily_asset(partitions_def=DAYS, contract=ROW, retry_policy=RETRY)
    def failing(day: date) -> pa.Table:
        nonlocal calls
        calls += 1
        raise error

    assert not lake.run(failing).success
    assert calls == attempts


def test_a_broken_contract_is_not_computed_again_with_the_conflict_beside_it(lake: Lake) -> None:
    calls = []

    @daily_asset(partitions_def=DAYS, contract=ROW, retry_policy=RETRY)
    def both(day: date) -> pa.Table:
        calls.append(day)
        if day.day == 27:
            return pa.table({"other": [1]})
        lake.put("both", 1, numbers(77 + len(calls)))
        return numbers(1)

    result = lake.run(both, 0, 1)
    assert events(result, "STEP_UP_FOR_RETRY") == 3
    assert calls == [day(0), *[day(1)] * 4]
    assert f"  {key(0)}: ContractBroken: both {key(0)}: " in failure(result)
    assert f"  {key(1)}: PartitionConflict: both {key(1)}: " in failure(result)


def test_rows_of_another_day_are_refused(lake: Lake) -> None:
    contract = Contract((Column("on", pa.date32()),), day_column="on")

    @daily_asset(partitions_def=DAYS, contract=contract)
    def dated(day: date) -> pa.Table:
        return pa.table({"on": pa.array([day, date(2024, 3, 1)])})

    result = lake.run(dated, 0, 3)
    told = failure(result)
    assert f"  {key(0)}: PartitionMismatch: dated {key(0)}: 1 of 2 rows belong to another day" in told
    assert lake.days("dated") == [3]
    found = checks(result)["dated.contract"]
    assert found.metadata["days_failed"].value == [key(0), key(1), key(2)]


# --- checks


@check(blocking=True)
def is_small(day: date, checked: pa.Table, limit: int) -> Finding:
    """No number is above the limit."""
    most = max(checked["n"].to_pylist())
    return Finding(most <= limit, f"{day}: the most is {most}", {"most": most, "rows": 1})


@check(blocking=False)
def is_even(day: date, checked: pa.Table) -> Finding:
    """Every number is even."""
    return Finding(all(n % 2 == 0 for n in checked["n"].to_pylist()), f"{day}: {checked['n'].to_pylist()}")


VALUES: dict[date, int] = {}


def _checked(day: date, limit: int) -> pa.Table:
    return numbers(VALUES[day])


_checked.__name__ = "checked"
checked = daily_asset(_checked, partitions_def=DAYS, contract=ROW, params={"limit": 10}, checks=[is_small, is_even])


def test_a_blocking_check_that_fails_keeps_its_day_from_being_published(lake: Lake) -> None:
    VALUES.update({day(number): 2 for number in range(4)})
    assert lake.run(checked, 0, 2).success
    VALUES.update({day(0): 4, day(1): 12, day(3): 6})
    result = lake.run(checked, 0, 3)
    assert f"  {key(1)}: ContractBroken: checked {key(1)}: is_small: {key(1)}: the most is 12" in failure(result)
    assert [lake.rows("checked", number)[0]["n"] for number in range(4)] == [4, 2, 2, 6]
    assert {number: len(records) for number, records in lake.recorded("checked").items()} == {0: 2, 1: 1, 2: 2, 3: 1}
    found = checks(result)["checked.is_small"]
    assert (found.passed, found.severity, found.description) == (
        False,
        dg.AssetCheckSeverity.ERROR,
        f"{key(1)}: the most is 12",
    )
    assert {name: value.value for name, value in found.metadata.items()} == {
        "days_checked": 4,
        "days_failed": [key(1)],
        "most": 12,
        "rows": 1,
    }
    assert checks(result)["checked.contract"].passed


def test_another_check_that_fails_warns_and_publishes(lake: Lake) -> None:
    VALUES.update({day(0): 3, day(1): 2})
    result = lake.run(checked, 0, 1)
    assert result.success
    assert lake.days("checked") == [0, 1]
    found = checks(result)["checked.is_even"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["days_failed"].value == [key(0)]
    assert checks(result)["checked.is_small"].metadata["most"].value == 5  # of both days
    assert checks(result)["checked.is_small"].description == "2 days passed"


def test_a_check_with_a_bug_fails_its_day_and_no_other(lake: Lake) -> None:
    @check(blocking=False)
    def forgets(day: date) -> Finding:
        """Returns nothing on the first day, and raises on the second."""
        if day.day == 27:
            return None  # type: ignore[return-value]  # the mistake that is tested
        if day.day == 28:
            raise RuntimeError(day)
        return Finding(passed=True, message="fine")

    @daily_asset(partitions_def=DAYS, contract=ROW, checks=[forgets])
    def forgotten(day: date) -> pa.Table:
        return numbers(1)

    told = failure(lake.run(forgotten, 0, 3))
    assert f"  {key(0)}: TypeError: check forgets returned a NoneType; a check returns a Finding" in told
    assert f"  {key(1)}: RuntimeError: 2024-02-28" in told
    assert lake.days("forgotten") == sorted(lake.recorded("forgotten")) == [2, 3]


@pytest.mark.parametrize(
    ("books", "told"),
    [
        (Accounting(read=5, kept=2, rejected=2), "5 read = 2 kept + 0 duplicates + 2 rejected + 1 unaccounted for"),
        (Accounting(read=4, kept=3, rejected=1), "4 read = 3 kept + 0 duplicates + 1 rejected; staged: 2 kept, 2 rej"),
        (Accounting(read=3, kept=2, rejected=1), "3 read = 2 kept + 0 duplicates + 1 rejected; staged: 2 kept, 2 rej"),
    ],
    ids=["a row vanished", "kept is not what was staged", "the dead letter is not what was rejected"],
)
def test_books_that_do_not_balance_keep_the_day_from_being_published(lake: Lake, books: Accounting, told: str) -> None:
    @daily_asset(partitions_def=DAYS, contract={"even": ROW, "odd": ROW}, drops_rows=True, dead_letter="odd")
    def even(day: date) -> Result:
        tables = {"even": numbers(0, 2), "odd": numbers(1, 3)}
        return Result(tables, books if day.day == 28 else Accounting(read=4, kept=2, rejected=2))

    result = lake.run(even, 0, 2)
    assert told in failure(result)
    assert "Rows must not vanish: the partition was not published." in failure(result)
    assert lake.days("even") == lake.days("odd") == [0, 2]
    found = checks(result)["even.row_accounting"]
    assert not found.passed
    assert found.metadata["days_failed"].value == [key(1)]
    assert {name: found.metadata[name].value for name in ("kept", "rejected")} == {"kept": 2, "rejected": 2}


def test_a_function_that_drops_rows_returns_its_books(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, drops_rows=True)
    def silent(day: date) -> pa.Table:
        return numbers(1)

    assert "the asset drops rows, so its function returns Result(rows, accounting)" in failure(lake.run(silent))


def test_books_counted_by_numpy_are_recorded(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, drops_rows=True)
    def counted(day: date) -> Result:
        three: Any = np.int64(3)
        return Result(numbers(1, 2), Accounting(read=three, kept=three - 1, rejected=three - 2))

    assert lake.run(counted).success
    (record,) = lake.recorded("counted")[0]
    assert (record["rows_read"], record["rows_rejected"]) == (3, 1)
