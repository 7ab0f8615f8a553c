"""What `pipeline why` says of partitions in every state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from pipeline_assets import daily_asset
from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.changes.explanation import Explanation, explain
from pipeline_assets.orchestration.changes.upstream_sensor import NAME, upstream_sensor
from pipeline_assets.rules.staleness import StalenessStatus
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import DAYS, QUIET, ROW, SHOP, Lake, day, key, numbers


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"totals": same_day()})
def fragile(day: date, totals: pa.Table) -> pa.Table:
    if totals.num_rows > 3:
        raise ValueError("more than three users")
    return numbers(totals.num_rows)


class Keeper:
    """Ticks the sensor and runs what it requests, as a daemon does."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.sensor = upstream_sensor(
            selection=dg.AssetSelection.all(), store=lake.store, default_status=dg.DefaultSensorStatus.STOPPED
        )
        self.defs = dg.Definitions(
            assets=[*SHOP, fragile],
            sensors=[self.sensor],
            resources={"io_manager": lake.manager},
            executor=dg.in_process_executor,
        )
        self.cursor: str | None = None

    def tick(self, *, runs: bool = True) -> list[dg.RunRequest]:
        repository = self.defs.get_repository_def()
        context = dg.build_sensor_context(self.lake.instance, self.cursor, repository_def=repository)
        ticked = self.sensor.evaluate_tick(context)
        self.cursor = ticked.cursor
        for request in ticked.run_requests or () if runs else ():
            assert request.asset_selection is not None
            self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=self.lake.instance,
                asset_selection=list(request.asset_selection),
                tags={**request.tags, "dagster/run_key": request.run_key or ""},
                run_config=QUIET,
                raise_on_error=False,
            )
        return list(ticked.run_requests or ())

    def settle(self) -> None:
        while self.tick():
            pass

    def store_cursor(self) -> None:
        """Where the daemon keeps it."""
        repository = self.defs.get_repository_def()
        origin = RemoteInstigatorOrigin(
            RemoteRepositoryOrigin(
                InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=__name__)), repository.name
            ),
            NAME,
        )
        status = InstigatorState(
            origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(cursor=self.cursor)
        )
        self.lake.instance.add_instigator_state(status)

    def why(self, table: str, number: int) -> Explanation:
        return explain(self.lake.instance, self.defs, self.lake.store, table, day(number))


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        yield Keeper(Lake(tmp_path / "lake", instance))


def test_what_it_was_made_from_is_told_with_the_run_and_why_it_ran(keeper: Keeper) -> None:
    keeper.lake.run(SHOP[0], 0, 2)
    keeper.settle()
    found = keeper.why("totals", 2)

    assert found.status is StalenessStatus.CURRENT
    assert [(str(each.partition), each.read == each.now is not None) for each in found.inputs] == [
        (f"visits {day(number)}", True) for number in (0, 1, 2)
    ]
    assert found.record is not None
    assert found.record.digest == keeper.lake.digest("totals", 2)
    assert found.launched == f"requested by upstream_sensor: new or changed: visits {key(0)} to {key(2)}"
    assert found.record is not None
    assert keeper.lake.instance.get_run_by_id(found.record.run_id) is not None


def test_a_change_upstream_is_named_with_both_digests(keeper: Keeper) -> None:
    keeper.lake.run(SHOP, 0, 2)
    before = keeper.lake.digest("visits", 1)
    after = keeper.lake.put("visits", 1, numbers(1))
    found = keeper.why("totals", 2)

    assert found.status is StalenessStatus.STALE
    assert f"Upstream changed since it was made: visits {day(1)}." in found.reasons
    (changed,) = [each for each in found.inputs if each.read != each.now]
    assert (changed.read, changed.now) == (before, after)
    assert "upstream_sensor is not running" in found.reasons[-1]


def test_an_input_that_came_again_with_the_same_bytes_is_told_apart(keeper: Keeper) -> None:
    keeper.lake.run(SHOP, 0, 1)
    keeper.lake.run(SHOP[0], 1)
    found = keeper.why("totals", 1)

    assert found.status is StalenessStatus.CURRENT
    assert {str(each.partition): each.rewritten for each in found.inputs} == {
        f"visits {day(0)}": False,
        f"visits {day(1)}": True,
    }


def test_what_was_never_computed_waits_for_its_input_or_could_be_made(keeper: Keeper) -> None:
    assert keeper.why("totals", 0).status is StalenessStatus.WAITING
    assert keeper.why("totals", 0).reasons[0].endswith(f"visits {day(0)}.")
    keeper.lake.run(SHOP[0], 0)

    found = keeper.why("totals", 0)
    assert (found.status, found.record) == (StalenessStatus.MISSING, None)


def test_a_failure_is_told_with_its_verdict_and_holds_what_is_downstream(keeper: Keeper) -> None:
    rich = next(number for number in range(10) if day(number).toordinal() % 5 == 4)  # four visitors
    keeper.lake.run(SHOP[0], rich)
    keeper.settle()
    keeper.store_cursor()
    failed = keeper.why("fragile", rich)

    assert failed.status is StalenessStatus.FAILED
    (run,) = keeper.lake.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    (reason,) = failed.reasons
    assert reason.startswith(f"Run {run.run_id} did not make it: not named: ")
    assert "more than three users" in reason
    assert "not tried again by itself" in reason


def test_a_day_outside_of_the_history_and_an_unknown_table_are_refused(keeper: Keeper) -> None:
    with pytest.raises(UsageError, match="its history is 2024-02-27 to"):
        keeper.why("totals", -1)
    with pytest.raises(UsageError, match="there is no daily table nope"):
        keeper.why("nope", 0)
