"""The webserver and the daemon of the project, as production runs them, for as long as a test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline_assets_tests.support.session import made_once
from pipeline_assets_tests.support.warm import sitecustomize

PROJECT = Path(__file__).resolve().parents[2]
WARM = Path(sitecustomize.__file__).parent
PATIENCE_SECONDS = 240
MODULE = "pipeline_assets.definitions"
# The daemon looks at backfills every 30 seconds and goes round its sensors every 5; no setting says otherwise. A sensor
# says itself how often it wants to be asked, at the least: here its time passes faster.
DAEMON = """
import dagster._daemon.controller
import dagster._daemon.sensor
dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 0.5
dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME = 0.5
elapsed = dagster._daemon.sensor.get_elapsed
dagster._daemon.sensor.get_elapsed = lambda state: None if (seconds := elapsed(state)) is None else 5 * seconds
from dagster._daemon.cli import main
main()
"""


@dataclass
class Daemon:
    """The daemon's process, which can be killed and started again."""

    home: Path
    environment: Mapping[str, str]
    module: str = MODULE
    _process: subprocess.Popen[bytes] | None = None
    _left_behind: list[psutil.Process] = field(default_factory=list)

    def start(self) -> None:
        """Come up; what it says goes to the log of the servers."""
        self._process = _started([sys.executable, "-c", DAEMON, "run", "-m", self.module], self.home, self.environment)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While this lasts it does nothing: what is looked at meanwhile stays as it is, but for the runs.

        It is not stopped in the middle of writing to a database: others would find that one locked.
        """
        try:
            wait_until(self._stops_without_a_lock, what="a moment at which the daemon writes nothing")
            yield
        finally:
            if self._process is not None:
                self._process.send_signal(signal.SIGCONT)

    def _stops_without_a_lock(self) -> bool:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)
        if self._process.pid not in _writers():
            return True
        self._process.send_signal(signal.SIGCONT)
        return False

    def kill(self) -> None:
        """SIGKILL, its code servers with it. The runs that these started are processes of their own, and live on."""
        assert self._process is not None
        servers = psutil.Process(self._process.pid).children()
        self._left_behind += [worker for each in servers for worker in each.children(recursive=True)]
        self._process.kill()
        for each in servers:
            each.kill()
        self._process.wait()
        psutil.wait_procs(servers)
        self._process = None

    def end(self) -> None:
        """It, its code servers and the runs of those."""
        if self._process is not None:
            _end([self._process])
        _reap(self._left_behind)


@dataclass
class Server:
    """A running webserver's GraphQL, and the daemon beside it."""

    url: str
    daemon: Daemon

    def ask(self, query: str, **variables: object) -> Any:
        """The answer's only field."""
        answer = self.post("graphql", {"query": query, "variables": variables})
        assert "errors" not in answer, answer["errors"]
        (found,) = answer["data"].values()
        return found

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """What it answers to a JSON object."""
        request = urllib.request.Request(  # noqa: S310 - our own, on this machine
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            return json.load(response)


@contextmanager
def dagster_running(
    home: Path, settings: Mapping[str, str], *, module: str = MODULE, with_daemon: bool = True, is_warm: bool = True
) -> Iterator[Server]:
    """Webserver and daemon in an empty folder, with the project's dagster.yaml; ended whatever happens.

    Args:
        is_warm: runs begin at once, forked from a process that has imported what they import.
    """
    shutil.copytree(made_once("dagster_home", fresh_home), home, dirs_exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")},
        **settings,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([*([str(WARM)] if is_warm else []), str(PROJECT)]),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-m", module, "-h", "127.0.0.1", "-p", str(port)]
    webserver = _started(command, home, environment)
    server = Server(f"http://127.0.0.1:{port}", Daemon(home, environment, module))
    try:
        if with_daemon:
            server.daemon.start()
        wait_until(lambda: _answers(server), what="the webserver")
        if with_daemon:
            wait_until(lambda: _daemon_is_heard(server), what="the daemon's first heartbeat")
        yield server
    except BaseException:
        print((home / "servers.log").read_text()[-20_000:])  # noqa: T201 - pytest shows it beside the failure
        raise
    finally:
        server.daemon.end()
        _end([webserver])


def fresh_home(home: Path) -> None:
    """A folder with the project's dagster.yaml and the instance that it describes, in which nothing has happened."""
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    subprocess.run(
        [sys.executable, "-m", "dagster", "instance", "migrate"],
        cwd=home,
        env={**environment, "DAGSTER_HOME": str(home)},
        check=True,
        capture_output=True,
    )


def wait_until(done: Callable[[], Any], *, what: str, patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """What `done` gives once it gives something, looked at twice a second."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        if found := done():
            return found
        time.sleep(0.5)
    raise TimeoutError(f"waited {patience_seconds} s for {what}")


def _writers() -> set[int]:
    """Processes that hold a lock with which SQLite writes, or nobody where there is no /proc."""
    table = Path("/proc/locks")
    held = [line.split() for line in table.read_text().splitlines()] if table.exists() else []
    return {int(pid) for _, kind, _, mode, pid, *_ in held if (kind, mode) == ("POSIX", "WRITE")}


def _started(command: list[str], home: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (home / "servers.log").open("ab") as output:
        return subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT)


def _answers(server: Server) -> bool:
    try:
        nodes = server.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")["nodes"]
    except (urllib.error.URLError, ConnectionError):
        return False
    return bool(nodes)


def _daemon_is_heard(server: Server) -> bool:
    statuses = server.ask("{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }")
    return all(each["healthy"] for each in statuses["daemonHealth"]["allDaemonStatuses"] if each["required"])


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
    _reap(family)


def _reap(family: list[psutil.Process]) -> None:
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, timeout=20)
