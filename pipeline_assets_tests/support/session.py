"""What a test session owns: a folder for what is made once, and every process that was started in it.

Servers, daemons and runs inherit an environment variable that names the folder of their session, whoever started them
and whatever became of their parents. A guardian process outlives the session for as long as it takes: it holds one end
of a pipe, and when the other end is closed, because the session is over, was interrupted or was killed, it ends every
process that bears the name and removes the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

SESSION = "TESTS_SESSION"
"""Environment variable of all that a session starts: its folder. Tests drop the variables of settings, and keep it."""
GRACE_SECONDS = 1.0
"""For workers of pytest, which end by themselves when they see that their controller is gone."""


def start_session() -> subprocess.Popen[bytes]:
    """Make the session's folder and have it guarded. Keep what is returned: the pipe to it is the session's life."""
    folder = tempfile.mkdtemp(prefix="pipeline-tests-")
    unnamed = {key: value for key, value in os.environ.items() if key != SESSION}
    guardian = subprocess.Popen(
        [sys.executable, __file__, folder], stdin=subprocess.PIPE, env=unnamed, start_new_session=True
    )
    os.environ[SESSION] = folder
    return guardian


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the session that is made once, also when several workers of pytest want it. Not to be changed."""
    folder = Path(os.environ[SESSION]) / name
    with folder.with_suffix(".lock").open("wb") as held:  # of its own: what is made may need another one
        fcntl.flock(held, fcntl.LOCK_EX)
        if not folder.exists():
            aside = folder.with_suffix(".part")
            shutil.rmtree(aside, ignore_errors=True)
            make(aside)
            aside.rename(folder)
    return folder


def processes_of(session: str) -> Iterator[psutil.Process]:
    """Every process of this user that bears the name of the session."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(SESSION) == session:
                yield process
        except psutil.Error:
            continue


def end_session(session: str) -> None:
    """Wait a moment for what ends by itself, kill the rest until there is none, and remove the folder."""
    psutil.wait_procs(list(processes_of(session)), timeout=GRACE_SECONDS)
    while left := list(processes_of(session)):
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=GRACE_SECONDS)
    shutil.rmtree(session, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_session(sys.argv[1])
