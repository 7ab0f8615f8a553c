"""What dagster.yaml says of the queue: a backfill under way does not keep daily runs waiting."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from pipeline_assets.orchestration.backfill.launches import PRIORITY
from pipeline_assets.orchestration.backfill.webserver import RunningDagster
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG, PART_TAG, PRIORITY_TAG
from pipeline_assets_tests.orchestration.backfill import workshop
from pipeline_assets_tests.orchestration.backfill.workshop import Workshop, day
from pipeline_assets_tests.orchestration.servers import Server, dagster_running, wait_until

pytestmark = pytest.mark.slow(80)

OF_BACKFILLS = 2
"""Places of the queue, of four."""
BACKFILLED, LATEST = range(8), 31
LAUNCH = """
mutation ($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) { __typename }
}
"""
QUEUED = """
query ($tag: ExecutionTag!) {
  runIdsOrError(filter: {statuses: [QUEUED], tags: [$tag]}) { ... on RunIds { results } }
}
"""


def launch_by_hand(server: Server, table: str, number: int) -> None:
    selector = {
        "repositoryLocationName": workshop.MODULE,
        "repositoryName": "__repository__",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": [table]}],
    }
    partition = {"key": "dagster/partition", "value": str(day(number))}
    launched = server.ask(
        LAUNCH,
        executionParams={
            "mode": "default",
            "runConfigData": "",
            "selector": selector,
            "executionMetadata": {"tags": [partition]},
        },
    )
    assert launched["__typename"] == "LaunchRunSuccess"


def test_daily_runs_of_any_table_go_before_what_a_backfill_has_in_the_queue(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "workshop").mkdir()
    shop = Workshop(tmp_path / "workshop")

    def began() -> list[tuple[str, int]]:
        return [(table, number) for word, table, number in shop.journal() if word == "began"]

    def of_backfill() -> list[int]:
        return [number for table, number in began() if table == "events" and number in BACKFILLED]

    def is_done(table: str, number: int) -> bool:
        return ("done", table, number) in shop.journal()

    with dagster_running(tmp_path / "home", shop.settings(days_per_run=1), module=workshop.MODULE) as server:
        shop.ask("events", 30)
        wait_until(lambda: is_done("events", 30), what="a first day")
        held = {number: shop.hold("events", number) for number in [*BACKFILLED, LATEST]}
        held_sales = shop.hold("sales", 20)
        dagster = RunningDagster(server.url)
        backfill_id = dagster.launch(
            workshop.graph(),
            {"events": [day(number) for number in BACKFILLED]},
            title="",
            description="to be in the way",
            tags={BACKFILL_TAG: uuid4().hex, PART_TAG: "1", PRIORITY_TAG: str(PRIORITY)},
        )
        tag = {"key": "dagster/backfill", "value": backfill_id}

        wait_until(
            lambda: (
                len(of_backfill()) == OF_BACKFILLS
                and len(server.ask(QUEUED, tag=tag)["results"]) == len(BACKFILLED) - OF_BACKFILLS
            ),
            what="the backfill to have its places",
        )
        # Places are left, whatever the table.
        shop.ask("events", 20)
        launch_by_hand(server, "sales", 30)
        wait_until(lambda: is_done("events", 20) and is_done("sales", 30), what="the daily runs")
        assert len(of_backfill()) == OF_BACKFILLS

        # One table leaves a place for the others.
        shop.ask("events", LATEST)
        wait_until(lambda: ("events", LATEST) in began(), what="the table's last place to be taken")
        shop.ask("events", 21)
        wait_until(lambda: has_queued(server, str(day(21))), what="one more daily run in the queue")
        shop.ask("sales", 20)
        wait_until(lambda: ("sales", 20) in began(), what="another table's run")
        assert ("events", 21) not in began()

        # All places are taken: the next that is free is a daily run's.
        before = len(began())
        held[of_backfill()[0]].unlink()
        wait_until(lambda: len(began()) > before, what="the next run")
        assert began()[before] == ("events", 21)
        for path in [*held.values(), held_sales]:
            path.unlink(missing_ok=True)
        wait_until(lambda: all(is_done("events", number) for number in BACKFILLED), what="the backfill")


def has_queued(server: Server, day: str) -> bool:
    return bool(server.ask(QUEUED, tag={"key": "dagster/partition", "value": day})["results"])
