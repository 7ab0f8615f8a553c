"""Carrying out a backfill without daemon or webserver: runs in this process, or in some that it starts.

A run is executed beside the main thread, which stays free to be told to stop: the partition in hand is finished and
recorded then, and no other is begun.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from pipeline_assets.errors import WorkerDied
from pipeline_assets.orchestration.backfill.book import Backfill
from pipeline_assets.orchestration.backfill.progress import Progress, run_tags
from pipeline_assets.orchestration.finished_days import FinishedDay, listening
from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.orchestration.history.runs import partitions_of_run, recorded_partitions
from pipeline_assets.orchestration.history.tags import CONTINUES_TAG, MAX_RETRIES_TAG
from pipeline_assets.orchestration.process import PlannedRun, execute, open_instance, was_interrupted
from pipeline_assets.partition import days_between, ranges_of
from pipeline_assets.rules.backfill import chunks
from pipeline_assets.rules.dispatch import Dispatch
from pipeline_assets.rules.graph import Graph

LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Task:
    """A run to be executed."""

    lead: str
    tables: tuple[str, ...]
    first: date
    last: date
    tags: Mapping[str, str]

    @property
    def days(self) -> list[date]:
        """List the days that it makes."""
        return days_between(self.first, self.last)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that was executed."""

    run_id: str
    interrupted: bool


class Worker(Protocol):
    """Executes one run at a time."""

    def begin(self, task: Task) -> None:
        """Start a run."""

    def ended(self) -> EndedRun | None:
        """The run, once it has ended; waits for that, but not long."""

    def stop(self) -> None:
        """End the run after the partition that is being computed."""


def carry_out(
    graph: Graph,
    instance: dg.DagsterInstance,
    backfill: Backfill,
    progress: Progress,
    *,
    workers: Sequence[Worker],
    stop: Callable[[], bool],
) -> Dispatch:
    """Compute what is left of a backfill, upstream first; what reads a partition that failed is not begun.

    Args:
        progress: how far it is. Failures of before are tried again.
        stop: true once nothing more is to be begun.
    """
    planned = backfill.file.plan
    dispatch = Dispatch(
        graph, planned, chunks(graph, planned, days_per_run=backfill.days_per_run), done=set(progress.done)
    )
    tags = run_tags(backfill.backfill_id, backfill.file) | {MAX_RETRIES_TAG: "0"}  # this process sees to dead workers
    dead = _let_go(instance, graph, progress, backfill.backfill_id)
    idle, busy, to_do, stopping = list(workers), dict[int, tuple[Worker, Task]](), list[Task](), False
    while True:
        if not stopping and stop():
            stopping = True
            for worker in workers:
                worker.stop()
        while idle and not stopping:  # the last hand first: it needs no start
            if not to_do and (ready := dispatch.next()) is not None:
                lead, days = ready
                to_do = [
                    Task(lead, graph.steps[lead], first, last, tags | _continues(dead, lead, first, last))
                    for first, last in ranges_of(days)
                ]
            if not to_do:
                break
            task, worker = to_do.pop(0), idle.pop()
            worker.begin(task)
            busy[id(worker)] = (worker, task)
        if not busy:
            return dispatch
        for worker, task in list(busy.values()):
            ended = worker.ended()
            if ended is not None:
                idle.append(busy.pop(id(worker))[0])
                _settle(instance, graph, dispatch, task, ended)


def _settle(instance: dg.DagsterInstance, graph: Graph, dispatch: Dispatch, task: Task, ended: EndedRun) -> None:
    run = instance.get_run_by_id(ended.run_id)
    if run is None or run.status is dg.DagsterRunStatus.SUCCESS:
        dispatch.ended(task.lead, task.days, task.days)
        return
    made = {
        partition.day
        for partition in recorded_partitions(instance, graph, ended.run_id)
        if partition.table == task.lead
    }
    if ended.interrupted:
        instance.report_run_canceled(run, "the backfill was stopped after the partition in hand")
        dispatch.ended(task.lead, [day for day in task.days if day in made], made)
        return
    dispatch.ended(task.lead, task.days, made)


def _let_go(
    instance: dg.DagsterInstance, graph: Graph, progress: Progress, backfill_id: str
) -> list[tuple[str, dict[str, set[date]]]]:
    """Runs whose process was killed, with what they were making: they end, and others go on from where they were."""
    dead = []
    for run in progress.runs:
        if run in progress.running:
            instance.report_run_canceled(
                run, f"the process that carried out backfill {backfill_id} is gone; what it had committed stands"
            )
        elif run.status is not dg.DagsterRunStatus.CANCELED:
            continue
        days: dict[str, set[date]] = {}
        for table, day in partitions_of_run(instance, graph, run):
            days.setdefault(table, set()).add(day)
        dead.append((run.run_id, days))
    return dead


