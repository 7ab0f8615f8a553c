"""A checkout with small landing files in it, and the `pipeline` command in processes of its own there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.partition import days_between
from pipeline_assets_tests.orchestration.backfill.counting import sitecustomize
from pipeline_assets_tests.support.session import made_once

ROOT = Path(__file__).resolve().parents[3]
PIPELINE = Path(sys.executable).parent / "pipeline"
FIRST, LAST = date(2024, 2, 1), date(2024, 3, 31)
HISTORY = days_between(FIRST, LAST)
STEPS = ("raw_events", "events", "daily_sales", "user_features", "user_segments")
TABLES = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")
HEADER = "event_id,user_id,event_type,amount,event_time"
Stamp = tuple[int, int]


def land(landing: Path, days: Sequence[date], *, scale: int = 1) -> None:
    """Files of a few events: one comes a day late, one twice, and one row is no event.

    Args:
        scale: of the amounts.
    """
    for day in days:
        before, number = day - timedelta(days=1), day.toordinal()
        folder = landing / f"dt={day}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            f"{day}-0,u{number % 5},purchase,{scale * (number % 7 + 1)}.50,{day}T09:00:00Z",
            f"{day}-1,u{number % 3},view,,{day}T12:00:00Z",
            f"{day}-1,u{number % 3},view,,{day}T12:00:00Z",
            f"{before}-2,u{number % 11},purchase,{scale * (number % 13 + 1)}.25,{before}T23:30:00Z",
            f"{day}-3,u1,purchase,much,{day}T13:00:00Z",
        ]
        (folder / "shop.csv").write_text("\n".join((HEADER, *rows, "")))


@dataclass(frozen=True, slots=True)
class Call:
    """Of an asset's function."""

    table: str
    day: date
    pid: int
    began_ns: int
    """By the monotonic clock, which all processes of a machine share."""


@dataclass
class Project:
    """A folder that `pipeline` takes for the checkout.

    Args:
        tree: where the package lies that is run; this checkout's unless given.
        settings: PIPELINE_ variables.
        command: what a command line becomes, where it is to run in another way.
    """

    folder: Path
    tree: Path = ROOT
    settings: Mapping[str, str] = field(default_factory=dict)
    command: Callable[..., list[str | Path]] = lambda *parts: list(parts)

    @property
    def lake(self) -> Path:
        """Its store."""
        return self.folder / ".data" / "lake"

    @property
    def landing(self) -> Path:
        """Its landing zone."""
        return self.folder / ".data" / "landing"

    def environment(self) -> dict[str, str]:
        """Of its commands."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "DAGSTER_"))}
        paths = (self.tree, Path(sitecustomize.__file__).parent)
        return {
            **clean,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            sitecustomize.CALLS: str(self.folder / "calls"),
            **self.settings,
        }

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; whoever does sees to its end (`begun`)."""
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                self.command(PIPELINE, *arguments),
                cwd=self.folder,
                env=self.environment(),
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )

    @contextmanager
    def begun(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on beside the test; killed on leaving if it still does."""
        process = self.begin(*arguments)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """A command from beginning to end; `status` is what it must end with."""
        ended = subprocess.run(
            self.command(PIPELINE, *arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == status, f"{ended.returncode}: {ended.stdout}\n{ended.stderr}"
        return ended

    def json(self, *arguments: str, status: int = 0) -> Any:
        """What a command says to programs."""
        return json.loads(self.run(*arguments, "--format", "json", status=status).stdout)

    def calls(self) -> list[Call]:
        """Of asset functions so far, as they began."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        parts = (line.split() for line in lines)
        return [Call(table, date.fromisoformat(day), int(pid), int(began)) for table, day, pid, began in parts]

    def number_of_calls(self) -> int:
        """So far."""
        path = self.folder / "calls"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def counted(self) -> Counter[tuple[str, date]]:
        """How often each partition was computed."""
        return Counter((call.table, call.day) for call in self.calls())

    def bytes_of(self, tables: Sequence[str] = TABLES) -> dict[str, bytes]:
        """The heads, by path in the lake."""
        return {str(path.relative_to(self.lake)): path.read_bytes() for path in self._heads(tables)}

    def stamps(self, tables: Sequence[str] = TABLES) -> dict[tuple[str, date], Stamp]:
        """Inode and time of every head: other ones if it was written again."""
        return {
            (path.parts[-3], date.fromisoformat(path.parts[-2].removeprefix("dt="))): (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
            )
            for path in self._heads(tables)
        }

    def half_done(self) -> list[Path]:
        """Files that were staged and neither published nor removed."""
        return [path for path in (self.lake / "_staging").rglob("*") if path.is_file()]

    def _heads(self, tables: Sequence[str]) -> Iterator[Path]:
        for table in tables:
            yield from sorted((self.lake / table).glob("dt=*/data.parquet"))


def project(folder: Path, days: Sequence[date] = HISTORY) -> Project:
    """One in which files have landed, and nothing was computed."""
    folder.mkdir(parents=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "sources").symlink_to(ROOT / "sources")
    begun = Project(folder, settings={"PIPELINE_START": str(days[0])})
    land(begun.landing, days)
    return begun


def copied(base: Project, folder: Path) -> Project:
    """The same once more, with all that was computed and recorded."""
    shutil.copytree(base.folder, folder, symlinks=True)
    (folder / "calls").unlink(missing_ok=True)
    return Project(folder, base.tree, base.settings)


def computed(days: Sequence[date] = HISTORY) -> Project:
    """Days that nothing ever happened to. Not to be changed: see `copied`."""

    def make(folder: Path) -> None:
        project(folder, days).run("run", "--from", str(days[0]), "--to", str(days[-1]))

    folder = made_once(f"computed_{len(days)}", make)
    return Project(folder, settings={"PIPELINE_START": str(days[0])})


def wait_for(done: Callable[[], Any], process: subprocess.Popen[str] | None = None, *, what: str) -> Any:
    """What `done` gives once it gives something, looked at often; an error if the process ended before."""
    deadline = time.monotonic() + 240
    while not (found := done()):
        ended = process is not None and process.poll() is not None
        assert not ended or done(), f"the command ended before {what}"
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)
    return found


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C: a terminal sends it to the command and to all that it started."""
    os.killpg(process.pid, signal.SIGINT)


def statuses(there: Project) -> Counter[str]:
    """Of all runs."""
    with chdir(there.folder), open_instance(there.folder) as instance:
        return Counter(record.dagster_run.status.value for record in instance.get_run_records())
