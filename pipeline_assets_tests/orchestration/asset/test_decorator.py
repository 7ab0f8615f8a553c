"""A daily asset, however it is launched: what it leaves in the lake, and what Dagster is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import Result, daily_asset
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import (
    DAYS,
    ROW,
    SHOP,
    TOTALS,
    Lake,
    checks,
    day,
    failure,
    key,
    numbers,
    sha256,
    stamps,
    tables_of,
    totals,
    visits,
)

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The lake of four days as one run leaves it."""
    with dg.DagsterInstance.ephemeral() as instance:
        lake = Lake(tmp_path_factory.mktemp("expected"), instance)
        assert lake.run(SHOP, 0, 3).success
        return tables_of(sha256(lake.root))


def test_one_partition_key_at_a_time_leaves_what_a_range_leaves(disk_lake: Lake, expected: dict[str, str]) -> None:
    for number in range(4):
        assert disk_lake.run_key(SHOP, number).success
    assert tables_of(sha256(disk_lake.root)) == expected


def test_range_tags_of_one_day_each_leave_what_a_range_leaves(disk_lake: Lake, expected: dict[str, str]) -> None:
    for number in range(4):
        assert disk_lake.run(SHOP, number).success
    assert tables_of(sha256(disk_lake.root)) == expected


def test_ranges_of_several_days_leave_what_one_range_leaves(disk_lake: Lake, expected: dict[str, str]) -> None:
    assert disk_lake.run(SHOP, 0, 1).success
    assert disk_lake.run(SHOP, 2, 3).success
    assert tables_of(sha256(disk_lake.root)) == expected


def test_asset_after_asset_leaves_what_one_run_leaves(disk_lake: Lake, expected: dict[str, str]) -> None:
    assert disk_lake.run(SHOP, 0, 3, select=["visits"]).success
    assert disk_lake.run(SHOP, 0, 3, select=["totals"]).success
    assert tables_of(sha256(disk_lake.root)) == expected


