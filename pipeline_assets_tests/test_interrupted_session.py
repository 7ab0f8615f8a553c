"""What tests started does not outlive them, however a session ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline_assets_tests.support.processes import ANSWER_SECONDS
from pipeline_assets_tests.support.session import GRACE_SECONDS, SESSION

ROOT = Path(__file__).resolve().parents[1]
CONFTEST = "from pipeline_assets_tests.conftest import *"
STARTS_A_SERVER = """
import subprocess, sys, time
from pathlib import Path

def test_that_starts_a_server_of_which_no_fixture_knows():
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open("started", "w") as told:
        told.write(str(server.pid))
    time.sleep(600)
"""


@pytest.mark.slow(6)
@pytest.mark.parametrize(
    ("ended_by", "workers"), [(signal.SIGINT, "1"), (signal.SIGKILL, "0")], ids=["Ctrl-C", "a kill"]
)
def test_no_server_is_alive_after_a_session_that_did_not_come_to_its_end(
    tmp_path: Path, ended_by: signal.Signals, workers: str
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_server.py").write_text(STARTS_A_SERVER)
    started = tmp_path / "started"
    os.mkfifo(started)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", SESSION))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers, "test_server.py"]
    session = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        server = psutil.Process(int(started.read_text()))  # blocks until the test has written it

        os.killpg(session.pid, ended_by)

        session.wait(ANSWER_SECONDS)
        server.wait(ANSWER_SECONDS + GRACE_SECONDS)
    finally:
        session.kill()
