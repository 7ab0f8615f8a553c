"""What `from pipeline_assets import ...` gives: every public name, with its type, when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, assert_type

import dagster as dg
import pytest

import pipeline_assets
from pipeline_assets import (
    Accounting,
    Check,
    Column,
    Contract,
    DailyAsset,
    Finding,
    ParquetIOManager,
    arrivals,
    by,
    check,
    daily_asset,
    same_day,
    trailing,
)
from pipeline_assets.orchestration.asset import decorator
from pipeline_assets.rules import contract, due, windows
from pipeline_assets_tests.orchestration.lake import DAYS, ROW

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there_and_is_the_one_of_its_module() -> None:
    given = {name: getattr(pipeline_assets, name) for name in pipeline_assets.__all__}
    assert all(value.__module__.startswith("pipeline_assets.") for value in given.values())
    assert (given["daily_asset"], given["Column"]) == (decorator.daily_asset, contract.Column)


def test_a_name_that_there_is_not_is_said() -> None:
    with pytest.raises(AttributeError, match="module 'pipeline_assets' has no attribute 'dayly_asset'"):
        getattr(pipeline_assets, "dayly_asset")  # noqa: B009 - mypy knows that it is not there


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, pipeline_assets as front; heavy = {'dagster', 'pyarrow', 'pandas', 'duckdb', 'pydantic'};"
        "print(*heavy & set(sys.modules)); front.Accounting; front.same_day; print(*heavy & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


def test_loading_the_definitions_imports_nothing_that_only_some_runs_need() -> None:
    code = (
        "import sys, dagster; before = set(sys.modules); import pipeline_assets.definitions;"
        "print(*{'requests', 'urllib3', 'sqlalchemy', 'pandas'} & (set(sys.modules) - before))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


def test_public_names_have_their_types() -> None:
    """`make lint` checks what stands here; a name that mypy took for anything would fail it."""
    assert_type(by("06:00"), due.Due)
    assert_type([same_day(), trailing(days=2), arrivals(lateness_days=1)], list[windows.Window])
    assert_type(ROW.key, tuple[str, ...])
    assert_type(Accounting(read=1, kept=1).unaccounted, int)
    assert_type(Column, type[contract.Column])
    assert_type(Contract, type[contract.Contract])
    assert issubclass(ParquetIOManager, dg.ConfigurableIOManager)

    @check(blocking=False)
    def never() -> Finding:
        return Finding(passed=False, message="")

    assert_type(never, Check)

    @daily_asset(contract=ROW)
    def declared(day: date) -> int:
        return day.day

    assert isinstance(declared, DailyAsset)
    assert_type(declared(day=date(2024, 2, 29)), int)
    assert_type(declared.with_defaults(DAYS), dg.AssetsDefinition)

    @daily_asset(contract=ROW, partitions_def=DAYS)
    def whole(day: date) -> int:
        return day.day

    assert_type(whole, dg.AssetsDefinition)
    assert declared(date(2024, 2, 29)) == 29


def test_what_mypy_would_refuse_is_refused_when_the_asset_is_made() -> None:
    wrong: Mapping[str, Any] = {"contract": ROW, "dead_leter": "x"}
    decorate: Callable[..., Any] = daily_asset
    declared = decorate(**wrong)(lambda day: day)
    with pytest.raises(TypeError, match="dead_leter"):
        declared.with_defaults(DAYS)
