"""Backfills and runs launched as the UI launches them, through a real webserver and daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets_tests.orchestration import shop
from pipeline_assets_tests.orchestration.backfills import TABLES, ZONE, ended, last_days, made, runs, runs_of
from pipeline_assets_tests.orchestration.lake import sha256, tables_of
from pipeline_assets_tests.orchestration.servers import Server, dagster_running, wait_until

pytestmark = [pytest.mark.slow(50), pytest.mark.xdist_group("ui_backfill")]

HISTORY = last_days(3)
"""All of it."""
DAYS = [day.isoformat() for day in HISTORY]

BACKFILL = """
mutation ($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
RUN = """
mutation ($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.land(tmp_path_factory.mktemp("landing"), seed=1, days=HISTORY)


@pytest.fixture(scope="module")
def expected(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The lake as one run in this process leaves it."""
    lake = tmp_path_factory.mktemp("expected")
    shop.run_days(shop.definitions(landing, lake, first=HISTORY[0], timezone=ZONE), lake, HISTORY)
    return tables_of(sha256(lake))


@pytest.fixture
def server(request: pytest.FixtureRequest, landing: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "home").mkdir()
    settings = {
        "PIPELINE_LANDING": str(landing),
        "PIPELINE_STORE": str(tmp_path / "lake"),
        "PIPELINE_START": DAYS[0],
        "PIPELINE_TIMEZONE": ZONE,
        "PIPELINE_SENSORS": "stopped",  # they would compute what is to be backfilled
        **({"PIPELINE_DAYS_PER_RUN": request.param} if request.param else {}),
    }
    with dagster_running(tmp_path / "home", settings) as running:
        yield running


def backfill(server: Server, days: Sequence[str] = DAYS) -> list[dict[str, Any]]:
    """Choose all assets and the days, press the button, and wait; the runs that it became."""
    launched = server.ask(
        BACKFILL,
        backfillParams={
            "tags": [],
            "assetSelection": [{"path": [table]} for table in TABLES],
            "partitionNames": list(days),
            "fromFailure": False,
        },
    )
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill_id = launched["backfillId"]
    assert ended(server, backfill_id) == {"status": "COMPLETED_SUCCESS", "error": None}
    return succeeded(runs_of(server, backfill_id))


def succeeded(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert {run["status"] for run in found} == {"SUCCESS"}
    return found


ONCE_EACH = Counter((table, day) for table in TABLES for day in DAYS)


@pytest.mark.parametrize("server", ["1"], indirect=True, ids=["a day per run"])
def test_a_backfill_of_a_run_per_day_leaves_what_one_run_leaves(
    server: Server, expected: dict[str, str], tmp_path: Path
) -> None:
    found = backfill(server)
    assert {len({event["partition"] for event in run["assetMaterializations"]}) for run in found} == {1}
    assert len(found) >= len(DAYS)
    assert made(found) == ONCE_EACH
    assert tables_of(sha256(tmp_path / "lake")) == expected


@pytest.mark.parametrize("server", [None], indirect=True, ids=["all days in one run"])
def test_a_backfill_and_a_run_of_the_range_leave_what_one_run_leaves(
    server: Server, expected: dict[str, str], tmp_path: Path
) -> None:
    # Dagster asks for the neighbours that read this day as well, though none of them has been computed.
    middle = backfill(server, DAYS[1:2])
    assert {("raw_events", DAYS[1]), ("events", DAYS[0]), ("user_segments", DAYS[2])} <= set(made(middle))

    found = backfill(server)
    assert {len({event["partition"] for event in run["assetMaterializations"]}) for run in found} == {len(DAYS)}
    assert made(found) == ONCE_EACH
    assert tables_of(sha256(tmp_path / "lake")) == expected

    # "Pass partition ranges to single run".
    launched = server.ask(
        RUN,
        executionParams={
            "mode": "default",
            "runConfigData": "",
            "selector": {
                "repositoryLocationName": "pipeline_assets.definitions",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": [table]} for table in TABLES],
            },
            "executionMetadata": {
                "tags": [
                    {"key": "dagster/asset_partition_range_start", "value": DAYS[0]},
                    {"key": "dagster/asset_partition_range_end", "value": DAYS[-1]},
                ]
            },
        },
    )
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]
    over = {"runIds": [run_id], "statuses": ["SUCCESS", "FAILURE", "CANCELED"]}
    wait_until(lambda: runs(server, over), what=f"run {run_id}")
    assert made(succeeded(runs(server, {"runIds": [run_id]}))) == ONCE_EACH
    assert tables_of(sha256(tmp_path / "lake")) == expected
