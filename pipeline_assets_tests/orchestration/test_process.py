"""Ranges run in this process: which runs they become, on which instance, and what is read back of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from subprocess import PIPE

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.process import (
    PlannedRun,
    execute,
    failures_of,
    open_instance,
    plan_range,
    selected_keys,
    warnings_of,
    was_interrupted,
)
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.windows import arrivals, same_day, trailing
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, Lake, day, key, numbers, visits

PROJECT = Path(__file__).resolve().parents[2]


@daily_asset(partitions_def=DAYS, contract={"raw": ROW, "rejected": ROW})
def raw(day: date) -> dict[str, pa.Table]:
    return {"raw": numbers(day.day), "rejected": numbers()}


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"raw": arrivals(lateness_days=1)})
def clean(day: date, raw: pa.Table) -> pa.Table:
    return raw.select(["n"])


@daily_asset(partitions_def=DAYS, contract={"features": ROW, "odd": ROW}, ins={"clean": trailing(days=3)})
def features(day: date, clean: pa.Table) -> dict[str, pa.Table]:
    return {"features": clean.select(["n"]), "odd": numbers()}


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"clean": same_day()})
def middle(day: date, clean: pa.Table) -> pa.Table:
    return clean


@pytest.fixture
def defs(disk_lake: Lake) -> dg.Definitions:
    return dg.Definitions([middle, features, raw, clean], resources={"io_manager": disk_lake.manager})


def names(keys: object) -> list[str]:
    return [each.to_user_string() for each in keys]  # type: ignore[attr-defined]  # asset keys


def planned(runs: list[PlannedRun]) -> list[tuple[list[str], int, int]]:
    return [(names(run.keys), (run.first - day(0)).days, (run.last - day(0)).days) for run in runs]


# Which tables.


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, ["raw", "rejected", "clean", "features", "middle", "odd"]),
        ("clean", ["clean"]),
        ("clean+", ["clean", "features", "middle", "odd"]),
        ("+clean", ["raw", "rejected", "clean"]),
        ("middle,clean", ["clean", "middle"]),
        ("raw", ["raw", "rejected"]),
        ("odd", ["features", "odd"]),
        ("*", ["raw", "rejected", "clean", "features", "middle", "odd"]),
    ],
)
def test_a_selection_is_upstream_first_with_all_tables_of_a_function(
    defs: dg.Definitions, selection: str | None, expected: list[str]
) -> None:
    assert names(selected_keys(defs, selection)) == expected


@pytest.mark.parametrize("selection", ["nothing", "clean,nothing", "key:nothing", "and and", ""])
def test_a_selection_of_no_table_lists_the_tables(defs: dg.Definitions, selection: str) -> None:
    with pytest.raises(UsageError) as raised:
        selected_keys(defs, selection)
    assert f"--select {selection} " in str(raised.value)
    assert "Assets: raw, rejected, clean, features, middle, odd." in str(raised.value)


def test_tables_of_others_are_not_run(disk_lake: Lake) -> None:
    foreign = dg.AssetSpec("foreign", partitions_def=DAYS)
    assert names(selected_keys(dg.Definitions([foreign, visits]), None)) == ["visits"]


# Which days.


def test_a_new_range_is_one_run_of_all_tables(defs: dg.Definitions, disk_lake: Lake) -> None:
    keys = selected_keys(defs, None)
    together = ["raw", "rejected", "clean", "features", "odd", "middle"]
    assert planned(plan_range(defs, keys, [day(1), day(2)], disk_lake.store)) == [(together, 1, 2)]


def test_days_that_read_what_is_computed_anew_are_computed_too(defs: dg.Definitions, disk_lake: Lake) -> None:
    keys = selected_keys(defs, None)
    for run in plan_range(defs, keys, [day(number) for number in range(8)], disk_lake.store):
        assert execute(defs, run, disk_lake.instance).success
    assert planned(plan_range(defs, keys, [day(4)], disk_lake.store)) == [
        (["raw", "rejected"], 4, 4),
        (["clean"], 3, 5),
        (["features", "odd"], 3, 7),
        (["middle"], 3, 5),
    ]


def test_days_with_a_gap_are_runs_of_their_own(defs: dg.Definitions, disk_lake: Lake) -> None:
    keys = selected_keys(defs, "raw")
    assert planned(plan_range(defs, keys, [day(0), day(2), day(3)], disk_lake.store)) == [
        (["raw", "rejected"], 0, 0),
        (["raw", "rejected"], 2, 3),
    ]


def test_tables_of_one_function_are_run_together_also_when_one_has_lost_days(
    defs: dg.Definitions, disk_lake: Lake
) -> None:
    keys = selected_keys(defs, None)
    for run in plan_range(defs, keys, [day(number) for number in range(6)], disk_lake.store):
        assert execute(defs, run, disk_lake.instance).success
    shutil.rmtree(disk_lake.root / "odd" / f"dt={key(3)}")
    runs = plan_range(defs, keys, [day(2)], disk_lake.store)
    assert (["features", "odd"], 1, 5) in planned(runs)
    assert all(execute(defs, run, disk_lake.instance).success for run in runs)


def test_a_window_of_a_plain_asset_that_leaves_its_own_day_out_can_be_planned(disk_lake: Lake) -> None:
    with pytest.warns(dg.BetaWarning):
        mapping = dg.TimeWindowPartitionMapping(-2, -1, allow_nonexistent_upstream_partitions=True)

    @dg.asset(partitions_def=DAYS, ins={"visits": dg.AssetIn(partition_mapping=mapping)})
    def before(visits: pa.Table) -> pa.Table:
        return visits

    defs = dg.Definitions([visits, before], resources={"io_manager": disk_lake.manager})
    disk_lake.run(visits, 0, 3)
    for number in range(1, 4):
        assert disk_lake.run([visits, before], number, select=["before"]).success
    runs = plan_range(defs, selected_keys(defs, None), [day(1)], disk_lake.store)
    assert planned(runs) == [(["visits"], 1, 1), (["before"], 1, 3)]


# What comes of a run.


@check(blocking=False)
def is_liked(day: date) -> Finding:
    """Nobody likes it."""
    return Finding(passed=False, message=f"{day}: nobody likes it")


def test_failures_and_warnings_are_in_the_words_of_the_steps(disk_lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, checks=[is_liked])
    def daily(day: date) -> pa.Table:
        if day.day == 28:
            raise ZeroDivisionError
        return numbers(1)

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def plain() -> None:
        raise ValueError("a bug of the user")

    defs = dg.Definitions([daily, plain], resources={"io_manager": disk_lake.manager}, executor=dg.in_process_executor)
    run = PlannedRun(tuple(selected_keys(defs, None)), day(0), day(1))
    result = execute(defs, run, disk_lake.instance)
    said = sorted(failures_of(result))
    assert said[0].startswith("daily: 1 of 2 days failed; 1 were committed and recorded.\n")
    assert said[1] == "plain: ValueError: a bug of the user"
    assert warnings_of(result) == [f"daily, is_liked: {key(0)}: nobody likes it"]
    (recorded,) = disk_lake.instance.get_runs()
    assert recorded.status == dg.DagsterRunStatus.FAILURE
    assert recorded.tags["dagster/asset_partition_range_start"] == key(0)
    assert recorded.tags["dagster/asset_partition_range_end"] == key(1)


def test_an_interrupted_run_is_recorded_as_failed_and_the_interrupt_goes_on(disk_lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def stopped(day: date) -> pa.Table:
        if day.day == 28:
            raise KeyboardInterrupt
        return numbers(1)

    defs = dg.Definitions([stopped], resources={"io_manager": disk_lake.manager})
    assert was_interrupted(execute(defs, PlannedRun((dg.AssetKey("stopped"),), day(0), day(2)), disk_lake.instance))
    assert [run.status for run in disk_lake.instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
    assert sorted(disk_lake.recorded("stopped")) == [0]


OPEN = """
import sys
from pathlib import Path
import dagster as dg
from pipeline_assets.orchestration.process import open_instance
print("ready", flush=True)
sys.stdin.readline()
with open_instance(Path.cwd()) as instance:
    instance.report_runless_asset_event(dg.AssetMaterialization(sys.argv[1]))
    print(len(instance.fetch_materializations(dg.AssetKey(sys.argv[1]), limit=5).records))
"""


@pytest.mark.slow(7)
def test_processes_that_open_a_fresh_instance_at_once_all_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)  # where the paths in it start
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, f"asset{number}"], text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        for number in range(3)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            out, err = child.communicate(timeout=120)
            assert (child.returncode, out) == (0, "1\n"), err
    finally:
        for child in children:
            child.kill()
            child.communicate()
    with open_instance(tmp_path) as instance:
        assert len(instance.get_asset_keys()) == 3
