"""What the tests of servers rely on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline_assets_tests.orchestration.servers import Daemon
from pipeline_assets_tests.support.warm import sitecustomize

WRITER = """
import sqlite3, sys, time
runs = sqlite3.connect(sys.argv[1], isolation_level=None)
runs.execute("PRAGMA journal_mode = WAL")
runs.execute("CREATE TABLE written (number INTEGER)")
runs.execute("BEGIN IMMEDIATE")
runs.execute("INSERT INTO written VALUES (1)")
print("writing", flush=True)
time.sleep(1)
runs.execute("COMMIT")
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux says who holds a lock")
def test_a_daemon_is_not_frozen_in_the_middle_of_a_write(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"

            with Daemon(tmp_path, {}, _process=writer).frozen(), closing(sqlite3.connect(path, timeout=0)) as others:
                others.execute("INSERT INTO written VALUES (2)")
                assert others.execute("SELECT number FROM written").fetchall() == [(1,), (2,)]
        finally:
            writer.kill()


def test_what_runs_are_forked_with_is_there() -> None:
    # Python passes over a module that a fork server cannot import, and every run would import what it lacks.
    assert [name for name in sitecustomize.IMPORTED if find_spec(name) is None] == []
