"""A new table is one new file: files are found, get the project's defaults, and what is wrong is said with the file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from pipeline_assets.errors import DefinitionError
from pipeline_assets.orchestration.asset.decorator import daily_asset
from pipeline_assets.orchestration.asset.package import Asset, with_tables_of
from pipeline_assets_tests.orchestration.lake import DAYS, ROW

HEADER = """
from datetime import date
import dagster as dg, pyarrow as pa
from pipeline_assets import Column, Contract, daily_asset, same_day
ROW = Contract((Column("n", pa.int64()),))
"""
TABLE = """
@daily_asset(contract=ROW{options})
def {name}(day: date{inputs}) -> pa.Table:
    return pa.table({{"n": [day.day]}})
"""
LANDED = dg.AssetSpec("landed", partitions_def=DAYS)


class Files:
    """A package whose files the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "__init__.py").touch()

    def write(self, name: str, code: str) -> None:
        (self.folder / f"{name}.py").write_text(HEADER + code)

    def table(self, name: str, *, file: str | None = None, options: str = "", inputs: str = "") -> None:
        self.write(file or name, TABLE.format(name=name, options=options, inputs=inputs))

    @property
    def package(self) -> ModuleType:
        return import_module(self.folder.name)

    def assets(self) -> dict[str, Asset]:
        policy = dg.BackfillPolicy.multi_run(7)
        found = with_tables_of(
            self.package,
            [LANDED],
            partitions_def=DAYS,
            group_name="shop",
            owners=["team:data"],
            io_manager_key="lake",
            backfill_policy=policy,
        )
        return {each.key.to_user_string(): each for each in found}

    def refusal(self) -> str:
        with pytest.raises(DefinitionError) as raised:
            self.assets()
        return str(raised.value)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.syspath_prepend(tmp_path)
    yield Files(tmp_path / "tables")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tables"]:
        del sys.modules[name]


def test_files_are_found_in_the_order_of_their_names_and_get_the_defaults(files: Files) -> None:
    files.table("visits")
    files.table("orders", options=', ins={"visits": same_day()}', inputs=", visits: pa.Table")
    files.write("helpers", "LIMIT = 3")
    (files.folder / "inside").mkdir()
    (files.folder / "inside" / "__init__.py").write_text("raise RuntimeError")
    found = files.assets()
    assert list(found) == ["landed", "orders", "visits"]
    orders = found["orders"]
    assert isinstance(orders, dg.AssetsDefinition)
    (spec,) = orders.specs
    assert (spec.group_name, spec.owners, spec.partitions_def) == ("shop", ["team:data"], DAYS)
    assert orders.backfill_policy == dg.BackfillPolicy.multi_run(7)
    assert "lake" in orders.required_resource_keys


def test_what_the_author_states_goes_before_the_defaults(files: Files) -> None:
    own = 'dg.DailyPartitionsDefinition("2025-01-01", timezone="Asia/Tokyo")'
    files.table("orders", options=', group_name="finance", owners=None, backfill_policy=dg.BackfillPolicy.single_run()')
    files.table("sales", options=f', group_name="finance", partitions_def={own}')
    files.write("plain", "@dg.asset\ndef plain() -> None: ...")
    found = files.assets()
    assert {name: group(each) for name, each in found.items()} == {
        "landed": None,
        "orders": "finance",
        "plain": "default",
        "sales": "finance",
    }
    orders, sales = found["orders"], found["sales"]
    assert isinstance(orders, dg.AssetsDefinition)
    assert orders.backfill_policy == dg.BackfillPolicy.single_run()
    assert [spec.owners for spec in orders.specs] == [[]]
    assert isinstance(sales.partitions_def, dg.DailyPartitionsDefinition)
    assert sales.partitions_def.timezone == "Asia/Tokyo"


def group(asset: Asset) -> str | None:
    return asset.group_name if isinstance(asset, dg.AssetSpec) else next(iter(asset.specs)).group_name


def test_a_table_that_another_file_imports_is_one_table(files: Files) -> None:
    files.table("visits")
    files.write("again", "from tables.visits import visits")
    assert list(files.assets()) == ["landed", "visits"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nimport nosuch\n", "tables/a.py, line 7: cannot be imported: ModuleNotFoundError: No module named"),
        ("def f(:", "tables/a.py: cannot be imported: SyntaxError: invalid syntax (a.py, line 6)"),
        ("ROW.nosuch()", "tables/a.py, line 6: cannot be imported: AttributeError: 'Contract' object has no attribute"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_line(files: Files, code: str, said: str) -> None:
    files.write("a", code)
    assert said in files.refusal()


def test_two_tables_of_one_name_are_refused_with_both_files(files: Files) -> None:
    files.table("orders", file="a")
    files.table("orders", file="b")
    assert files.refusal() == "tables/b.py: tables/a.py has a table orders already. Name one of them otherwise."


def test_a_table_that_the_pipeline_has_is_refused(files: Files) -> None:
    files.table("landed", file="a")
    assert files.refusal() == "tables/a.py: the pipeline has a table landed already. Name one of them otherwise."


def test_an_input_that_there_is_not_is_refused(files: Files) -> None:
    files.table("orders", options=', ins={"visit": same_day()}', inputs=", visit: pa.Table")
    assert files.refusal() == "tables/orders.py: its input visit is no table; tables: landed, orders"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (', ins={"landed": same_day()}', "daily_asset orders: its function takes the day, its ins and its params"),
        (", colour=1", "unexpected keyword argument 'colour'"),
        (', due="06:00"', "daily_asset orders: its due is '06:00'; write by('06:00')"),
    ],
)
def test_options_that_do_not_fit_are_refused(files: Files, options: str, said: str) -> None:
    files.table("orders", options=options)
    told = files.refusal()
    assert told.startswith("tables/orders.py: orders cannot be made an asset: ")
    assert said in told


def test_a_declared_asset_is_the_function_when_it_is_called() -> None:
    @daily_asset(contract=ROW)
    def doubled(day: int, *, times: int = 2) -> int:
        return day * times

    assert (doubled(2), doubled(2, times=3)) == (4, 6)


def test_the_code_version_is_that_of_the_function_whoever_gives_the_days() -> None:
    def numbered(day: int) -> int:
        return day

    declared = daily_asset(numbered, contract=ROW).with_defaults(DAYS, group_name="shop")
    whole = daily_asset(numbered, contract=ROW, partitions_def=DAYS)
    assert [spec.code_version for spec in declared.specs] == [spec.code_version for spec in whole.specs]
