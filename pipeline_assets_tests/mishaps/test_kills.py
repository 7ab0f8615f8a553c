"""Processes that are killed between a publish and its record: what is left is found, and mended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import Result, daily_asset
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets_tests.mishaps.world import DAYS, World, chain, needed, run_and_be_killed

pytestmark = pytest.mark.slow(5)

NAMED = Contract((Column("name", pa.string()),), key=("name",))
DELIVERED = ("r1", "r2", "r3", "r4")


def sold_two(_: Path) -> Sequence[Any]:
    """Return tables of which one day is another than before, in as many bytes."""
    return chain({3: 2})[:2]


def test_what_was_published_and_not_recorded_is_followed_though_its_size_is_that_of_before(
    tmp_path: Path, on_disk: dg.DagsterInstance
) -> None:
    world = World.of(on_disk, tmp_path / "lake", *chain({})[:2])
    world.compute("sales", "sums", first=0, last=9)
    needed(world.settle() == [], "what is computed is requested")
    size = world.size("sales", 3)
    run_and_be_killed(world, sold_two, "sales", first=3)
    needed((world.value("sales", 3), world.size("sales", 3)) == (2, size), "another file of the same size")
    world.deploy(*sold_two(tmp_path))

    world.settle()
    world.carry_out()

    assert [world.value("sums", number) for number in (3, 4, 5)] == [4, 4, 4], world.failures


def sorted_out(*bad: str) -> Sequence[Any]:
    """Define two tables that one function makes: every name is kept or rejected."""

    def kept(day: object) -> Result:
        names = {"kept": [each for each in DELIVERED if each not in bad], "rejected": list(bad)}
        rows = {table: pa.table({"name": pa.array(listed, pa.string())}) for table, listed in names.items()}
        return Result(rows, Accounting(len(DELIVERED), len(names["kept"]), 0, len(bad)))

    contract = {"kept": NAMED, "rejected": NAMED}
    return [
        daily_asset(
            kept, partitions_def=DAYS, contract=contract, drops_rows=True, dead_letter="rejected", code_version="1"
        )
    ]


def none_is_bad(_: Path) -> Sequence[Any]:
    """Return the tables after their source was mended."""
    return sorted_out()


def test_no_row_is_in_neither_of_two_tables_when_a_process_was_killed_between_them(
    tmp_path: Path, on_disk: dg.DagsterInstance
) -> None:
    world = World.of(on_disk, tmp_path / "lake", *sorted_out("r4"))
    world.compute("kept", "rejected", first=0, last=9)
    needed(world.settle() == [], "what is computed is requested")
    needed(names_of(world) == list(DELIVERED), "a name is lost before anything happened")
    run_and_be_killed(world, none_is_bad, "kept", "rejected", first=0)
    world.deploy(*none_is_bad(tmp_path))

    world.settle()
    world.carry_out()

    assert names_of(world) == list(DELIVERED), world.failures


def names_of(world: World) -> list[str]:
    return sorted({row["name"] for table in ("kept", "rejected") for row in world.rows(table, 0)})
