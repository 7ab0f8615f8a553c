"""A backfill from the UI: 30 demo days of 6 assets, from the click until everything is green.

`dagster dev` from nothing, the daemon at its own pace (it looks at backfills every 30 s), and the request that the
button "Launch backfill" sends, sent just after the daemon has looked. Green is every partition; the backfill itself
says that it succeeded when the daemon looks next, and that is when the clock stops. Beside it Dagster's default
set-up, one after the other: a run per day, a process per step, an empty dagster.yaml. Both must leave the same lake.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.measure import ROOT, CannotRunError, Figure, Target, clean_environment, number, table
from pipeline_assets.demo import write_days

LENGTH, SEED = 30, 1
TABLES = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")
UP_SECONDS, DONE_SECONDS = 180, 2400
"""After which nobody waits any longer."""
TARGETS = (Target("from click to all green", 90, "s"), Target("the same / Dagster's default set-up", 1, "x"))
QUIET = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
LAUNCH = """
mutation ($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
STATUS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}
"""
LOOKED = '{ instance { daemonHealth { daemonStatus(daemonType: "BACKFILL") { healthy } } } }'
RUNS = """
query ($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results { startTime endTime } } } }
"""
GREEN = """
query ($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) { partitionStats { numMaterialized } } }
"""


@dataclass(frozen=True, slots=True)
class Backfill:
    """How long one took."""

    green_seconds: float
    seconds: float
    runs: int
    run_seconds: float
    """The median run's."""

    def row(self) -> list[str]:
        """As cells."""
        times = (self.green_seconds, self.seconds)
        return [*(number(each, "s") for each in times), str(self.runs), number(self.run_seconds, "s")]


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    last = datetime.now(UTC).date() - timedelta(days=1)
    days = [last - timedelta(days=ago) for ago in range(LENGTH - 1, -1, -1)]
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        folder = Path(name)
        write_days(folder / "landing", days, seed=SEED)
        ours = _backfilled(folder, "ours", "pipeline_assets.definitions", (ROOT / "dagster.yaml").read_text(), days)
        print(f"ours: {number(ours.seconds, 's')}", flush=True)
        default = _backfilled(folder, "default", "benchmarks.one_run_a_day", QUIET, days)
        if _digests(folder / "ours" / "lake") != _digests(folder / "default" / "lake"):
            raise CannotRunError("the two set-ups left different lakes: nothing to compare")
    columns = ["", "all partitions green", "backfill succeeded", "runs", "median run"]
    print(table(columns, [["Dagster's default set-up", *default.row()], ["ours", *ours.row()]]))
    return [TARGETS[0].figure(ours.seconds), TARGETS[1].figure(ours.seconds / default.seconds)]


def _backfilled(folder: Path, name: str, module: str, dagster_yaml: str, days: list[date]) -> Backfill:
    home = folder / name
    home.mkdir()
    (home / "dagster.yaml").write_text(dagster_yaml)
    settings = {
        "PIPELINE_LANDING": str(folder / "landing"),
        "PIPELINE_STORE": str(home / "lake"),
        "PIPELINE_START": str(days[0]),
        "PIPELINE_SENSORS": "stopped",
    }
    with _dagster_dev(home, module, settings) as server:
        return server.backfill(days)


@dataclass(frozen=True, slots=True)
class _Server:
    url: str

    def backfill(self, days: list[date]) -> Backfill:
        """Launch all tables over the days as the UI does, and wait."""
        keys = [{"path": [each]} for each in TABLES]
        clicked = time.monotonic()
        asked = {"assetSelection": keys, "partitionNames": [str(day) for day in days], "fromFailure": False, "tags": []}
        launched = self.ask(LAUNCH, backfillParams=asked)
        if launched["__typename"] != "LaunchBackfillSuccess":
            raise CannotRunError(f"Dagster did not launch the backfill: {launched}")
        green: float | None = None
        while time.monotonic() - clicked < DONE_SECONDS:
            time.sleep(1)
            if green is None:
                stats = self.ask(GREEN, keys=keys)
                if sum(each["partitionStats"]["numMaterialized"] for each in stats) == len(TABLES) * len(days):
                    green = time.monotonic() - clicked
            status = self.ask(STATUS, id=launched["backfillId"])["status"]
            if status not in {"REQUESTED", "COMPLETED_SUCCESS"}:
                break
            if status == "COMPLETED_SUCCESS" and green is not None:
                seconds = time.monotonic() - clicked
                runs = self.ask(RUNS, filter={"tags": [{"key": "dagster/backfill", "value": launched["backfillId"]}]})
                spent = sorted(each["endTime"] - each["startTime"] for each in runs["results"])
                return Backfill(green, seconds, len(spent), spent[len(spent) // 2])
        raise CannotRunError(f"the backfill was {status} after {time.monotonic() - clicked:.0f} s")

    def ask(self, query: str, **variables: object) -> Any:
        """The answer's only field."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own, on this machine
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise CannotRunError(error.read().decode()) from None
        if "errors" in answer:
            raise CannotRunError(str(answer["errors"]))
        (found,) = answer["data"].values()
        return found

    def ready(self) -> bool:
        """It answers, and the daemon has looked at backfills for the first time."""
        try:
            return bool(self.ask(LOOKED)["daemonHealth"]["daemonStatus"]["healthy"])
        except (urllib.error.URLError, ConnectionError, CannotRunError):
            return False


@contextmanager
def _dagster_dev(home: Path, module: str, settings: dict[str, str]) -> Iterator[_Server]:
    environment = {**clean_environment(), **settings, "DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-m", module, "-h", "127.0.0.1", "-p", str(port)]
    log = home / "dagster_dev.log"
    server = _Server(f"http://127.0.0.1:{port}")
    with log.open("wb") as output:
        process = psutil.Popen(command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        started = time.monotonic()
        while not server.ready():
            if process.poll() is not None or time.monotonic() - started > UP_SECONDS:
                raise CannotRunError(f"`dagster dev` did not come up:\n{log.read_text()[-5000:]}")
            time.sleep(0.2)
        yield server
    finally:
        with suppress(psutil.NoSuchProcess):
            for each in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()


def _digests(lake: Path) -> dict[str, str]:
    """Of every file that readers see, by path."""
    return {
        str(path.relative_to(lake)): sha256(path.read_bytes()).hexdigest()
        for table_name in TABLES
        for path in sorted((lake / table_name).rglob("*.parquet"))
    }
