"""A reader sees one whole commit at every instant, whoever was killed (P3), and what a rerun makes of the rest."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline_assets.errors import PipelineError
from pipeline_assets.store import Commit, LocalStore, Partition
from pipeline_assets.store.parquet import read_table
from pipeline_assets_tests.support.commits import (
    DAY,
    SALES,
    commit_number,
    commit_rows,
    files_below,
    publish_table,
    staged_files,
)
from pipeline_assets_tests.support.processes import running
from pipeline_assets_tests.support.system_calls import Call, needs_strace, traced

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

OLDEST, OLD, NEW = 0, 1, 2
KILLS = 30
PARTITIONS = [Partition("sales", DAY + timedelta(days=n)) for n in range(3)]


# --- At every system call


def publish_new(root: Path) -> str:
    """Publish the commit NEW in a process of its own; what came of it."""
    store = LocalStore(root, history=1)
    try:
        return publish(store, SALES, NEW)
    except PipelineError as error:
        return type(error).__name__


@pytest.fixture(scope="module")
def nothing_yet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nothing-yet") / "lake"


@pytest.fixture(scope="module")
def two_commits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two-commits") / "lake"
    store = LocalStore(root, history=1)
    for number in (OLDEST, OLD):
        publish(store, SALES, number)
    return root


@pytest.fixture(params=["the first commit", "an overwrite"])
def before(request: pytest.FixtureRequest, nothing_yet: Path, two_commits: Path) -> Path:
    return {"the first commit": nothing_yet, "an overwrite": two_commits}[request.param]


def publish(store: LocalStore, partition: Partition, number: int) -> str:
    return publish_table(store, partition, commit_rows(number), expected=store.version(partition)).commit.digest


def head(root: Path) -> Commit:
    commit = LocalStore(root).head(SALES)
    assert commit is not None
    return commit


def copied(root: Path, to: Path) -> Path:
    if root.exists():
        shutil.copytree(root, to)
    return to


def seen_by_a_reader(root: Path) -> int | None:
    pinned = LocalStore(root).open(SALES)
    if pinned is None:
        return None
    number = commit_number(read_table(pinned.file))
    pinned.close()
    return number


def assert_whole_and_repairable(root: Path, before: Path, call: Call, undisturbed: Path) -> None:
    """One whole commit is read; a sweep and a rerun end in the files of an undisturbed run and no others."""
    assert seen_by_a_reader(root) in {seen_by_a_reader(before), NEW}, call

    LocalStore(root).sweep("sales")
    assert staged_files([root]) == [], call
    publish_new(root)

    assert files_below(root) == files_below(undisturbed), call
    assert all((root / name).read_bytes() == (undisturbed / name).read_bytes() for name in files_below(root)), call


def traced_publish(before: Path, tmp_path: Path) -> tuple[Path, list[Call]]:
    """The lake after a publish that nothing disturbs, and the system calls that it took."""
    root = copied(before, tmp_path / "undisturbed")
    outcome = traced(publish_new, root, tmp_path / "trace")
    assert (outcome.exit_status, outcome.answer) == (0, head(root).digest)
    assert seen_by_a_reader(root) == NEW
    assert len(outcome.calls) > 20
    return root, outcome.calls


@needs_strace
def test_a_writer_killed_at_any_system_call_leaves_the_old_commit_or_the_new_one(before: Path, tmp_path: Path) -> None:
    undisturbed, calls = traced_publish(before, tmp_path)

    seen = set()
    for index, call in enumerate(calls):
        root = copied(before, tmp_path / f"{index}")
        outcome = traced(publish_new, root, tmp_path / "trace", inject=f"{call.name}:signal=KILL:when={call.number}")
        assert outcome.exit_status == -9, call
        seen.add(seen_by_a_reader(root))
        assert_whole_and_repairable(root, before, call, undisturbed)
        shutil.rmtree(root)

    assert seen == {seen_by_a_reader(before), NEW}


@needs_strace
def test_a_full_disk_at_any_system_call_leaves_the_old_commit_or_the_new_one(before: Path, tmp_path: Path) -> None:
    undisturbed, calls = traced_publish(before, tmp_path)

    for index, call in enumerate(calls):
        root = copied(before, tmp_path / f"{index}")
        outcome = traced(publish_new, root, tmp_path / "trace", inject=f"{call.name}:error=ENOSPC:when={call.number}")
        assert outcome.injected, call
        assert outcome.answer in {"StorageFull", head(undisturbed).digest}, call
        assert staged_files([root]) == [], call
        assert_whole_and_repairable(root, before, call, undisturbed)
        shutil.rmtree(root)


@needs_strace
def test_bytes_and_names_are_on_disk_in_the_order_that_survives_a_power_cut(before: Path, tmp_path: Path) -> None:
    root, calls = traced_publish(before, tmp_path)

    published = root / SALES.folder / "data.parquet"
    (rename,) = (at for at, call in enumerate(calls) if call.name.startswith("rename") and call.of(published))
    writes = [at for at, call in enumerate(calls) if call.name.startswith(("write", "pwrite", "utimens"))]
    links = [at for at, call in enumerate(calls) if call.name.startswith("link")]
    folders_made = [
        (at, Path(call.arguments.split('"')[1])) for at, call in enumerate(calls) if call.name.startswith("mkdir")
    ]

    def synced(path: Path) -> list[int]:
        return [at for at, call in enumerate(calls) if call.name == "fsync" and call.of(path)]

    (staged,) = {Path(call.arguments.split("<")[1].split(">")[0]) for call in calls if call.name == "write"}
    assert any(max(writes) < at < rename for at in synced(staged))
    assert all(any(at > rename for at in synced(folder)) for folder in [published.parent, root / "sales", root])
    assert len(links) == (before.exists())
    assert all(any(link < at < rename for at in synced(root / "_history" / SALES.folder)) for link in links)
    assert bool(folders_made) != before.exists()
    assert all(any(at > made for at in synced(folder.parent)) for made, folder in folders_made if folder != root)


# --- At random moments, under the eyes of readers


def keep_publishing(connection: Connection, root: Path, seed: int) -> None:
    """Publish commits over the partitions, telling of each, until killed."""
    store, chosen = LocalStore(root, history=1), random.Random(seed)
    while True:
        partition = chosen.choice(PARTITIONS)
        publish_table(store, partition, commit_rows(chosen.randrange(4)), expected=store.version(partition))
        connection.send(None)


def keep_reading(connection: Connection, root: Path, digests: dict[Partition, list[str]]) -> None:
    """Read and verify the partitions until told to stop; tell how often, and which commits were seen."""
    store, reads, seen = LocalStore(root), 0, set()
    while not connection.poll(0):
        for partition in PARTITIONS:
            pinned = store.open(partition)
            assert pinned is not None
            number = commit_number(read_table(pinned.file))
            assert pinned.commit.digest == digests[partition][number]
            pinned.close()
            reads += 1
            seen.add(number)
    connection.send((reads, seen))


def test_readers_see_whole_commits_while_writers_are_killed_at_random(tmp_path: Path) -> None:
    root, chosen = tmp_path / "lake", random.Random(20260610)
    store = LocalStore(root, history=1)
    digests = {partition: [publish(store, partition, number) for number in range(4)] for partition in PARTITIONS}

    caught_staging = 0
    with running(keep_reading, root, digests) as reader, running(keep_reading, root, digests) as another:
        for kill in range(KILLS):
            with running(keep_publishing, root, kill) as writer:
                for _ in range(chosen.randrange(4)):
                    writer.receive()
                writer.connection.poll(chosen.uniform(0, 0.02))  # any moment of the next publish
                writer.kill()
            caught_staging += bool(staged_files([root]))
            store.sweep("sales")
            assert staged_files([root]) == []
        for each in (reader, another):
            each.send("stop")
            reads, seen = each.receive()
            assert reads > KILLS
            assert len(seen) > 1
    assert caught_staging
    for partition in PARTITIONS:
        publish(store, partition, 4)
        (replaced,) = store.history(partition)
        assert replaced.digest in digests[partition]
