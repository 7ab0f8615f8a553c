"""Processes of a year's backfill are killed again and again: complete in the end, and nothing done for nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

import psutil
import pytest

from pipeline_assets.orchestration.daily_run import NOTE_EVERY_SECONDS
from pipeline_assets_tests.orchestration.backfill import counted
from pipeline_assets_tests.orchestration.backfill.counting import sitecustomize
from pipeline_assets_tests.orchestration.backfill.year import (
    FIRST,
    LAST,
    STEPS,
    YEAR,
    Call,
    Project,
    computed,
    project,
    statuses,
    wait_for,
)
from pipeline_assets_tests.orchestration.servers import Daemon, Server, dagster_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS, RUNS = 5, 4
ALL = ["backfill", "--mode", "full", "--from", str(FIRST), "--to", str(LAST)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A year that nothing happened to."""
    return computed(tmp_path_factory)


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


@pytest.mark.parametrize(("parallel", "days"), [(1, YEAR), (2, YEAR[-90:])], ids=["1", "2"])
def test_a_backfill_that_is_killed_five_times_over_and_resumed_is_complete_and_did_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, parallel: int, days: list[date]
) -> None:
    undisturbed = computed(tmp_path_factory, days)
    there, chance = project(tmp_path / "project", days), random.Random(parallel)
    command = [*ALL[:-3], str(days[0]), "--to", str(LAST), "--parallel", str(parallel), "--yes"]
    kills = []
    for moment in sorted(chance.sample(range(1, len(STEPS) * len(days) - 50), KILLS)):
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

    assert there.bytes_of() == undisturbed.bytes_of()
    assert there.counted().keys() == {(table, day) for table in STEPS for day in days}
    assert not_explained(there.calls(), kills) == []
    (told,) = there.json("backfills")
    assert (told["state"], told["done"], told["failed"], told["left"]) == ("done", len(STEPS) * len(days), 0, 0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Project, Server]]:
    """A project that has Dagster's webserver and daemon running in its folder."""
    there = project(tmp_path / "project")
    folder = there.folder
    settings = {
        **there.settings,
        "PIPELINE_LANDING": str(there.landing),
        "PIPELINE_STORE": str(there.lake),
        "PIPELINE_SOURCE": str(folder / "sources" / "demo.sql"),
        "PIPELINE_SENSORS": "stopped",  # they would compute what is to be backfilled
        "PIPELINE_DAYS_PER_RUN": str(len(YEAR) // RUNS),
    }
    with dagster_running(
        folder, {**settings, sitecustomize.CALLS: str(folder / "calls")}, module=counted.__name__
    ) as server:
        there.settings = {**settings, "PIPELINE_DAGSTER_URL": server.url}
        yield there, server


def watched_worker(there: Project, daemon: Daemon) -> psutil.Process | None:
    """The process that computes just now, if it is one whose code server is still there to see it die."""
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(there.calls()[-1].pid)
        if daemon._process is not None and daemon._process.pid in {each.pid for each in worker.parents()}:
            return worker
    return None


@pytest.mark.timeout(1200)
def test_a_backfill_of_a_year_in_dagster_whose_workers_daemon_and_command_are_killed_is_complete_in_the_end(
    undisturbed: Project, served: tuple[Project, Server]
) -> None:
    (there, server), chance = served, random.Random(3)
    command = [*ALL, "--dagster", "--yes"]
    kills = []
    victims = ["worker", "command", "worker", "worker", "daemon"]
    moments = sorted(chance.sample(range(1, len(STEPS) * len(YEAR) - 50), len(victims)))
    process = there.begin(*command)
    try:
        for moment, victim in zip(moments, victims, strict=True):
            wait_for(lambda at=moment: there.number_of_calls() >= at, process, what=f"partition {moment}")  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
            if victim == "worker":
                worker = wait_for(lambda: watched_worker(there, server.daemon), process, what="a worker")
                kills.append(time.monotonic_ns())
                worker.kill()
            elif victim == "daemon":
                server.daemon.kill()
                server.daemon.start()
            else:
                process.kill()
                assert process.wait() == -signal.SIGKILL
                process = there.begin("backfill", "--resume", "--yes")
        assert process.wait(1200) == 0
    finally:
        process.kill()
        process.wait()

    assert there.bytes_of() == undisturbed.bytes_of()
    assert there.counted().keys() == {(table, day) for table in STEPS for day in YEAR}
    assert not_explained(there.calls(), kills) == []
    (told,) = there.json("backfills")
    assert (told["state"], told["done"], told["failed"], told["left"]) == ("done", len(STEPS) * len(YEAR), 0, 0)


def test_a_backfill_in_dagster_that_is_cancelled_starts_nothing_afterwards(served: tuple[Project, Server]) -> None:
    there, _ = served
    with there.begun(*ALL, "--dagster", "--yes") as process:
        wait_for(lambda: there.number_of_calls() >= 3, process, what="three partitions")
        (book,) = there.folder.rglob("pipeline_backfills/*.json")
        there.run("cancel", book.stem)
        before = there.counted(), there.stamps(), statuses(there)
        assert process.wait(120) == 130
    assert before[0].total() < len(STEPS) * len(YEAR)
    assert before[2].keys() <= {"CANCELED", "SUCCESS"}
    refused = there.run("backfill", "--resume", "--id", book.stem, status=2)
    assert "was cancelled, for good" in refused.stderr
    time.sleep(3)  # the daemon looks every half second
    assert (there.counted(), there.stamps(), statuses(there)) == before
