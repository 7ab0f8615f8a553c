"""A real `dagster-webserver` for the Lambda function to report to, and what it then knows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from pipeline_assets_tests.orchestration.servers import wait_until

PROJECT = Path(__file__).resolve().parents[3]
DEPLOYED = PROJECT / "deploy" / "aws"
FUNCTION = DEPLOYED / "function"
DEFINITIONS = """
import dagster as dg
days = dg.DailyPartitionsDefinition("1970-01-01")
defs = dg.Definitions(assets=[dg.AssetSpec("landing", partitions_def=days)])
"""
REPORTS = """
query ($asset: [String!]!, $days: [String!]) {
  assetOrError(assetKey: {path: $asset}) {
    ... on Asset {
      assetMaterializations(partitions: $days) {
        metadataEntries { label ... on TextMetadataEntry { text } ... on IntMetadataEntry { intRepr } }
      }
    }
  }
}
"""
LOCATIONS = """
{ workspaceOrError { ... on Workspace {
  locationEntries { loadStatus locationOrLoadError { ... on PythonError { message } } }
} } }
"""


@dataclass(frozen=True, slots=True)
class Dagster:
    """A running webserver."""

    url: str
    port: int

    def ask(self, query: str, **variables: object) -> Any:
        """The answer's only field."""
        response = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60)
        answer = response.json()
        assert "errors" not in answer, answer["errors"]
        (field,) = answer["data"].values()
        return field

    def reports(self, day: str, asset: str = "landing") -> list[dict[str, str]]:
        """Metadata of the reports of a day, oldest first."""
        found = self.ask(REPORTS, asset=[asset], days=[day]).get("assetMaterializations", [])
        return [
            {entry["label"]: entry.get("text", entry.get("intRepr")) for entry in each["metadataEntries"]}
            for each in reversed(found)
        ]


@contextmanager
def webserver_running(
    home: Path, target: Sequence[str] | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Dagster]:
    """A webserver on an empty Dagster home, without a daemon; ended whatever happens."""
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    (home / "landing_only.py").write_text(DEFINITIONS)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")},
        **(settings or {}),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(PROJECT),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = target or ["-f", "landing_only.py"]
    command = [sys.executable, "-m", "dagster_webserver", *target, "-h", "127.0.0.1", "-p", str(port)]
    log = home / "webserver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT)
        running = Dagster(f"http://127.0.0.1:{port}", port)
        try:
            wait_until(lambda: process.poll() is not None or _has_loaded(running), what="the webserver")
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            _end(process)


def _has_loaded(running: Dagster) -> bool:
    try:
        (location,) = running.ask(LOCATIONS)["locationEntries"]
    except requests.ConnectionError:
        return False
    error = location["locationOrLoadError"]
    assert "message" not in error, error["message"]
    return bool(location["loadStatus"] == "LOADED")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The webserver and its code server, at once: asked to end, they take seconds over it."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family[1:], timeout=20)
