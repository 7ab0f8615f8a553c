"""Tests of one `xdist_group` run in one worker, so that the server that they share is started once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

GROUPED = """
import os, pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_grouped(number):
    with open("workers", "a") as told:
        told.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")
"""


def test_a_group_is_not_dealt_out(tmp_path: Path) -> None:
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"]

    subprocess.run([*command, "test_grouped.py"], cwd=tmp_path, env=environment, check=True, capture_output=True)

    workers = (tmp_path / "workers").read_text().split()
    assert (len(workers), len(set(workers))) == (6, 1)
