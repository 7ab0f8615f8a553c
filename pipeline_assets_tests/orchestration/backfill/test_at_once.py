"""A backfill that is not alone: another run on its partitions, somebody who stops it, a disk that is full."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.history.records import Records
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.partition import Partition
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.parquet import read_table
from pipeline_assets_tests.orchestration.backfill import contested
from pipeline_assets_tests.orchestration.backfill.checkout import (
    HISTORY,
    ROOT,
    STEPS,
    Project,
    computed,
    interrupt,
    project,
    statuses,
    wait_for,
)
from pipeline_assets_tests.orchestration.backfill.contested import BACKFILL, DAILY, NUMBERS, ROWS, definitions
from pipeline_assets_tests.orchestration.lake import Lake, day
from pipeline_assets_tests.support.processes import running

pytestmark = pytest.mark.slow(20)
CONTESTED = [day(number) for number in range(contested.LAST + 1)]


def looking(connection: Connection, root: Path) -> None:
    """Read every head again and again until told to stop; say what was seen of each, in this order."""
    store, seen = LocalStore(root), {each: [] for each in CONTESTED}  # type: ignore[var-annotated]
    while not connection.poll():
        for each, told in seen.items():
            pinned = store.open(Partition("contested", each))
            if pinned is None:
                found = "nothing"
            else:
                with pinned.file as file:
                    values = read_table(file)["n"].to_pylist()
                found = f"{values[0]} {len(values)} {len(set(values))}"
            if not told or told[-1] != found:
                told.append(found)
    connection.send(seen)


@pytest.mark.parametrize("order", [BACKFILL, DAILY, "1", "2"])
def test_of_a_backfill_and_the_daily_run_on_one_day_one_wins_and_the_other_is_told_and_tries_again(
    tmp_path: Path, order: str
) -> None:
    (tmp_path / "met").mkdir()
    with open_instance(tmp_path / "home") as instance, running(looking, tmp_path / "lake") as reader:
        both = [
            subprocess.Popen([sys.executable, "-m", contested.__name__, str(tmp_path), role, order], cwd=ROOT)
            for role in NUMBERS
        ]
        try:
            assert [each.wait(400) for each in both] == [0, 0]
        finally:
            for each in both:
                each.kill()
                each.wait()
        reader.send("stop")
        seen = reader.receive()
        lake = Lake(tmp_path / "lake", instance)
        calls = Counter(tuple(line.split()) for line in (tmp_path / "calls").read_text().splitlines())
        whole = {f"{number} {ROWS} 1" for number in NUMBERS.values()}
        told: set[str] = set()
        graph = daily_graph(definitions(tmp_path, DAILY, order).resolve_asset_graph())
        lookup = Records(EventLog(instance, graph), lake.store)
        newest = lookup.of_table("contested").records
        for number, contended in enumerate(CONTESTED):
            tries = {role: calls[role, str(contended)] for role in NUMBERS}
            # Who tries again for another day, and finds another's commit where its own was, makes that day again, too.
            assert sorted(tries.values()) in ([1, 2], [2, 2]), f"{contended}: {tries}"
            kept = lake.store.history(Partition("contested", contended))
            assert len(kept) == sum(tries.values()) - 2
            told |= {role for role, times in tries.items() if times > 1}
            rows = lake.rows("contested", number)
            assert rows in [[{"n": value}] * ROWS for value in NUMBERS.values()]
            assert set(seen[contended]) <= {"nothing"} | whole
            assert seen[contended][-1] in whole
            head = lake.store.head(Partition("contested", contended))
            assert head is not None
            assert head.record is not None
            assert newest[contended].write_id == head.record.write_id
            assert newest[contended].digest == head.digest
        assert told == set(NUMBERS) - {order}
        assert not lookup.unrecorded


DAYS = HISTORY[-12:]
ALL = ["backfill", "--mode", "full", "--from", str(DAYS[0]), "--to", str(DAYS[-1]), "--yes"]


@pytest.fixture(scope="module")
def undisturbed() -> Project:
    """The days, as they are if nothing happens."""
    return computed(DAYS)


@pytest.mark.parametrize("parallel", [1, 2])
def test_ctrl_c_stops_after_the_partition_in_hand_a_second_one_at_once_and_resuming_goes_on(
    undisturbed: Project, tmp_path: Path, parallel: int
) -> None:
    there = project(tmp_path / "project", DAYS)
    with there.begun(*ALL, "--parallel", str(parallel), "--days-per-run", str(len(DAYS) // parallel)) as process:
        wait_for(lambda: there.number_of_calls() >= 3, process, what="three partitions")
        interrupt(process)
        assert process.wait(120) == 130
    stopped = there.counted()
    runs = statuses(there)
    assert runs["CANCELED"] in range(1, parallel + 1)
    assert runs.keys() <= {"CANCELED", "SUCCESS"}
    (told,) = there.json("backfills")
    assert (told["state"], told["done"]) == ("stopped", stopped.total())
    assert {(table, each) for table, each in there.stamps(STEPS)} == stopped.keys()
    assert there.half_done() == []

    with there.begun("backfill", "--resume") as process:
        wait_for(lambda: there.number_of_calls() >= stopped.total() + 5, process, what="five more partitions")
        interrupt(process)
        time.sleep(0.05)  # two that come as one are one
        with suppress(ProcessLookupError):
            interrupt(process)
        assert process.wait(120) == 130
    shown = there.bytes_of()
    assert shown.items() <= undisturbed.bytes_of().items()

    there.run("backfill", "--resume")
    assert there.bytes_of() == undisturbed.bytes_of()
    assert {partition: there.counted()[partition] for partition in stopped} == dict.fromkeys(stopped, 1)


def test_of_a_backfill_that_is_cancelled_nothing_starts_afterwards_and_it_is_not_resumed(tmp_path: Path) -> None:
    there = project(tmp_path / "project", DAYS)
    with there.begun(*ALL, "--parallel", "2", "--days-per-run", "5") as process:
        wait_for(lambda: there.number_of_calls() >= 3, process, what="three partitions")
        (book,) = there.folder.rglob("pipeline_backfills/*.json")
        there.run("cancel", book.stem)
        calls, stamps = there.counted(), there.stamps()
        assert process.wait(120) == 130
    assert calls.total() < len(STEPS) * len(DAYS)
    assert {(table, each) for table, each in stamps if table in STEPS} == calls.keys()
    runs = statuses(there)
    assert runs.keys() <= {"CANCELED", "SUCCESS"}

    refused = there.run("backfill", "--resume", "--id", book.stem, status=2)
    assert "was cancelled, for good" in refused.stderr
    there.run("cancel", book.stem, status=2)
    assert (there.counted(), there.stamps(), statuses(there)) == (calls, stamps, runs)
    (told,) = there.json("backfills")
    assert (told["state"], told["done"]) == ("cancelled", calls.total())


@dataclass
class SmallDisk:
    """A file system of a few pages that only processes entered through `inside` see."""

    holder: subprocess.Popen[str]
    lake: Path

    def inside(self, *command: str | Path) -> list[str | Path]:
        """The command, where the disk is."""
        return ["nsenter", "-t", str(self.holder.pid), "-U", "-m", "--preserve-credentials", "--wd=.", *command]


@contextmanager
def small_disk(lake: Path, size: str) -> Iterator[SmallDisk]:
    lake.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size={size} none "$0" && echo mounted && exec cat'
    with subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", mount, lake], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip("user namespaces or mounts are not permitted")
        try:
            yield SmallDisk(holder, lake)
        finally:
            holder.stdin.close()


def test_days_that_did_not_fit_on_the_disk_are_named_and_made_by_retry_once_there_is_space(
    undisturbed: Project, tmp_path: Path
) -> None:
    there = project(tmp_path / "project", DAYS)
    with small_disk(there.lake, "4m") as disk:
        there.command = disk.inside
        filler = there.lake / "filler"
        subprocess.run(disk.inside("dd", "if=/dev/zero", f"of={filler}", "bs=1024", "count=3900"), check=True)
        full = there.json(*ALL, "--days-per-run", "5", status=1)
        assert full["failed"] > 0
        assert all("StorageFull" in each["what"] for each in full["failures"])
        assert full["done"] + full["failed"] + full["left"] == full["planned"] == len(STEPS) * len(DAYS)
        assert there.counted().total() < full["planned"]

        subprocess.run(disk.inside("rm", filler), check=True)
        retried = there.json("retry", full["backfill_id"], "--yes")
        assert (retried["planned"], retried["state"]) == (full["planned"] - full["done"], "done")
        kept = Project(tmp_path / "kept")
        kept.lake.parent.mkdir(parents=True)
        subprocess.run(disk.inside("cp", "-r", there.lake, kept.lake), check=True)
    assert kept.bytes_of() == undisturbed.bytes_of()
