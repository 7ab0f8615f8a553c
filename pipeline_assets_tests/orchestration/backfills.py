"""Days of a history for backfills through real servers, and what GraphQL says became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pipeline_assets_tests.orchestration.servers import PATIENCE_SECONDS, Server, wait_until

NOW = datetime.now(UTC)
ZONE = f"Etc/GMT{NOW.hour - 12:+d}"
"""Where it is noon: the history, which ends with yesterday, does not get another day while tests run."""
TODAY = NOW.astimezone(ZoneInfo(ZONE)).date()
TABLES = ["raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments"]

STATUS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status error { message } } }
}
"""
RUNS = """
query ($filter: RunsFilter!) {
  runsOrError(filter: $filter) {
    ... on Runs {
      results { runId status tags { key value } assetMaterializations { partition timestamp assetKey { path } } }
    }
  }
}
"""


def last_days(number: int) -> list[date]:
    """The days before today."""
    return [TODAY - timedelta(days=back) for back in range(number, 0, -1)]


def ended(server: Server, backfill_id: str) -> dict[str, Any]:
    """How a backfill ended, once it has: its status and its error."""

    def looked() -> dict[str, Any] | None:
        found: dict[str, Any] = server.ask(STATUS, id=backfill_id)
        return None if found["status"] in {"REQUESTED", "CANCELING", "FAILING"} else found

    status: dict[str, Any] = wait_until(looked, what=f"backfill {backfill_id}", patience_seconds=2 * PATIENCE_SECONDS)
    return status


def runs(server: Server, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Runs by a RunsFilter, with what each of them materialized."""
    found: list[dict[str, Any]] = server.ask(RUNS, filter=wanted)["results"]
    return found


def runs_of(server: Server, backfill_id: str) -> list[dict[str, Any]]:
    """The runs that a backfill became."""
    return runs(server, {"tags": [{"key": "dagster/backfill", "value": backfill_id}]})


def made(found: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """How often each day of each table was materialized."""
    return Counter(
        (event["assetKey"]["path"][0], event["partition"]) for run in found for event in run["assetMaterializations"]
    )