@pytest.mark.slow(10)
@pytest.mark.parametrize(
    ("arguments", "executor", "days"),
    [
        (["-f", "definitions.py", "--partition-range", f"{key(0)}...{key(3)}"], "in_process_executor", range(4)),
        (["-m", "definitions", "--partition", key(0)], "multiprocess_executor", [0]),
    ],
    ids=["a range, from a file", "one partition, from a module, a process per step"],
)
def test_the_command_line_of_dagster_leaves_what_a_range_leaves(
    arguments: list[str], executor: str, days: Iterable[int], tmp_path: Path, expected: dict[str, str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "definitions.py").write_text(
        "import dagster as dg\n"
        "from pipeline_assets import ParquetIOManager\n"
        "from pipeline_assets_tests.orchestration.lake import SHOP\n"
        "resources = {'io_manager': ParquetIOManager(root='lake')}\n"
        f"defs = dg.Definitions(SHOP, resources=resources, executor=dg.{executor})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*", *arguments],
        cwd=tmp_path,
        env={
            **os.environ,
            "DAGSTER_HOME": str(tmp_path / "home"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(PROJECT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    asked = tuple(key(number) for number in days)
    assert tables_of(sha256(tmp_path / "lake")) == {
        name: digest for name, digest in expected.items() if any(day in name for day in asked)
    }


def test_the_function_is_called_once_per_day_in_the_order_of_days(lake: Lake) -> None:
    called: list[date] = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def numbered(day: date) -> pa.Table:
        called.append(day)
        return numbers(1)

    lake.run(numbered, 0, 4)
    assert called == [day(number) for number in range(5)]


def test_every_partition_has_its_own_record(disk_lake: Lake) -> None:
    assert disk_lake.run(SHOP, 0, 3).success
    for number, (record,) in disk_lake.recorded("totals").items():
        path = disk_lake.root / "totals" / f"dt={key(number)}" / "data.parquet"
        read = {key(each): disk_lake.digest("visits", each) for each in range(max(number - 2, 0), number + 1)}
        assert record["dagster/row_count"] == len(disk_lake.rows("totals", number))
        assert record["dagster/uri"] == str(path)
        assert record["bytes"] == path.stat().st_size
        assert record["digest"] == disk_lake.digest("totals", number)
        assert record["unchanged"] is False
        assert 0 < record["seconds"] < 60
        assert record["inputs"] == {"visits": read}
        assert record["code_version"] == totals.specs_by_key[dg.AssetKey("totals")].code_version
        columns = {column.name: column for column in record["dagster/column_schema"].columns}
        assert columns["seconds"].type == "int64"
        assert columns["seconds"].description == "Sum."
        assert columns["seconds"].constraints.nullable is False


def test_the_preview_shows_the_first_rows_as_a_table(lake: Lake) -> None:
    contract = Contract((Column("text", pa.string(), nullable=True), Column("n", pa.int64())))
    texts = ["a|b", "two\nlines", None, "x" * 100, "back\\slash", "the sixth"]

    @daily_asset(partitions_def=DAYS, contract=contract)
    def texted(day: date) -> pa.Table:
        rows = pa.table({"text": pa.array(texts, pa.string()), "n": pa.array(range(6), pa.int64())})
        return rows if day.day == 27 else rows.slice(0, 0)

    lake.run(texted, 0, 1)
    recorded = lake.recorded("texted")
    assert recorded[0][0]["preview"].splitlines() == [
        "| text | n |",
        "| --- | --- |",
        r"| a\|b | 0 |",
        "| two lines | 1 |",
        "|  | 2 |",
        f"| {'x' * 59}… | 3 |",
        r"| back\\slash | 4 |",
    ]
    assert recorded[1][0]["preview"] == "no rows"


def test_an_unchanged_day_is_not_touched_and_recorded_anew(disk_lake: Lake) -> None:
    disk_lake.run(SHOP, 0, 2)
    before = stamps(disk_lake.root)
    assert disk_lake.run(SHOP, 0, 2).success
    assert (
        stamps(disk_lake.root).items()
        >= {name: each for name, each in before.items() if "_staging" not in name}.items()
    )
    for newest, oldest in disk_lake.recorded("totals").values():
        assert (newest["unchanged"], oldest["unchanged"]) == (True, False)
        assert newest["digest"] == oldest["digest"]


def test_a_range_emits_one_materialization_per_partition_and_one_result_per_check(lake: Lake) -> None:
    result = lake.run(SHOP, 0, 3)
    kinds = [event.event_type_value for event in result.all_events]
    assert kinds.count("ASSET_MATERIALIZATION") == 2 * 4
    assert kinds.count("ASSET_CHECK_EVALUATION") == 3
    assert kinds.count("HANDLED_OUTPUT") == 0  # the IO manager has nothing to do: the day is published already
    assert kinds.count("LOADED_INPUT") == 1


def test_what_the_author_states_is_seen_in_dagster() -> None:
    @daily_asset(
        partitions_def=DAYS,
        contract=TOTALS,
        key_prefix=["shop"],
        group_name="web",
        owners=["team:data"],
        kinds={"duckdb"},
        code_version="7",
    )
    def visitors(day: date) -> pa.Table:
        """Who came.

        Markdown, not a block of code.
        """
        raise NotImplementedError

    (spec,) = visitors.specs
    assert spec.key == dg.AssetKey(["shop", "visitors"])
    assert (spec.group_name, spec.owners, spec.kinds, spec.code_version) == ("web", ["team:data"], {"duckdb"}, "7")
    assert spec.description == "Who came.\n\nMarkdown, not a block of code."
    assert [column.name for column in spec.metadata["dagster/column_schema"].value.columns] == ["user", "seconds"]
    assert visitors.backfill_policy == dg.BackfillPolicy.single_run()
    assert visitors.partitions_def == DAYS


def test_the_code_version_follows_code_contract_and_params() -> None:
    def version(function: Callable[..., pa.Table], contract: Contract = ROW, **params: int) -> str:
        made = daily_asset(function, partitions_def=DAYS, contract=contract, params=params)
        return str(next(iter(made.specs)).code_version)

    def one(day: date, step: int = 1) -> pa.Table:
        return numbers(step)

    same = version(one)

    def one(day: date, step: int = 1) -> pa.Table:  # type: ignore[no-redef]
        """With words."""
        return numbers(step)  # and a comment

    assert version(one) == same
    assert version(one, step=2) != same
    assert version(one, Contract(ROW.columns, version=2)) != same

    def one(day: date, step: int = 1) -> pa.Table:  # type: ignore[no-redef]
        return numbers(step, step)

    assert version(one) != same


def test_params_reach_the_function_and_its_checks(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"visits": same_day()}, params={"factor": 3})
    def scaled(day: date, visits: pa.Table, *, factor: int) -> pa.Table:
        return numbers(visits.num_rows * factor)

    lake.run([visits, scaled], 1)
    assert lake.rows("scaled", 1) == [{"n": 3 * len(lake.rows("visits", 1))}]


def test_a_key_prefix_is_the_folder_of_the_table(disk_lake: Lake) -> None:
    def counts(day: date) -> pa.Table:
        return numbers(day.day)

    def doubled(day: date, counts: pa.Table) -> pa.Table:
        return numbers(counts["n"][0].as_py() * 2)

    for prefix in (["shop", "web"], ["shop", "app"]):
        made = daily_asset(counts, partitions_def=DAYS, contract=ROW, key_prefix=prefix)
        read = daily_asset(doubled, partitions_def=DAYS, contract=ROW, key_prefix=prefix, ins={"counts": same_day()})
        assert disk_lake.run([made, read], 0, 1).success
    assert disk_lake.rows("shop/app/doubled", 1) == [{"n": 56}]
    assert sorted(path.name for path in (disk_lake.root / "shop" / "web" / "counts").iterdir()) == [
        f"dt={key(number)}" for number in range(2)
    ]


def test_two_assets_of_one_name_with_different_prefixes_live_in_one_project(lake: Lake) -> None:
    def counts(day: date) -> pa.Table:
        return numbers(day.day)

    made = [
        daily_asset(counts, partitions_def=DAYS, contract=ROW, key_prefix=prefix) for prefix in (["web"], ["app"], [])
    ]
    assert lake.run(made, 0, 1).success
    assert lake.days("web/counts") == lake.days("app/counts") == lake.days("counts") == [0, 1]


ODD = Contract((Column("n", pa.int64()), Column("why", pa.string())))


def test_one_function_makes_several_tables_with_their_own_records(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract={"even": ROW, "rejected": ODD}, drops_rows=True, dead_letter="rejected")
    def even(day: date) -> Result:
        kept, dropped = numbers(0, 2), numbers(1, 3, 5)
        tables = {"even": kept, "rejected": dropped.append_column("why", pa.array(["odd"] * 3))}
        return Result(tables, Accounting(read=5, kept=2, rejected=3))

    result = lake.run(even, 0, 1)
    assert result.success
    assert [row["n"] for row in lake.rows("rejected", 1)] == [1, 3, 5]
    (main,), (dead,) = lake.recorded("even")[1], lake.recorded("rejected")[1]
    assert (main["rows_read"], main["rows_duplicate"], main["rows_rejected"]) == (5, 0, 3)
    assert main["dagster/row_count"] == 2
    assert dead["dagster/row_count"] == 3
    assert "rows_read" not in dead
    assert set(checks(result)) == {"even.contract", "rejected.contract", "even.row_accounting"}
    assert all(each.passed for each in checks(result).values())


def test_tables_may_come_bit_by_bit_and_be_counted_at_the_end(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract={"even": ROW, "rejected": ROW}, drops_rows=True, dead_letter="rejected")
    def even(day: date) -> Result:
        seen = []

        def streams() -> Iterator[dict[str, pa.Table]]:
            for number in range(5):
                seen.append(number)
                yield {"rejected" if number % 2 else "even": numbers(number)}

        return Result(streams(), lambda: Accounting(read=len(seen), kept=3, rejected=2))

    assert lake.run(even).success
    assert lake.rows("even", 0) == [{"n": 0}, {"n": 2}, {"n": 4}]
    assert lake.rows("rejected", 0) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "a NoneType was returned; return a pandas.DataFrame, pyarrow.Table"),
        ("rows", "a str was returned"),
        ([{"n": 1}], "a list was returned"),
        ({"wrong": numbers(1)}, "a dict was returned"),
        (pa.table({"m": pa.array([1], pa.int64())}), "columns are ['m']; missing: ['n'], not in the contract: ['m']"),
        (pa.table({"n": ["x"]}), "n is string, the contract says int64"),
        (pa.table({"n": pa.array([None], pa.int64())}), "n is null (1 of 1 rows)"),
    ],
    ids=["nothing", "text", "list", "mapping", "other columns", "other type", "null"],
)
def test_what_is_no_frame_of_the_contract_is_named_and_not_published(lake: Lake, returned: object, told: str) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def wrong(day: date) -> object:
        return returned

    result = lake.run(wrong)
    assert told in failure(result)
    assert f"wrong {key(0)}: " in failure(result)
    assert lake.days("wrong") == []
    assert checks(result)["wrong.contract"].passed is False


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "a NoneType was returned; an asset of the tables main, rest returns a mapping"),
        (numbers(1), "a Table was returned"),
        ({"main": numbers(1), "typo": numbers(2)}, "main, typo was returned"),
        ({"main": numbers(1)}, "main was returned; an asset of the tables main, rest returns a mapping with a frame"),
        ({}, "an empty mapping was returned"),
    ],
    ids=["nothing", "one frame", "unknown table", "a table is left out", "all are left out"],
)
def test_a_function_of_several_tables_returns_all_of_them(lake: Lake, returned: object, told: str) -> None:
    @daily_asset(partitions_def=DAYS, contract={"main": ROW, "rest": ROW})
    def main(day: date) -> object:
        return returned

    assert told in failure(lake.run(main))
    assert lake.days("main") == lake.days("rest") == []


def test_a_resource_that_is_no_parquet_io_manager_is_named(lake: Lake) -> None:
    told = failure(lake.run(visits, resources={"io_manager": dg.mem_io_manager}))
    assert "visits: the resource 'io_manager' is a InMemoryIOManager" in told
    assert "ParquetIOManager(root=...)" in told


def test_another_resource_may_hold_the_lake(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, io_manager_key="lake")
    def elsewhere(day: date) -> pa.Table:
        return numbers(1)

    assert lake.run(elsewhere, resources={"lake": lake.manager}).success
    assert lake.days("elsewhere") == [0]
