"""Files of the lake that somebody else wrote, changed, damaged, removed or put back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_assets_tests.mishaps.world import World, chain, needed

STRANGE = 3
"""Number of the day of `sales` that is interfered with."""


def file_of(world: World, number: int = STRANGE) -> Path:
    return world.lake.root / "sales" / f"dt={world.key(number)}" / "data.parquet"


def overwrite(world: World) -> None:
    pq.write_table(pa.table({"n": [666]}), file_of(world))


def damage(world: World) -> None:
    file_of(world).write_bytes(file_of(world).read_bytes()[:-7])


def remove(world: World) -> None:
    shutil.rmtree(file_of(world).parent)


def take_another_day_s(world: World) -> None:
    shutil.copyfile(file_of(world, 9), file_of(world))


STRANGERS = [overwrite, damage, remove, take_another_day_s]


@pytest.fixture
def amounts() -> dict[int, int]:
    """What is sold on days on which it is not the usual."""
    return {9: 9}


@pytest.fixture
def world(tmp_path: Path, instance: dg.DagsterInstance, amounts: dict[int, int]) -> World:
    """Ten days of two tables, all of which are current."""
    made = World.of(instance, tmp_path / "lake", *chain(amounts)[:2])
    made.compute("sales", "sums", first=0, last=9)
    needed(made.settle() == [], "what is computed is requested")
    return made


def values_of(world: World) -> list[tuple[int, int]]:
    return [(world.value("sales", number), world.value("sums", number)) for number in range(10)]


@pytest.mark.parametrize("interfere", STRANGERS)
def test_a_plan_makes_it_again_and_the_lake_is_as_it_was(world: World, interfere: Callable[[World], None]) -> None:
    before = values_of(world)
    interfere(world)

    assert STRANGE in world.plan()["sales"]
    world.carry_out()

    assert values_of(world) == before
    assert world.plan() == {}


@pytest.mark.parametrize("interfere", [overwrite, damage, take_another_day_s])
def test_what_reads_it_waits_until_the_sensor_had_it_made_again(
    world: World, amounts: dict[int, int], interfere: Callable[[World], None]
) -> None:
    interfere(world)
    amounts[4] = 5
    world.compute("sales", first=4)

    assert world.tick().requested == (f"sums {world.key(6)}",), "those of the days before would read it"
    assert world.tick().requested == (f"sales {world.key(STRANGE)}",)
    world.settle()

    assert [world.value("sums", number) for number in range(3, 8)] == [3, 7, 7, 7, 3], world.failures
    assert world.plan() == {}


def test_it_is_made_again_as_often_as_somebody_interferes(world: World, amounts: dict[int, int]) -> None:
    for times in (1, 2, 3):
        overwrite(world)
        amounts[4] = 4 + times
        world.compute("sales", first=4)

        world.settle()

        assert world.value("sales", STRANGE) == 1
        assert [world.value("sums", number) for number in (3, 4, 5, 6)] == [3, *[6 + times] * 3], world.failures


def test_a_lake_that_was_restored_from_yesterday_is_made_again_where_it_differs(
    world: World, amounts: dict[int, int], tmp_path: Path
) -> None:
    shutil.copytree(world.lake.root, tmp_path / "yesterday")
    amounts[STRANGE] = 5
    world.compute("sales", first=STRANGE)
    world.settle()
    expected = values_of(world)
    shutil.rmtree(world.lake.root)
    shutil.copytree(tmp_path / "yesterday", world.lake.root)
    needed(values_of(world) != expected)

    assert world.plan() == {}, "yesterday's lake fits together"
    world.compute("sales", first=STRANGE)
    world.settle()

    assert values_of(world) == expected
    assert world.plan() == {}


def test_a_table_that_was_put_back_to_yesterday_is_followed(
    world: World, amounts: dict[int, int], tmp_path: Path
) -> None:
    for folder in ("sales", "_records/sales"):
        shutil.copytree(world.lake.root / folder, tmp_path / "yesterday" / folder)
    before = values_of(world)
    amounts[STRANGE] = 5
    world.compute("sales", first=STRANGE)
    world.settle()
    needed(values_of(world) != before)
    for folder in ("sales", "_records/sales"):
        shutil.rmtree(world.lake.root / folder)
        shutil.copytree(tmp_path / "yesterday" / folder, world.lake.root / folder)

    world.carry_out()

    assert values_of(world) == before, "of what is upstream now"
    assert world.plan() == {}
