"""What somebody is making, or was making until it was stopped."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets_tests.mishaps.world import World, chain, needed


@pytest.mark.filterwarnings(
    "ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning"
)  # Dagster's own
def test_partitions_of_an_open_backfill_are_left_to_it_however_many_newer_ones_have_ended(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    amounts: dict[int, int] = {}
    world = World.of(instance, tmp_path / "lake", *chain(amounts)[:2])
    world.compute("sales", "sums", first=0, last=9)
    world.settle()
    world.launch_backfill("long", "sums", range(10))
    amounts[3] = 5
    world.compute("sales", first=3)
    needed(world.request().requested == (), "what an open backfill makes is requested")

    for number in range(20):
        world.launch_backfill(f"small{number}", "sums", [9], is_done=True)

    assert world.request().requested == (), world.failures


def test_days_of_a_run_that_was_cancelled_are_taken_up_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    amounts: dict[int, int] = {}
    world = World.of(instance, tmp_path / "lake", *chain(amounts))
    world.compute("sales", "sums", "weeks", first=0, last=9)
    world.settle()
    amounts[3] = 5
    world.compute("sales", first=3)
    needed(world.cancel().requested == ("sums 2024-03-01..2024-03-03",), "another run is requested")

    world.settle()

    assert [world.value("sums", number) for number in (3, 4, 5)] == [7, 7, 7], world.failures
    assert [world.value("weeks", number) for number in (6, 7)] == [27, 27], world.failures
