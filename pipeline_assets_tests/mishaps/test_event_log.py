"""An event log that is not what it was: begun anew over an old lake, with runs deleted, with an asset wiped."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from pipeline_assets_tests.mishaps.world import Shop, World, chain, needed


def test_a_change_is_followed_when_dagster_s_home_is_a_new_one_over_an_old_lake(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    amounts: dict[int, int] = {}
    assets = chain(amounts)[:2]
    world = World.of(instance, tmp_path / "lake", *assets)
    world.compute("sales", "sums", first=0, last=9)
    needed(world.settle() == [], "what is computed is requested")
    with dg.DagsterInstance.ephemeral() as new_home:
        anew = World.of(new_home, tmp_path / "lake", *assets)
        amounts[3] = 5

        anew.compute("sales", first=3)
        anew.settle()

        assert [anew.value("sums", number) for number in (3, 4, 5)] == [7, 7, 7], anew.failures


def test_a_repair_is_followed_after_the_runs_that_it_repairs_were_deleted(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    amounts: dict[int, int] = {}
    world = World.of(instance, tmp_path / "lake", *chain(amounts)[:2])
    world.compute("sales", "sums", first=0, last=9)
    world.settle()
    amounts[3] = 666
    world.compute("sales", first=0, last=9)
    followed = world.settle()
    needed(world.value("sums", 5) == 668, "the bad run was not followed")
    world.delete_newest_runs(1 + len(followed))
    amounts[3] = 5

    world.compute("sales", first=3)
    world.settle()

    assert [world.value("sums", number) for number in (3, 4, 5)] == [7, 7, 7], world.failures


def test_why_the_plan_and_the_sensor_say_the_same_of_days_that_were_wiped(shop: Shop) -> None:
    shop.wipe("daily_sales")

    why = "is missing" in shop.output("why", "daily_sales", shop.key(2))
    plan = "daily_sales" in shop.planned("--mode", "missing")
    sensor = any("daily_sales" in run for run in shop.settle())

    assert why == plan == sensor