def _continues(
    dead: Sequence[tuple[str, Mapping[str, set[date]]]], lead: str, first: date, last: date
) -> dict[str, str]:
    runs = [run_id for run_id, days in dead if any(first <= day <= last for day in days.get(lead, ()))]
    return {CONTINUES_TAG: ",".join(runs)} if runs else {}


@dataclass
class ThisProcess:
    """Runs beside the main thread.

    Args:
        listener: told of every finished day, in the other thread.
    """

    defs: dg.Definitions
    instance: dg.DagsterInstance
    listener: Callable[[FinishedDay], None]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, initializer=_deaf_to_interrupts))
    _running: Future[EndedRun] | None = None

    def begin(self, task: Task) -> None:
        """Start a run."""
        self._running = self._pool.submit(_run, self.defs, self.instance, task, self._heard)

    def ended(self) -> EndedRun | None:
        """The run, once it has ended."""
        assert self._running is not None  # noqa: S101 - `begin` comes first
        wait([self._running], LOOK_SECONDS)
        return self._running.result() if self._running.done() else None

    def stop(self) -> None:
        """End the run after the partition that is being computed."""
        self._stopping.set()

    def _heard(self, event: FinishedDay) -> None:
        self.listener(event)
        if self._stopping.is_set():
            raise KeyboardInterrupt


class OtherProcess:
    """Runs in a process of its own, which ends with this one.

    Args:
        build: gives the definitions, there.
        home: of the instance.
        listener: told of every finished day.
    """

    def __init__(
        self, build: Callable[[], dg.Definitions], home: Path, listener: Callable[[FinishedDay], None], stack: ExitStack
    ) -> None:
        context = get_context("spawn")
        self._listener = listener
        self._tasks: Any = context.Queue()
        self._said: Any = context.Queue()
        self._stopping = context.Event()
        self._process = context.Process(
            target=_work,
            args=(build, home, os.getpid()),
            kwargs={"tasks": self._tasks, "said": self._said, "stopping": self._stopping},
            daemon=True,
        )
        # A terminal sends Ctrl-C to a whole group of processes, and Dagster would end its run in the middle of a
        # partition. What it means is for this process to say: the other one is born deaf to it.
        heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        stack.callback(self._end)

    def begin(self, task: Task) -> None:
        """Start a run."""
        self._tasks.put(task)

    def ended(self) -> EndedRun | None:
        """The run, once it has ended.

        Raises:
            WorkerDied: the process died.
        """
        while True:
            try:
                said = self._said.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if not self._process.is_alive():
                    raise WorkerDied(
                        f"a worker process died with exit code {self._process.exitcode}; `--resume` goes on"
                    ) from None
                return None
            if isinstance(said, EndedRun):
                return said
            if isinstance(said, BaseException):
                raise said
            self._listener(said)

    def stop(self) -> None:
        """End the run after the partition that is being computed."""
        self._stopping.set()

    def _end(self) -> None:
        self._stopping.set()
        self._tasks.put(None)
        while self._process.is_alive():  # it ends once what it said was taken out of the pipe
            with suppress(queue.Empty):
                self._said.get(timeout=LOOK_SECONDS)
        self._process.join()


def _deaf_to_interrupts() -> None:
    """Of this thread, and of what it starts: Ctrl-C would else end the processes that copy a step's output."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _work(
    build: Callable[[], dg.Definitions], home: Path, parent: int, *, tasks: Any, said: Any, stopping: Any
) -> None:
    """What the other process does, until there is no more task, or nobody to give one."""

    def heard(event: FinishedDay) -> None:
        said.put(event)
        if stopping.is_set() or os.getppid() != parent:
            raise KeyboardInterrupt

    try:
        defs = build()
        with open_instance(home) as instance:
            while os.getppid() == parent:
                try:
                    task = tasks.get(timeout=1)
                except queue.Empty:
                    continue
                if task is None:
                    return
                said.put(_run(defs, instance, task, heard))
    except Exception as error:  # noqa: BLE001 - it is raised where somebody sees it
        said.put(error)


def _run(
    defs: dg.Definitions, instance: dg.DagsterInstance, task: Task, listener: Callable[[FinishedDay], None]
) -> EndedRun:
    with listening(listener):
        run = PlannedRun(tuple(key_of(table) for table in task.tables), task.first, task.last)
        result = execute(defs, run, instance, task.tags)
        return EndedRun(result.run_id, was_interrupted(result))
