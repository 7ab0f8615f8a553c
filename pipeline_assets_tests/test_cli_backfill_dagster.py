"""`pipeline backfill --dagster` against a real webserver and daemon: launched, left alone, watched again, retried."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets_tests.orchestration.backfill.checkout import land
from pipeline_assets_tests.orchestration.backfills import ZONE, last_days, runs
from pipeline_assets_tests.orchestration.servers import PROJECT, Server, dagster_running

pytestmark = pytest.mark.slow(60)
DAYS = last_days(3)
REASON = "the shop's export was broken"
TOLD = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { title description tags { key value } } }
}
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """Beside a running Dagster, with the same instance."""

    home: Path
    server: Server
    settings: dict[str, str]

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        command = [sys.executable, "-c", "from pipeline_assets.cli import main; main()", *arguments]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")},
            **self.settings,
            "PIPELINE_DAGSTER_URL": self.server.url,
            "DAGSTER_HOME": str(self.home),
            "PYTHONPATH": str(PROJECT),
        }
        return subprocess.Popen(
            command, cwd=self.home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def json(self, *arguments: str, status: int = 0) -> Any:
        """What a command says to programs."""
        process = self.begin(*arguments, "--format", "json")
        out, err = process.communicate(timeout=300)
        assert process.returncode == status, err
        return json.loads(out)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    home = tmp_path / "home"
    home.mkdir()
    land(tmp_path / "landing", DAYS)
    settings = {
        "PIPELINE_LANDING": str(tmp_path / "landing"),
        "PIPELINE_STORE": str(tmp_path / "lake"),
        "PIPELINE_SOURCE": str(PROJECT / "sources" / "demo.sql"),
        "PIPELINE_START": DAYS[0].isoformat(),
        "PIPELINE_TIMEZONE": ZONE,
        "PIPELINE_SENSORS": "stopped",
    }
    with dagster_running(home, settings, is_warm=False) as server:
        (home / "workspace.yaml").touch()  # so that the command takes the folder for the checkout, as the servers do
        yield Desk(home, server, settings)


def test_a_backfill_by_dagster_goes_on_unwatched_is_watched_again_and_retried(desk: Desk, tmp_path: Path) -> None:
    whole = gzip.compress(b'{"event_id": "1"}\n' * 5000)
    cut = tmp_path / "landing" / f"dt={DAYS[1]}" / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])

    span = ("--from", str(DAYS[0]), "--to", str(DAYS[-1]))
    with desk.server.daemon.frozen():
        watching = desk.begin("backfill", *span, "--reason", REASON, "--dagster", "--yes")
        assert watching.stdout is not None
        line = next((each for each in watching.stdout if each.startswith("Dagster's backfill")), "")
        assert line, watching.communicate()[1]
        (told,) = desk.json("backfills")
        assert (told["state"], told["where"], told["done"], told["planned"]) == ("running", "dagster", 0, 15)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=60)
        assert (watching.returncode, "Dagster goes on with what it has" in err) == (130, True), err
        assert desk.json("backfills")[0]["state"] == "running"
    dagster_id = line.split()[2].rstrip(":")
    shown = desk.server.ask(TOLD, id=dagster_id)
    tags = {tag["key"]: tag["value"] for tag in shown["tags"]}
    assert shown["title"].startswith("selective backfill of raw_events, events")
    assert shown["description"] == tags["pipeline/reason"] == REASON
    assert (tags["pipeline/backfill"], tags["pipeline/plan"]) == (told["backfill_id"], told["plan"])

    ended = desk.json("backfill", "--resume", status=1)
    assert (ended["backfill_id"], ended["state"], ended["failed"]) == (told["backfill_id"], "failed", 1)
    assert [(each["table"], each["day"]) for each in ended["failures"]] == [("raw_events", str(DAYS[1]))]
    assert desk.json("backfills")[0]["state"] == "failed"

    cut.unlink()
    retried = desk.json("retry", told["backfill_id"], "--yes")
    assert (retried["state"], retried["retries"], retried["where"]) == ("done", told["backfill_id"], "dagster")
    assert retried["done"] == ended["failed"] + ended["left"]
    assert [each["state"] for each in desk.json("backfills")] == ["done", "failed"]
    wanted = {"tags": [{"key": "pipeline/backfill", "value": retried["backfill_id"]}]}
    assert {run["status"] for run in runs(desk.server, wanted)} == {"SUCCESS"}
    tables = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")
    assert all((tmp_path / "lake" / table / f"dt={day}" / "data.parquet").exists() for table in tables for day in DAYS)
