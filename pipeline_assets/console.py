"""What the CLI shows: progress bars and tables. Nothing is decided here."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline_assets.orchestration.finished_days import FinishedDay
from pipeline_assets.report.words import duration

PIPE_WIDTH = 160
"""Columns when the output is no terminal: a log should not fold at the 80 that nobody looks at."""

SECONDS_BETWEEN_LINES = 5


def _console(*, stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False, soft_wrap=True)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=PIPE_WIDTH)


def _progress(shown_on: Console, unit: str, *columns: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        *columns,
        TextColumn("{task.fields[note]}"),
        console=shown_on,
        disable=not shown_on.is_terminal,
    )


console, stderr = _console(stderr=False), _console(stderr=True)


class View:
    """A live progress, from its beginning to its end."""

    _progress: Progress

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._progress.stop()


class RunView(View):
    """A progress bar per table, and the closing table. Without a terminal: a line when a table is done.

    Args:
        days: days to come per table, in the order to show.
    """

    def __init__(self, days: Mapping[str, int]) -> None:
        self._finished: dict[str, list[FinishedDay]] = {table: [] for table in days}
        self._failed = Counter[str]()
        self._expected = dict(days)
        self._progress = _progress(console, "days", TimeElapsedColumn())
        self._tasks = {
            table: self._progress.add_task(table, total=total, note="", start=False) for table, total in days.items()
        }

    def day_done(self, event: FinishedDay) -> None:
        """Show one finished day."""
        finished, task = self._finished[event.table], self._tasks[event.table]
        finished.append(event)
        self._failed[event.table] += event.error is not None
        failed = self._failed[event.table]
        self._progress.start_task(task)
        self._progress.update(task, completed=len(finished), note=f"{failed} failed" if failed else "")
        if not console.is_terminal and len(finished) == self._expected[event.table]:
            rows, seconds = sum(day.rows for day in finished), sum(day.seconds for day in finished)
            console.print(f"{event.table}: {len(finished)} days, {rows:,} rows, {seconds:.1f} s")

    def summary(self) -> Table:
        """Sum up the run, a row per table."""
        names = ["table", "days", "rows in", "kept", "duplicates", "rejected", "unchanged", "seconds"]
        if any_failed := self._failed.total() > 0:
            names.append("failed")
        rows = [
            [
                table,
                len(finished),
                sum(day.read for day in finished),
                sum(day.rows for day in finished),
                sum(day.duplicates for day in finished),
                sum(day.rejected for day in finished),
                sum(day.unchanged for day in finished),
                round(sum(day.seconds for day in finished), 1),
                *([self._failed[table]] if any_failed else []),
            ]
            for table, finished in self._finished.items()
        ]
        return grid(names, rows, unbroken=len(names))


class BackfillView(View):
    """One bar over all partitions of a backfill, with rate and time left. Without a terminal: a line now and then.

    Args:
        planned: partitions by table.
        done: of these, before.
        on_stderr: stdout is for a program.
    """

    def __init__(self, planned: Mapping[str, int], done: Mapping[str, int], *, on_stderr: bool = False) -> None:
        self._console = stderr if on_stderr else console
        self._planned, self._done = dict(planned), dict(done)
        self._before, self._began, self._told = sum(done.values()), time.monotonic(), time.monotonic()
        self._failed = 0
        self._progress = _progress(self._console, "partitions")
        self._task = self._progress.add_task("backfill", total=sum(planned.values()), completed=self._before, note="")

    def say(self, sentence: str) -> None:
        """Print a line above the bar."""
        self._console.print(sentence, markup=False)

    def day_done(self, event: FinishedDay) -> None:
        """Count one finished partition."""
        self._failed += event.error is not None
        self._done[event.table] += event.error is None
        self._show(f"{event.table} {event.day}")

    def done(self, counts: Mapping[str, int]) -> None:
        """Partitions that are done by now, of some tables."""
        if any(self._done[table] != count for table, count in counts.items()):
            self._done |= counts
            self._show(", ".join(f"{table} {count} of {self._planned[table]}" for table, count in counts.items()))

    def _show(self, at: str) -> None:
        done, total, now = sum(self._done.values()), sum(self._planned.values()), time.monotonic()
        rate = (done - self._before) / max(now - self._began, 1e-9)
        left = f", about {duration((total - done - self._failed) / rate)} left" if rate else ""
        note = f"{at}, {rate:,.1f}/s{left}" + (f", {self._failed} failed" if self._failed else "")
        self._progress.update(self._task, completed=done, note=note)
        if not self._console.is_terminal and now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self._console.print(f"{done:,} of {total:,} partitions, {note}", markup=False)


def grid(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, unbroken: int = 0
) -> Table:
    """A plain table; numbers go to the right.

    Args:
        unbroken: so many columns, from the left, keep their width where there is too little of it.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    listed = [list(row) for row in rows]
    for index, name in enumerate(columns):
        told = [row[index] for row in listed if row[index] is not None]
        numeric = bool(told) and all(isinstance(value, int | float) for value in told)
        justify: JustifyMethod = "right" if numeric else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=index < unbroken)
    for row in listed:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
