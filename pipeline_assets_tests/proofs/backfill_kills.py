"""Processes of a backfill are killed again and again: complete in the end, and nothing done for nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil

from pipeline_assets.cli.main import EXIT_FAILED
from pipeline_assets.orchestration.asset.run import NOTE_EVERY_SECONDS
from pipeline_assets.partition import days_between
from pipeline_assets_tests.orchestration.backfill import counted
from pipeline_assets_tests.orchestration.backfill.checkout import (
    LAST,
    STEPS,
    Call,
    Project,
    computed,
    project,
    wait_for,
)
from pipeline_assets_tests.orchestration.backfill.counting import sitecustomize
from pipeline_assets_tests.orchestration.servers import Daemon, Server, dagster_running
from pipeline_assets_tests.proofs.subject import Case, Subject

RUNS = 4
"""Of each table in a backfill by Dagster."""
MOST_TABLES_OF_A_RUN = 2
"""Tables that read one another day by day are made by the same run."""
ATTEMPTS = 3
"""Of a run whose worker is killed, the first included: `run_retries` in dagster.yaml."""
IN_PROCESS, IN_DAGSTER = "in process", "in Dagster"
VICTIMS = ("worker", "command", "worker", "daemon", "worker")
"""In Dagster, in this order; in process it is chance."""


def days_until_last(number: int) -> list[date]:
    """So many days, the last of which is that of every checkout."""
    return days_between(LAST - timedelta(days=number - 1), LAST)


def command_for(days: Sequence[date]) -> list[str]:
    """A full backfill of the days."""
    return ["backfill", "--mode", "full", "--from", str(days[0]), "--to", str(days[-1]), "--yes"]


def lost_ns(calls: Sequence[Call], killed_ns: int) -> int:
    """How long before a kill a partition may have begun that was not noted, by what the process itself had done.

    A note is written at the end of the first partition that ends a second after the last note; the longest time between
    two partitions is what such a partition may have taken, the note with it, and once more for the one in hand.
    """
    before = sorted(call.began_ns for call in calls if call.began_ns <= killed_ns)
    longest = max((after - one for one, after in zip(before, [*before[1:], killed_ns], strict=True)), default=0)
    return int(NOTE_EVERY_SECONDS * 1e9) + 3 * longest


def not_explained(calls: Sequence[Call], kills: Sequence[int]) -> list[Call]:
    """Calls that were made again though no kill can have lost what they had made."""
    found = []
    for index, call in enumerate(calls):
        again = next((each for each in calls[index + 1 :] if (each.table, each.day) == (call.table, call.day)), None)
        if again is None:
            continue
        own = [each for each in calls if each.pid == call.pid]
        between = [kill for kill in kills if call.began_ns <= kill <= again.began_ns]
        if not any(kill - call.began_ns <= lost_ns(own, kill) for kill in between):
            found.append(call)
    return found


def workers_of(pid: int) -> list[int]:
    """Processes in which a command has its runs executed; there are none with one run at once."""
    with suppress(psutil.Error):
        return [each.pid for each in psutil.Process(pid).children() if "spawn_main" in " ".join(each.cmdline())]
    return []


def moments(chance: random.Random, days: Sequence[date], number: int, *, spared: int = 50) -> list[int]:
    """Numbers of the calls at which something is killed; the last ones are spared."""
    return sorted(chance.sample(range(1, len(STEPS) * len(days) - spared), number))


def killed_in_process(there: Project, days: Sequence[date], parallel: int, chance: random.Random) -> list[int]:
    """Begin, kill the command or one of its workers, resume, and so on to the end; when the kills were."""
    command, kills = [*command_for(days), "--parallel", str(parallel)], []
    for moment in moments(chance, days, len(VICTIMS)):
        with there.begun(*command) as process:
            # The partition may have been computed by what the kill before orphaned.
            wait_for(
                lambda at=moment, by=process.pid: (  # type: ignore[misc]
                    there.number_of_calls() >= at and bool(workers_of(by)) == (parallel > 1)
                ),
                process,
                what=f"partition {moment}",
            )
            time.sleep(chance.uniform(0, 0.05))
            victim = chance.choice([process.pid, *workers_of(process.pid)])
            kills.append(time.monotonic_ns())
            os.kill(victim, signal.SIGKILL)
            status = process.wait(60)
            assert status == -signal.SIGKILL if victim == process.pid else status > 0
            kills.append(time.monotonic_ns())
        command = ["backfill", "--resume", "--yes"]
    there.run(*command)
    return kills


@contextmanager
def served(folder: Path, days: Sequence[date]) -> Iterator[tuple[Project, Server]]:
    """A project that has Dagster's webserver and daemon running in its folder."""
    there = project(folder / "project", days)
    settings = {
        **there.settings,
        "PIPELINE_LANDING": str(there.landing),
        "PIPELINE_STORE": str(there.lake),
        "PIPELINE_SOURCE": str(there.folder / "sources" / "demo.sql"),
        "PIPELINE_SENSORS": "stopped",  # they would compute what is to be backfilled
        "PIPELINE_DAYS_PER_RUN": str(len(days) // RUNS),
    }
    told = {**settings, sitecustomize.CALLS: str(there.folder / "calls")}
    with dagster_running(there.folder, told, module=counted.__name__) as server:
        there.settings = {**settings, "PIPELINE_DAGSTER_URL": server.url}
        yield there, server


def watched_worker(there: Project, daemon: Daemon) -> psutil.Process | None:
    """The process that computes just now, if it is one whose code server is still there to see it die."""
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(there.calls()[-1].pid)
        if daemon._process is not None and daemon._process.pid in {each.pid for each in worker.parents()}:
            return worker
    return None


def killed_in_dagster(there: Project, server: Server, days: Sequence[date], chance: random.Random) -> list[int]:
    """Begin by a running Dagster; kill run workers, the command that watches, the daemon; when workers were killed.

    A run that was lost three times is not tried again: the command says so and ends, and the backfill is retried.
    """
    kills, lost = [], 0
    process = there.begin(*command_for(days), "--dagster")

    def go_on() -> None:
        nonlocal process
        if process.poll() == EXIT_FAILED and lost >= ATTEMPTS:
            newest = there.json("backfills")[0]
            assert newest["retries"] is None, f"a retry was given up: {newest}"
            process = there.begin("retry", newest["backfill_id"], "--yes")

    def wait(done: Callable[[], Any], what: str) -> Any:
        go_on()
        try:
            return wait_for(done, process, what=what)
        except AssertionError:
            ended = process
            go_on()
            if process is ended:
                raise
        return wait_for(done, process, what=what)

    try:
        # What two runs compute when the daemon is killed goes on without it, and is nothing that it would see die.
        spared = 2 * len(days) * MOST_TABLES_OF_A_RUN // RUNS + 50
        for moment, victim in zip(moments(chance, days, len(VICTIMS), spared=spared), VICTIMS, strict=True):
            wait(lambda at=moment: there.number_of_calls() >= at, f"partition {moment}")  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
            if victim == "worker":
                worker = wait(lambda: watched_worker(there, server.daemon), "a worker")
                kills.append(time.monotonic_ns())
                worker.kill()
                lost += 1
            elif victim == "daemon":
                server.daemon.kill()
                lost += 1
                server.daemon.start()
            else:
                process.kill()
                status = process.wait()
                assert status == -signal.SIGKILL, f"the command that was to be killed had ended with {status}"
                process = there.begin("backfill", "--resume", "--yes")
        process.wait(1200)
        go_on()
        status = process.wait(1200)
        assert status == 0, f"the command ended with {status}: {(there.folder / 'said').read_text()[-2000:]}"
    finally:
        process.kill()
        process.wait()
    return kills


def assert_complete(there: Project, days: Sequence[date], kills: Sequence[int]) -> None:
    """The lake of an undisturbed run; what was computed twice is explained by a kill; the book says that it is done."""
    assert there.bytes_of() == computed(days).bytes_of(), "the lake is not that of a run that nothing disturbed"
    assert there.counted().keys() == {(table, day) for table in STEPS for day in days}, "not every partition was made"
    again = not_explained(there.calls(), kills)
    assert again == [], f"computed again, and no kill explains it: {again}"
    newest, *before = there.json("backfills")
    assert (newest["state"], newest["failed"], newest["left"]) == ("done", 0, 0), newest
    told = [newest, *before]
    assert [each["retries"] for each in told] == [*(each["backfill_id"] for each in before), None], told
    assert sum(each["done"] for each in told) == len(STEPS) * len(days), told


def prove(case: Case, folder: Path) -> str:
    """Five kills in one backfill."""
    where, length, at_once, seed = case
    days, chance = days_until_last(int(length.split(maxsplit=1)[0])), random.Random(seed)
    was_retried = False
    if where == IN_PROCESS:
        there = project(folder / "project", days)
        kills = killed_in_process(there, days, int(at_once.split()[0]), chance)
        assert_complete(there, days, kills)
    else:
        with served(folder, days) as (there, server):
            kills = killed_in_dagster(there, server, days, chance)
            assert_complete(there, days, kills)
            was_retried = len(there.json("backfills")) > 1
    again = there.counted().total() - len(there.counted())
    told = "nothing was computed twice" if again == 0 else "what a kill lost was computed twice"
    return f"{told}, and what Dagster gave up was retried" if was_retried else told


def cases() -> list[Case]:
    """Short ones of many seeds, and a year of one."""
    found: list[Case] = []
    for where, at_once in ((IN_PROCESS, "2 at once"), (IN_DAGSTER, "as the queue has it"), (IN_PROCESS, "1 at once")):
        found += [(where, "60 days", at_once, f"{seed}") for seed in range(1, 5)]
        found.append((where, "365 days", at_once, "5"))
    return found


SUBJECT = Subject(
    "backfill_kills",
    "A backfill whose command, workers and daemon are killed five times over is complete in the end, in process and by "
    "Dagster, and nothing is computed again but what a kill can have lost.",
    cases,
    prove,
    sampled=2,
    seeded=True,
)
