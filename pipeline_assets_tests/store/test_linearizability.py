"""Of two runs on one partition one wins whole and the other is told (P4): what was won is one chain of commits."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pipeline_assets.errors import PartitionConflict
from pipeline_assets.store import LocalStore
from pipeline_assets_tests.support.commits import SALES, publish_bytes
from pipeline_assets_tests.support.processes import ANSWER_SECONDS, CONTEXT, running

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

WRITERS = 4
WINS_EACH = 25


@dataclass(frozen=True, slots=True)
class Win:
    """A publish that succeeded: what it replaced, what it put there."""

    base: str | None
    digest: str


def count_up(connection: Connection, barrier: Barrier, root: Path, name: int, history: int) -> None:
    """Add one to the partition's number until it was done often enough; then tell of every win and the conflicts."""
    store = LocalStore(root, history=history)
    wins: list[Win] = []
    conflicts = 0
    barrier.wait()
    while len(wins) < WINS_EACH:
        expected = store.version(SALES)
        pinned = store.open(SALES)
        number = 0 if pinned is None else int(bytes(pinned.file.read()).split()[0])
        base = None if pinned is None else pinned.commit.digest
        try:
            # The name makes the bytes of two writers differ; equal ones would rightly be no conflict.
            published = publish_bytes(store, SALES, f"{number + 1} by {name}".encode(), expected=expected)
        except PartitionConflict:
            conflicts += 1
            continue
        assert not published.unchanged
        wins.append(Win(base, published.commit.digest))
    connection.send((wins, conflicts))


@pytest.mark.parametrize("history", [0, 3])
def test_the_successes_of_rival_writers_are_one_chain_without_a_lost_update(history: int, tmp_path: Path) -> None:
    barrier = CONTEXT.Barrier(WRITERS, timeout=ANSWER_SECONDS)
    with ExitStack() as stack:
        writers = [stack.enter_context(running(count_up, barrier, tmp_path, name, history)) for name in range(WRITERS)]
        told = [writer.receive() for writer in writers]

    wins = [win for each, _ in told for win in each]
    next_of = {win.base: win.digest for win in wins}
    chain = [next_of.get(None)]
    while chain[-1] in next_of:
        chain.append(next_of[chain[-1]])

    assert len(next_of) == len(wins), "two successes replaced the same commit"
    assert len(chain) == len(wins) == WRITERS * WINS_EACH
    head = LocalStore(tmp_path).open(SALES)
    assert head is not None
    assert chain[-1] == head.commit.digest
    assert int(bytes(head.file.read()).split()[0]) == len(wins)
    assert [commit.digest for commit in LocalStore(tmp_path).history(SALES)] == chain[-2 : -2 - history : -1]
    assert sum(conflicts for _, conflicts in told) > 0, "the writers never met"
