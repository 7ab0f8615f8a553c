"""Writers are killed at random moments under the eyes of readers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline_assets.partition import Partition
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.parquet import read_table
from pipeline_assets_tests.proofs.subject import Case, Subject
from pipeline_assets_tests.support.commits import DAY, commit_number, commit_rows, publish_table, seen_of, staged_files
from pipeline_assets_tests.support.processes import running

PARTITIONS = [Partition("sales", DAY + timedelta(days=n)) for n in range(3)]
COMMITS = 4
KILLS = 30
"""In one case."""
LATEST_SECONDS = 0.02
"""A publish of these rows is over by then."""


def keep_publishing(connection: Connection, root: Path, seed: str) -> None:
    """Publish commits over the partitions, telling of each, until killed."""
    store, chosen = LocalStore(root, history=1), random.Random(seed)
    while True:
        partition = chosen.choice(PARTITIONS)
        publish_table(store, partition, commit_rows(chosen.randrange(COMMITS)), seen=seen_of(store, partition))
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


def publish(store: LocalStore, partition: Partition, number: int) -> str:
    """Publish a commit; its digest."""
    return publish_table(store, partition, commit_rows(number), seen=seen_of(store, partition)).commit.digest


def prove(case: Case, folder: Path) -> str:
    """Kill writers and sweep after each; readers see whole commits, and what is kept is what was published."""
    root, chosen = folder / "lake", random.Random(case[-1])
    store = LocalStore(root, history=1)
    digests = {partition: [publish(store, partition, number) for number in range(COMMITS)] for partition in PARTITIONS}

    caught_staging = 0
    with running(keep_reading, root, digests) as reader, running(keep_reading, root, digests) as another:
        for kill in range(KILLS):
            with running(keep_publishing, root, f"{case[-1]} {kill}") as writer:
                for _ in range(chosen.randrange(COMMITS)):
                    writer.receive()
                if kill % 2:
                    writer.connection.poll(chosen.uniform(0, LATEST_SECONDS))  # any moment of the next publish
                else:
                    while not staged_files([root]):
                        assert writer.process.is_alive()
                writer.kill()
            caught_staging += bool(staged_files([root]))
            store.sweep("sales")
            assert staged_files([root]) == []
        for each in (reader, another):
            each.send("stop")
            reads, seen = each.receive()
            assert reads > KILLS
            assert len(seen) > 1
    for partition in PARTITIONS:
        publish(store, partition, COMMITS)
        (replaced,) = store.history(partition)
        assert replaced.digest in digests[partition]
    return "some were killed while they staged" if caught_staging else "none was killed while it staged"


def cases() -> Sequence[Case]:
    """One a seed."""
    return [("writers", f"{seed}") for seed in range(100)]


SUBJECT = Subject(
    "kills",
    f"Of {KILLS} writers in a row that are killed at random, none shows a reader anything but a whole commit, and each "
    "leaves only what a sweep takes.",
    cases,
    prove,
    sampled=5,
    seeded=True,
)
