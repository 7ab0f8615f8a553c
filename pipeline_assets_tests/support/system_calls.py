"""System calls of a process under a folder: which there are, and what comes of a kill or an error at each.

strace is attached to a process that has imported and tried everything already, so that what it counts is the task
alone. (With --seccomp-bpf, strace 6.1 counts on but injects nothing.)
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from pipeline_assets_tests.support.processes import running

P = ParamSpec("P")

CHANGING = ("openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "utimensat", "mkdir", "mkdirat")
NAMING = ("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat")
# Other architectures lack some of them; the question mark makes that no error.
TRACED = ",".join(f"?{name}" for name in (*CHANGING, *NAMING))

_STARTED = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\(")
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`-th call of this name since the task began."""

    name: str
    number: int
    arguments: str

    def __str__(self) -> str:
        return f"{self.name} #{self.number}"

    def of(self, path: Path) -> bool:
        """True when an argument is this path, or a descriptor of it, and not of one below."""
        return f'"{path}"' in self.arguments or f"<{path}>" in self.arguments


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the process: exit status, what its task returned, the calls that it began under the folder."""

    exit_status: int
    answer: Any
    calls: list[Call]
    injected: bool


def strace_works() -> bool:
    """True when strace is there and may be used, which some containers forbid."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


def needs_strace(test: Callable[P, None]) -> Callable[P, None]:
    """Mark a test, and skip it where strace is of no use."""
    reason = "strace is missing (apt-get install strace), or it may not trace here"
    skip = pytest.mark.skipif(not strace_works(), reason=reason)
    marked: Callable[P, None] = pytest.mark.needs_strace(skip(test))
    return marked


def traced(task: Callable[[Path], Any], folder: Path, trace: Path, *, inject: str = "") -> Outcome:
    """Run `task(folder)` in a process under strace.

    Args:
        task: a function of a module; a fresh folder beside `folder` is what it is tried on first.
        trace: file for strace's own output.
        inject: what strace shall do, such as "rename:signal=KILL:when=1".
    """
    rehearsal = folder.with_name(f"{folder.name}-rehearsal")
    if folder.exists():
        shutil.copytree(folder, rehearsal)
    with running(_perform, task, rehearsal, folder) as child:
        assert child.receive() == "ready"
        command = ["strace", "-f", "-y", "-s", "0", "-p", str(child.pid), "-o", str(trace), "-e", f"trace={TRACED}"]
        command += ["-e", f"inject={inject}"] if inject else []
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            try:
                said = strace.stderr.readline()
                assert "attached" in said, said
                child.send("go")
                try:
                    answer = child.receive()
                except EOFError:
                    answer = None
                status = child.wait()
            except BaseException:
                strace.kill()  # it ends with the child, and the child only after this block
                raise
    shutil.rmtree(rehearsal, ignore_errors=True)
    lines = trace.read_text().splitlines()
    injected = any("(INJECTED)" in line for line in lines) or status == -9
    return Outcome(status, answer, list(_calls(lines, folder)), injected)


def _perform(connection: Connection, task: Callable[[Path], Any], rehearsal: Path, folder: Path) -> None:
    task(rehearsal)
    if sys.platform == "linux":  # strace is no ancestor of this process; Yama asks for permission then
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
    connection.send("ready")
    connection.recv()
    connection.send(task(folder))


def _calls(lines: list[str], folder: Path) -> list[Call]:
    counts: Counter[tuple[str, str]] = Counter()
    calls = []
    for line in lines:
        started = _STARTED.match(line)
        if started is None:
            continue
        counts[started["thread"], started["name"]] += 1
        if f"{folder}/" in line or f'{folder}"' in line or f"{folder}>" in line:
            calls.append(Call(started["name"], counts[started["thread"], started["name"]], line))
    return calls
