"""The webserver and the daemon of the project, as production runs them, for as long as a test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240
# The daemon looks at backfills every 30 seconds, and no setting says otherwise.
DAEMON = """
import dagster._daemon.controller
dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 0.5
from dagster._daemon.cli import main
main()
"""


class Server:
    """A running webserver's GraphQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, **variables: object) -> Any:
        """The answer's only field."""
        request = urllib.request.Request(  # noqa: S310 - our own, on this machine
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        (field,) = answer["data"].values()
        return field


@contextmanager
def dagster_running(home: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """Webserver and daemon in an empty folder, with the project's dagster.yaml; ended whatever happens."""
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")},
        **settings,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(PROJECT),
    }
    subprocess.run(
        [sys.executable, "-m", "dagster", "instance", "migrate"],
        cwd=home,
        env=environment,
        check=True,
        capture_output=True,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = ["-m", "pipeline_assets.definitions"]
    webserver = [sys.executable, "-m", "dagster_webserver", *target, "-h", "127.0.0.1", "-p", str(port)]
    daemon = [sys.executable, "-c", DAEMON, "run", *target]
    log = home / "servers.log"
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT)
            for command in (webserver, daemon)
        ]
        server = Server(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: _answers(server), what="the webserver")
            yield server
        except BaseException:
            print(log.read_text()[-20_000:])  # noqa: T201 - pytest shows it beside the failure
            raise
        finally:
            _end(processes)


def wait_until(done: Callable[[], Any], *, what: str) -> Any:
    """What `done` gives once it gives something, looked at twice a second."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := done():
            return found
        time.sleep(0.5)
    msg = f"waited {PATIENCE_SECONDS} s for {what}"
    raise TimeoutError(msg)


def _answers(server: Server) -> bool:
    try:
        nodes = server.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")["nodes"]
    except (urllib.error.URLError, ConnectionError):
        return False
    return bool(nodes)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """They, their code servers and the runs of those."""
    family = [child for process in processes for child in psutil.Process(process.pid).children(recursive=True)]
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, timeout=20)
