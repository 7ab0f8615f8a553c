"""Head, stage, publish, open, history, restore and sweep of a local store, with real files and real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from pipeline_assets.errors import (
    DefinitionError,
    PartitionConflict,
    PartitionMissing,
    PipelineError,
    StorageFull,
    StorageRefused,
    StoreBusy,
)
from pipeline_assets.partition import Partition
from pipeline_assets.record import FILE_KIND, Record
from pipeline_assets.store import Seen
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.local.records import path_of as records_of
from pipeline_assets.store.local.records import read_records
from pipeline_assets.store.protocol import hive_path
from pipeline_assets_tests.support.commits import (
    DAY,
    SALES,
    commit_rows,
    days_of,
    files_below,
    overwrite,
    path_of,
    publish_bytes,
    publish_table,
    seen_of,
    staged_files,
    version_of,
)
from pipeline_assets_tests.support.processes import ANSWER_SECONDS, CONTEXT, running

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
LONG_AGO = date(1969, 7, 20)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def data_file(store: LocalStore, partition: Partition = SALES) -> Path:
    return store.root / hive_path(partition) / "data.parquet"


def read(store: LocalStore, partition: Partition = SALES) -> bytes:
    pinned = store.open(partition)
    assert pinned is not None
    data = bytes(pinned.file.read())
    pinned.close()
    return data


def digest_of(data: bytes) -> str:
    return FILE_KIND + xxhash.xxh3_128(data).hexdigest()


# --- Head and days


def test_before_the_first_commit_there_is_nothing_and_reading_makes_nothing(store: LocalStore) -> None:
    assert store.head(SALES) is None
    assert store.open(SALES) is None
    assert version_of(store, SALES) is None
    assert store.history(SALES) == []
    assert days_of(store, "sales") == []
    assert store.sweep("sales") == []
    assert not store.root.exists()


def test_a_commit_lies_at_its_hive_path_and_the_head_tells_its_digest_size_and_time(store: LocalStore) -> None:
    before = datetime.now(UTC)
    published = overwrite(store, SALES, b"first")

    assert data_file(store).read_bytes() == b"first"
    assert path_of(store, SALES) == Path(store.root / "sales/dt=2026-06-10/data.parquet")
    assert not published.unchanged
    assert published.commit == store.head(SALES)
    assert (published.commit.digest, published.commit.size_bytes) == (digest_of(b"first"), 5)
    assert published.commit.uri == str(path_of(store, SALES))
    assert before - timedelta(milliseconds=1) <= published.commit.published_at <= datetime.now(UTC)


def test_an_empty_file_is_a_commit(store: LocalStore) -> None:
    overwrite(store, SALES, b"")

    assert read(store) == b""
    assert days_of(store, "sales") == [DAY]


def test_days_are_those_with_a_commit_ascending(store: LocalStore) -> None:
    days = [DAY, DAY - timedelta(days=400), LONG_AGO]
    for day in days:
        overwrite(store, Partition("shop/sales", day), b"x")
    table = store.root / "shop" / "sales"
    for stray in ("dt=2026-06-11", "dt=20260612", "dt=soon", "other=2026-06-13"):
        (table / stray).mkdir()
    (table / "dt=20260612" / "data.parquet").touch()

    assert days_of(store, "shop/sales") == sorted(days)
    assert days_of(store, "shop") == []


def test_heads_of_a_table_are_told_at_once_with_version_size_and_time(store: LocalStore) -> None:
    days = [DAY, DAY - timedelta(days=400), LONG_AGO]
    commits = {day: overwrite(store, Partition("shop/sales", day), b"x" * (day.year % 7)).commit for day in days}
    table = store.root / "shop" / "sales"
    for stray in ("dt=2026-06-11", "dt=20260612", "dt=soon", "other=2026-06-13"):
        (table / stray).mkdir()
    (table / "dt=20260612" / "data.parquet").touch()
    (table / "dt=2026-06-14").touch()

    heads = store.heads("shop/sales")

    assert list(heads) == sorted(days)
    for day, head in heads.items():
        assert head.version == version_of(store, Partition("shop/sales", day))
        assert head.size_bytes == commits[day].size_bytes
        assert head.published_at == commits[day].published_at
    assert store.heads("shop") == store.heads("none") == {}


def test_a_table_whose_folder_cannot_be_listed_is_told_of(store: LocalStore) -> None:
    store.root.mkdir()
    (store.root / "sales").touch()

    with pytest.raises(StorageRefused, match="table sales"):
        store.heads("sales")
    with pytest.raises(DefinitionError):
        store.heads("../sales")


def test_a_table_may_lie_below_another_one(store: LocalStore) -> None:
    inner = Partition("sales/detail", DAY)
    overwrite(store, SALES, b"outer")
    overwrite(store, inner, b"inner")

    assert (read(store), read(store, inner)) == (b"outer", b"inner")
    assert days_of(store, "sales") == days_of(store, "sales/detail") == [DAY]


ESCAPING_TABLES = [
    "",
    "/",
    "/etc",
    "..",
    "../lake",
    "a/../../b",
    "a/./b",
    "a//b",
    "a/",
    "_history",
    "_history/sales",
    "_staging/sales",
    "a/_b",
    ".hidden",
    "dt=2026-06-10",
    "sales/dt=2026-06-10",
    "sales\n",
    "sales\0",
    "a\\b",
    "täglich",
    "-rf",
]


@pytest.mark.parametrize("table", ESCAPING_TABLES)
def test_a_table_that_would_leave_the_root_or_meet_the_stores_own_folders_is_refused(
    store: LocalStore, table: str
) -> None:
    one = Partition(table, DAY)
    for using in (
        lambda: version_of(store, one),
        lambda: store.open(one),
        lambda: store.history(one),
        lambda: store.stage(one).__enter__(),
        lambda: days_of(store, table),
        lambda: store.sweep(table),
    ):
        with pytest.raises(DefinitionError, match="a table is named by letters"):
            using()


# --- Publish: compare-and-swap


def test_of_two_writers_that_saw_the_same_head_the_second_is_told_and_leaves_nothing(store: LocalStore) -> None:
    overwrite(store, SALES, b"base")
    saw = seen_of(store, SALES)

    publish_bytes(store, SALES, b"winner", seen=saw)
    with pytest.raises(PartitionConflict) as conflict:
        publish_bytes(store, SALES, b"loser", seen=saw)

    assert read(store) == b"winner"
    assert [commit.digest for commit in store.history(SALES)] == [digest_of(b"base")]
    assert staged_files([store.root]) == []
    assert "sales 2026-06-10" in str(conflict.value)
    assert digest_of(b"winner") in str(conflict.value)
    assert "run the step again" in str(conflict.value)


def test_of_two_writers_that_saw_no_commit_the_second_is_told(store: LocalStore) -> None:
    publish_bytes(store, SALES, b"winner", seen=Seen(None, None))
    with pytest.raises(PartitionConflict, match="it saw no commit"):
        publish_bytes(store, SALES, b"loser", seen=Seen(None, None))

    assert read(store) == b"winner"
    assert store.history(SALES) == []
    assert staged_files([store.root]) == []


def test_who_saw_a_commit_that_is_gone_is_told(store: LocalStore) -> None:
    overwrite(store, SALES, b"base")
    saw = seen_of(store, SALES)
    data_file(store).unlink()

    with pytest.raises(PartitionConflict, match="now there is none"):
        publish_bytes(store, SALES, b"next", seen=saw)


def stage_and_wait(connection: Connection, root: Path) -> None:
    """Stage over the head of now, tell where, wait for a word, publish, tell what came of it."""
    store = LocalStore(root)
    seen = seen_of(store, SALES)
    with store.stage(SALES) as staged:
        staged.path.write_bytes(b"staged early")
        connection.send(staged.path)
        connection.recv()
        try:
            store.publish(staged, Record(), seen=seen)
        except PartitionConflict:
            connection.send("conflict")
        else:
            connection.send("published")


@pytest.mark.parametrize("base", [None, b"base"])
def test_a_process_that_wakes_up_late_replaces_nothing_newer(store: LocalStore, base: bytes | None) -> None:
    if base is not None:
        overwrite(store, SALES, base)
    with running(stage_and_wait, store.root) as zombie:
        zombie.receive()
        zombie.signal(signal.SIGSTOP)
        overwrite(store, SALES, b"newer")
        zombie.signal(signal.SIGCONT)
        zombie.send("go on")

        assert zombie.receive() == "conflict"
        assert zombie.wait() == 0
    assert read(store) == b"newer"
    assert staged_files([store.root]) == []


def race(connection: Connection, barrier: Barrier, root: Path, name: int) -> None:
    store = LocalStore(root)
    seen = seen_of(store, SALES)
    with store.stage(SALES) as staged:
        staged.path.write_bytes(b"by %d" % name)
        barrier.wait()
        try:
            store.publish(staged, Record(), seen=seen)
        except PartitionConflict:
            connection.send("conflict")
        else:
            connection.send("won")
    connection.recv()


@pytest.mark.parametrize("base", [None, b"base"])
def test_of_processes_that_publish_at_once_exactly_one_wins(store: LocalStore, base: bytes | None) -> None:
    if base is not None:
        overwrite(store, SALES, base)
    barrier = CONTEXT.Barrier(4, timeout=ANSWER_SECONDS)
    with ExitStack() as stack:
        racers = [stack.enter_context(running(race, barrier, store.root, name)) for name in range(4)]
        told = [racer.receive() for racer in racers]
        for racer in racers:
            racer.send("done")
            racer.wait()

    assert sorted(told) == ["conflict", "conflict", "conflict", "won"]
    assert read(store) == b"by %d" % told.index("won")
    assert [commit.size_bytes for commit in store.history(SALES)] == ([] if base is None else [len(base)])
    assert staged_files([store.root]) == []


def test_the_same_bytes_leave_the_file_untouched(store: LocalStore) -> None:
    overwrite(store, SALES, b"zero")
    overwrite(store, SALES, b"same")
    before, history = data_file(store).stat(), store.history(SALES)

    published = publish_bytes(store, SALES, b"same", seen=seen_of(store, SALES))

    after = data_file(store).stat()
    assert published.unchanged
    assert published.commit == store.head(SALES)
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert store.history(SALES) == history
    assert staged_files([store.root]) == []


def test_no_version_comes_back_when_the_clock_stands_still_and_inodes_are_given_out_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=0, now_ns=lambda: 10**18)
    versions, inodes = set(), set()
    for number in range(30):
        overwrite(store, SALES, b"%04d" % number)
        versions.add(version_of(store, SALES))
        inodes.add(data_file(store).stat().st_ino)

    assert len(versions) == 30


def test_a_writer_that_fails_leaves_nothing(store: LocalStore) -> None:
    overwrite(store, SALES, b"base")

    def write_half() -> None:
        with store.stage(SALES) as staged:
            staged.path.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert read(store) == b"base"
    assert staged_files([store.root]) == []


# --- History and restore


def test_history_holds_what_was_replaced_the_newest_first_and_no_more_than_its_bound(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=3)
    for number in range(6):
        overwrite(store, SALES, b"%d" % number)

    kept = store.history(SALES)
    assert [commit.digest for commit in kept] == [digest_of(b"4"), digest_of(b"3"), digest_of(b"2")]
    assert [Path(commit.uri).read_bytes() for commit in kept] == [b"4", b"3", b"2"]
    assert len(files_below(tmp_path)) == 4


def test_a_history_that_is_lowered_drops_what_is_over_it_with_the_next_publish_changed_or_not(tmp_path: Path) -> None:
    for number in range(4):
        overwrite(LocalStore(tmp_path, history=3), SALES, b"%d" % number)

    assert overwrite(LocalStore(tmp_path, history=1), SALES, b"3").unchanged
    assert [commit.digest for commit in LocalStore(tmp_path).history(SALES)] == [digest_of(b"2")]
    overwrite(LocalStore(tmp_path, history=0), SALES, b"4")
    assert LocalStore(tmp_path).history(SALES) == []


def test_a_record_of_another_commit_than_the_head_is_no_record_of_it(store: LocalStore, tmp_path: Path) -> None:
    """As after a kill between the publish and its record, or after a file was put there by hand."""
    overwrite(store, SALES, b"first")
    (tmp_path / "by hand").write_bytes(b"second")
    (tmp_path / "by hand").replace(path_of(store, SALES))
    head = store.head(SALES)
    assert head is not None
    assert head.digest == digest_of(b"second")
    assert head.record is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 3}'])
def test_records_that_cannot_be_read_stop_nobody_and_are_replaced(store: LocalStore, text: str) -> None:
    overwrite(store, SALES, b"first")
    (records,) = (store.root / "_records").rglob("*.json")
    records.write_text(text)
    head = store.head(SALES)
    assert head is not None
    assert head.record is None
    assert store.history(SALES) == []
    overwrite(store, SALES, b"second")
    head = store.head(SALES)
    assert head is not None
    assert head.record is not None


def test_no_more_records_are_kept_than_commits(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=1)
    for number in range(4):
        overwrite(store, SALES, b"%d" % number)
    known = read_records(records_of(tmp_path, SALES))
    assert [each.digest for each in known] == [digest_of(b"3"), digest_of(b"2"), digest_of(b"1")]
    assert [commit.digest for commit in store.history(SALES)] == [digest_of(b"2")]


def test_history_of_zero_keeps_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=0)
    for number in range(3):
        overwrite(store, SALES, b"%d" % number)

    assert store.history(SALES) == []
    assert files_below(tmp_path) == {"sales/dt=2026-06-10/data.parquet"}


def test_a_lower_bound_takes_effect_with_the_next_publish(tmp_path: Path) -> None:
    for number, bound in enumerate([5, 5, 5, 5, 1]):
        overwrite(LocalStore(tmp_path, history=bound), SALES, b"%d" % number)

    assert [commit.digest for commit in LocalStore(tmp_path).history(SALES)] == [digest_of(b"3")]


def test_bytes_that_were_replaced_twice_are_kept_once_as_the_newest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=2)
    for data in (b"a", b"b", b"c", b"a", b"d"):
        overwrite(store, SALES, data)

    assert [commit.digest for commit in store.history(SALES)] == [digest_of(b"a"), digest_of(b"c")]


def test_history_is_in_order_though_the_clock_goes_backwards(tmp_path: Path) -> None:
    clock = count(10**18, -(10**9))
    store = LocalStore(tmp_path, history=2, now_ns=lambda: next(clock))
    for number in range(5):
        overwrite(store, SALES, b"%d" % number)

    assert [commit.digest for commit in store.history(SALES)] == [digest_of(b"3"), digest_of(b"2")]


def test_partitions_have_histories_of_their_own(store: LocalStore) -> None:
    others = [Partition("sales", DAY + timedelta(days=1)), Partition("sales/detail", DAY)]
    for partition in (SALES, *others):
        overwrite(store, partition, b"first")
        overwrite(store, partition, b"second")
    overwrite(store, SALES, b"third")

    assert [len(store.history(partition)) for partition in (SALES, *others)] == [2, 1, 1]


def test_restore_brings_the_bytes_back_and_archives_what_they_replace(store: LocalStore) -> None:
    overwrite(store, SALES, b"good")
    overwrite(store, SALES, b"bad")

    published = store.restore(SALES, digest_of(b"good"))

    assert read(store) == b"good"
    assert published.commit == store.head(SALES)
    assert store.history(SALES)[0].digest == digest_of(b"bad")
    assert staged_files([store.root]) == []


def test_a_run_that_saw_a_commit_conflicts_after_it_was_replaced_and_restored(store: LocalStore) -> None:
    overwrite(store, SALES, b"good")
    saw = seen_of(store, SALES)
    overwrite(store, SALES, b"bad")
    store.restore(SALES, digest_of(b"good"))

    with pytest.raises(PartitionConflict):
        publish_bytes(store, SALES, b"made from what was read before", seen=saw)
    assert read(store) == b"good"


def test_the_oldest_kept_commit_can_be_restored_though_this_pushes_it_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=2)
    for data in (b"a", b"b", b"c"):
        overwrite(store, SALES, data)
    store.restore(SALES, digest_of(b"a"))

    assert read(store) == b"a"
    assert [commit.digest for commit in store.history(SALES)] == [digest_of(b"c"), digest_of(b"b")]


def test_restoring_the_head_changes_nothing(store: LocalStore) -> None:
    for data in (b"a", b"b", b"a"):
        overwrite(store, SALES, data)

    assert store.restore(SALES, digest_of(b"a")).unchanged


def test_restore_of_a_digest_that_is_not_kept_names_those_that_are(store: LocalStore) -> None:
    for data in (b"a", b"b", b"c"):
        overwrite(store, SALES, data)

    with pytest.raises(PartitionMissing) as missing:
        store.restore(SALES, "feed")
    assert f"Kept: {digest_of(b'b')}, {digest_of(b'a')}." in str(missing.value)
    with pytest.raises(PartitionMissing, match="Kept: none"):
        store.restore(Partition("sales", date(2020, 1, 1)), "feed")
    assert read(store) == b"c"


def test_restore_takes_no_file_from_elsewhere(store: LocalStore) -> None:
    overwrite(store, SALES, b"a")
    overwrite(store, Partition("secrets", DAY), b"secret")

    with pytest.raises(PartitionMissing):
        store.restore(SALES, f"../../../secrets/dt={DAY}/data")


# --- Readers


def test_a_pinned_reader_keeps_its_commit_through_overwrite_pruning_and_restore(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, history=1)
    overwrite(store, SALES, b"pinned")
    pinned = store.open(SALES)
    assert pinned is not None

    for data in (b"second", b"third", b"fourth"):
        overwrite(store, SALES, data)
    store.restore(SALES, digest_of(b"third"))

    assert digest_of(b"pinned") not in {commit.digest for commit in store.history(SALES)}
    assert bytes(pinned.file.read()) == b"pinned"
    assert pinned.commit.digest == digest_of(b"pinned")
    pinned.close()


def test_a_commit_that_is_replaced_while_it_is_opened_is_described_by_its_own_time(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(store, SALES, b"first")
    open_file = pa.OSFile

    def open_and_be_overtaken(path: str, mode: str) -> pa.NativeFile:
        file = open_file(path, mode)
        monkeypatch.undo()
        overwrite(store, SALES, b"second")
        return file

    monkeypatch.setattr(pa, "OSFile", open_and_be_overtaken)
    pinned = store.open(SALES)

    assert pinned is not None
    assert pinned.commit == store.head(SALES)


# --- Sweep


def test_sweep_removes_the_file_of_a_killed_process_and_not_that_of_a_living_one(store: LocalStore) -> None:
    with running(stage_and_wait, store.root) as killed, running(stage_and_wait, store.root) as living:
        left, in_use = killed.receive(), living.receive()
        assert store.sweep("sales") == []
        killed.kill()

        assert left.exists()
        assert store.sweep("sales") == [str(left)]
        assert staged_files([store.root]) == [in_use]

        living.signal(signal.SIGSTOP)
        assert store.sweep("sales") == []
        living.signal(signal.SIGCONT)
        living.send("go on")
        assert living.receive() == "published"
        assert living.wait() == 0
    assert read(store) == b"staged early"


def test_sweep_looks_at_its_own_table_alone(store: LocalStore) -> None:
    with running(stage_and_wait, store.root) as killed:
        left = killed.receive()
        killed.kill()

    assert store.sweep("sale") == store.sweep("sales/detail") == []
    assert store.sweep("sales") == [str(left)]


def test_a_file_that_is_swept_before_its_writer_could_lock_it_is_staged_anew(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []
    flock = fcntl.flock

    def be_overtaken(file: int, operation: int) -> None:
        monkeypatch.undo()
        swept.extend(store.sweep("sales"))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", be_overtaken)
    with store.stage(SALES) as staged:
        assert len(swept) == 1
        # Another sweep may have opened the first file, and would delete whatever has its name now.
        assert str(staged.path) not in swept
        assert store.sweep("sales") == []
        staged.path.write_bytes(b"safe")
        store.publish(staged, Record(), seen=Seen(None, None))
    assert read(store) == b"safe"


def stage_again_and_again(connection: Connection, barrier: Barrier, root: Path) -> None:
    store = LocalStore(root)
    barrier.wait()
    for number in range(300):
        with store.stage(SALES) as staged:
            if not staged.path.exists():
                connection.send(f"file {number} is gone while it is in use")
                return
    connection.send("all were there")


def test_sweeps_that_race_with_stages_never_take_a_file_in_use(store: LocalStore) -> None:
    barrier = CONTEXT.Barrier(3, timeout=ANSWER_SECONDS)
    with (
        running(stage_again_and_again, barrier, store.root) as one,
        running(stage_again_and_again, barrier, store.root) as other,
    ):
        barrier.wait()
        while not (one.connection.poll() and other.connection.poll()):
            store.sweep("sales")
        assert (one.receive(), other.receive()) == ("all were there", "all were there")
    assert staged_files([store.root]) == []


# --- Locks


def publish_slowly(connection: Connection, root: Path) -> None:
    """Publish, and wait for a word while the partition is locked."""

    def wait_for_a_word() -> int:
        connection.send("locked")
        connection.recv()
        return 10**18

    store = LocalStore(root, now_ns=wait_for_a_word)
    overwrite(store, SALES, b"by the process that was stopped")
    connection.send("published")


def test_a_lock_held_by_a_stopped_process_ends_in_busy_and_that_process_may_go_on(store: LocalStore) -> None:
    overwrite(store, SALES, b"base")
    saw = seen_of(store, SALES)
    hurried = LocalStore(store.root, lock_wait_seconds=0.1)
    with running(publish_slowly, store.root) as stopped:
        assert stopped.receive() == "locked"
        stopped.signal(signal.SIGSTOP)

        with pytest.raises(StoreBusy, match=r"sales 2026-06-10: locked by another process for more than 0\.1 s"):
            publish_bytes(hurried, SALES, b"hurried", seen=saw)
        assert read(store) == b"base"
        assert publish_bytes(hurried, Partition("sales", LONG_AGO), b"another day", seen=Seen(None, None))

        stopped.signal(signal.SIGCONT)
        stopped.send("go on")
        assert stopped.receive() == "published"
    assert read(store) == b"by the process that was stopped"
    with pytest.raises(PartitionConflict):
        publish_bytes(hurried, SALES, b"hurried", seen=saw)


def test_a_lock_is_free_again_when_its_holder_was_killed(store: LocalStore) -> None:
    with running(publish_slowly, store.root) as holder:
        assert holder.receive() == "locked"
        holder.kill()

    publish_bytes(LocalStore(store.root, lock_wait_seconds=0), SALES, b"next", seen=Seen(None, None))
    assert read(store) == b"next"


# --- The file system says no


@pytest.fixture
def few_files() -> Iterator[int]:
    """This process may open so many files more than it has open, until it asks for more."""
    before, there = resource.getrlimit(resource.RLIMIT_NOFILE), len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 20, before[1]))
    yield 20
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc, which only Linux has")
def test_more_partitions_are_pinned_than_files_may_be_open(tmp_path: Path, few_files: int) -> None:
    store = LocalStore(tmp_path)
    partitions = [Partition("sales", DAY + timedelta(days=number)) for number in range(3 * few_files)]
    for partition in partitions:
        overwrite(store, partition, str(partition).encode())

    pinned = [store.open(partition) for partition in partitions]

    read = [b"" if each is None else each.file.read() for each in pinned]
    assert read == [str(partition).encode() for partition in partitions]
    for each in pinned:
        assert each is not None
        each.close()


def uses_of(store: LocalStore) -> dict[str, Callable[[], object]]:
    nothing = Seen(None, None)
    return {"check_writable": store.check_writable, "publish": lambda: publish_bytes(store, SALES, b"x", seen=nothing)}


@pytest.mark.parametrize("use", ["check_writable", "publish"])
@pytest.mark.parametrize("place", ["a file", "below a file", "a link to itself", "/proc/lake"])
def test_a_root_that_can_be_no_folder_is_refused_with_what_to_check(tmp_path: Path, place: str, use: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a link to itself").symlink_to("a link to itself")
    store = LocalStore(tmp_path / place.replace("below a file", "a file/lake"))

    with pytest.raises(StorageRefused, match="Check that PIPELINE_STORE is a folder"):
        uses_of(store)[use]()


def test_reading_below_a_file_is_refused_and_does_not_look_like_no_commit_yet(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = LocalStore(tmp_path / "file")
    for look in (store.open, store.head, partial(version_of, store), lambda partition: days_of(store, partition.table)):
        with pytest.raises(StorageRefused):
            look(SALES)


def use_as_nobody(connection: Connection, root: Path) -> None:
    if os.geteuid() == 0:  # to whom permissions say nothing
        os.setgroups([])
        os.setuid(NOBODY)
    for use in uses_of(LocalStore(root)).values():
        try:
            connection.send(use())
        except PipelineError as error:
            connection.send(type(error))


def test_a_folder_that_may_not_be_written_is_refused(store: LocalStore) -> None:
    overwrite(store, SALES, b"base")
    for folder in (store.root, *store.root.iterdir()):
        folder.chmod(0o555)
    with running(use_as_nobody, store.root) as child:
        assert (child.receive(), child.receive()) == (StorageRefused, StorageRefused)
    for folder in (store.root, *store.root.iterdir()):
        folder.chmod(0o755)
    assert read(store) == b"base"


def test_check_writable_makes_the_root_and_leaves_no_probe(store: LocalStore) -> None:
    store.check_writable()
    store.check_writable()

    assert store.root.is_dir()
    assert files_below(store.root) == set()


def publish_too_much(root: Path) -> str:
    """The error of a publish that does not fit; the partition has a commit before."""
    store = LocalStore(root)
    with pytest.raises(StorageFull) as full:
        publish_table(store, SALES, commit_rows(1), seen=seen_of(store, SALES))
    assert read(store) == b"base"
    assert staged_files([root]) == []
    return str(full.value)


def publish_beyond_a_limit(connection: Connection, root: Path, bytes_per_file: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))
    connection.send(publish_too_much(root))


@pytest.mark.parametrize("bytes_per_file", [100, 600], ids=["while rows are written", "while the footer is written"])
def test_a_limit_on_file_sizes_is_a_full_disk_and_leaves_the_old_commit(
    store: LocalStore, bytes_per_file: int, capfd: pytest.CaptureFixture[str]
) -> None:
    overwrite(store, SALES, b"base")
    with running(publish_beyond_a_limit, store.root, bytes_per_file) as child:
        said = child.receive()
        assert child.wait() == 0

    assert said.startswith("sales 2026-06-10: ")
    assert "Free some space" in said
    assert capfd.readouterr().err == ""


def fill_a_disk(root: Path) -> None:
    """Publish on a file system of some pages until it is full; make room, and publish again."""
    store = LocalStore(root)
    overwrite(store, SALES, b"base")
    ballast = root.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1024)):
            pass
    publish_too_much(root)
    ballast.unlink()
    publish_table(store, SALES, commit_rows(1), seen=seen_of(store, SALES))


def test_a_full_disk_leaves_the_old_commit_and_room_lets_the_new_one_in(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=64k none "$0"'
    own_mounts = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*own_mounts, mount, tmp_path], check=False).returncode:
        pytest.skip("this user may mount nothing")
    program = f"from {__name__} import Path, fill_a_disk; fill_a_disk(Path(r'{tmp_path}') / 'lake')"

    script = f'{mount} && exec "$1" -c "$2"'
    subprocess.run([*own_mounts, script, tmp_path, sys.executable, program], check=True, cwd=ROOT)
    assert list(tmp_path.iterdir()) == []
