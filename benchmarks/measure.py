"""What the benchmarks share: targets and figures, interleaved timing, a child process with its peak memory, tables.

Every figure is taken beside its peer: peer, ours, ours, peer, peer, ours ... so that both meet the same neighbours on
the machine. The best of each is compared, because what other processes do to a time only ever adds to it; medians are
printed beside.
"""

from __future__ import annotations

import gc
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = str(Path(sys.executable).parent / "pipeline")
TABLE_DONE = re.compile(r"(\w+): \d+ days, [\d,]+ rows, ([\d.]+) s")
"""What `pipeline run` prints when a table is done, if its output is no terminal."""
POLL_SECONDS = 0.02


class CannotRunError(Exception):
    """A benchmark that could not be measured, and why."""


class SkippedError(Exception):
    """A benchmark that lacks what it needs on this machine, and what that is."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: at most `limit`, in `unit`."""

    what: str
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"<= {self.limit:g} {self.unit}"

    def figure(self, value: float) -> Figure:
        """The figure that was measured for it."""
        return Figure(self, value)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value beside its target."""

    target: Target
    value: float

    def row(self) -> list[str]:
        """As cells: what, measured, target, verdict."""
        verdict = "PASS" if self.value <= self.target.limit else "over"
        return [self.target.what, number(self.value, self.target.unit), str(self.target), verdict]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the rounds of one thing."""

    seconds: list[float]

    @property
    def best(self) -> float:
        """The least disturbed round."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)


def interleaved(rounds: int, *functions: Callable[[], object]) -> list[Times]:
    """Time the functions in turn, another one first each round, after one round that is not counted."""
    times: list[list[float]] = [[] for _ in functions]
    for index in range(rounds + 1):
        for offset in range(len(functions)):
            which = (index + offset) % len(functions)
            gc.collect()
            started = time.perf_counter()
            result = functions[which]()
            elapsed = time.perf_counter() - started
            del result  # freed outside the time that is taken
            if index:
                times[which].append(elapsed)
    return [Times(seconds) for seconds in times]


@dataclass(frozen=True, slots=True)
class Phase:
    """One table of a `pipeline run`: its own seconds, and the peak of the process while it was made."""

    table: str
    seconds: float
    peak_bytes: int


def phase_table(phases: Sequence[Phase]) -> str:
    """Seconds and peak memory by table."""
    rows = [[each.table, f"{each.seconds:.1f}", number(each.peak_bytes / 1e6, "MB")] for each in phases]
    return table(["table", "seconds", "peak memory meanwhile"], rows)


@dataclass(frozen=True, slots=True)
class Child:
    """A finished child process. `killed` when it was stopped for passing its limit."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    phases: list[Phase]
    killed: bool

    def __str__(self) -> str:
        peak = number(self.peak_bytes / 1e6, "MB")
        return f"{self.seconds:.1f} s, {self.cpu_seconds:.1f} s of processor, peak {peak}"


def run_child(command: Sequence[str], folder: Path, *, limit_bytes: int | None = None, **environment: str) -> Child:
    """Run a command in a folder; measure its seconds and peak resident memory, as the system accounts it.

    Args:
        limit_bytes: resident memory is looked at every 20 ms, and the process killed when it is above.
        environment: added to `clean_environment`.

    Raises:
        CannotRunError: it failed.
    """
    samples: list[tuple[float, int]] = []
    lines: list[tuple[float, str]] = []
    over, ended = threading.Event(), threading.Event()
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**clean_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:

        def watch() -> None:
            process = psutil.Process(child.pid)
            with suppress(psutil.Error):
                while not ended.wait(POLL_SECONDS):
                    resident = process.memory_info().rss
                    samples.append((time.perf_counter(), resident))
                    if limit_bytes is not None and resident > limit_bytes:
                        over.set()
                        process.kill()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        lines.extend((time.perf_counter(), line) for line in child.stdout or ())
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        ended.set()
        watcher.join()
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode and not over.is_set():
        output = "".join(line for _, line in lines)
        raise CannotRunError(f"`{' '.join(command)}` ended with {child.returncode}:\n{output}")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Child(seconds, cpu_seconds, peak_bytes, _phases(lines, samples), over.is_set())


def clean_environment() -> dict[str, str]:
    """This process's environment without the settings of the pipeline and of Dagster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "DAGSTER_"))}


def _phases(lines: list[tuple[float, str]], samples: list[tuple[float, int]]) -> list[Phase]:
    phases: list[Phase] = []
    begun, peak_bytes = 0.0, 0
    for at, line in lines:
        if done := TABLE_DONE.fullmatch(line.strip()):
            within = [resident for when, resident in samples if begun <= when <= at]
            if within:  # tables that are made together are done together
                begun, peak_bytes = at, max(within)
            phases.append(Phase(done[1], float(done[2]), peak_bytes))
    return phases


@contextmanager
def empty_project() -> Iterator[Path]:
    """A temporary folder that `pipeline` takes for the checkout: same sources and Dagster settings, no data.

    TMPDIR says on which disk.
    """
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        folder = Path(name)
        for file in ("dagster.yaml", "workspace.yaml", "sources"):
            (folder / file).symlink_to(ROOT / file)
        yield folder


def number(value: float, unit: str) -> str:
    """The value with three significant digits, or whole above a hundred, and its unit."""
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:#.3g} {unit}"  # noqa: PLR2004 - as it says


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Plain text; columns of figures to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    drawn = []
    for index, name in enumerate(columns):
        cells = [line[index] for line in lines]
        width = max(map(len, (name, *cells)))
        figures = bool(cells) and all(cell[:1].isdigit() or cell.startswith("<=") for cell in cells)
        drawn.append([cell.rjust(width) if figures else cell.ljust(width) for cell in (name, "-" * width, *cells)])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*drawn, strict=True))


def compared(unit_seconds: float, unit: str, **times: Times) -> str:
    """A table of best and median of several things timed together, and their ratio to the first."""
    first = next(iter(times.values()))
    return table(
        ["", "best", "median", "best / best", "rounds"],
        [
            [
                name.replace("_", " "),
                number(each.best / unit_seconds, unit),
                number(each.median / unit_seconds, unit),
                f"{each.best / first.best:.2f}",
                len(each.seconds),
            ]
            for name, each in times.items()
        ],
    )
