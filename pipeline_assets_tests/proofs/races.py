"""Writers that begin at a barrier work on one partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random

from pipeline_assets.errors import PartitionConflict
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.proofs.subject import Case, Subject
from pipeline_assets_tests.support.commits import SALES, publish_bytes, seen_of
from pipeline_assets_tests.support.processes import ANSWER_SECONDS, CONTEXT, running


@dataclass(frozen=True, slots=True)
class Win:
    """A publish that succeeded: what it replaced, what it put there."""

    base: str | None
    digest: str


def count_up(
    connection: Connection, barrier: Barrier, opened: Callable[[], LocalStore], name: int, wanted: int
) -> None:
    """Add one to the partition's number until it was done often enough; then tell of every win and the conflicts."""
    store = opened()
    wins: list[Win] = []
    conflicts = 0
    barrier.wait()
    while len(wins) < wanted:
        seen = seen_of(store, SALES)
        pinned = store.open(SALES)
        number = 0 if pinned is None else int(bytes(pinned.file.read()).split()[0])
        base = None if pinned is None else pinned.commit.digest
        try:
            # The name makes the bytes of two writers differ; equal ones would rightly be no conflict.
            published = publish_bytes(store, SALES, f"{number + 1} by {name}".encode(), seen=seen)
        except PartitionConflict:
            conflicts += 1
            continue
        assert not published.unchanged
        wins.append(Win(base, published.commit.digest))
    connection.send((wins, conflicts))


def prove(case: Case, folder: Path) -> str:
    """The successes are one chain of commits, its end is the head, and what came before it is kept."""
    chance = Random(case[-1])
    writers, wins_each, history = chance.randint(2, 5), chance.randint(5, 25), chance.randint(0, 4)
    opened = partial(LocalStore, folder, history=history)
    barrier = CONTEXT.Barrier(writers, timeout=ANSWER_SECONDS)
    with ExitStack() as stack:
        rivals = [stack.enter_context(running(count_up, barrier, opened, name, wins_each)) for name in range(writers)]
        told = [rival.receive() for rival in rivals]

    wins = [win for each, _ in told for win in each]
    next_of = {win.base: win.digest for win in wins}
    chain = [next_of.get(None)]
    while chain[-1] in next_of:
        chain.append(next_of[chain[-1]])

    assert len(next_of) == len(wins), "two successes replaced the same commit"
    assert len(chain) == len(wins) == writers * wins_each
    store = opened()
    head = store.open(SALES)
    assert head is not None
    assert chain[-1] == head.commit.digest
    assert int(bytes(head.file.read()).split()[0]) == len(wins)
    assert [commit.digest for commit in store.history(SALES)] == chain[-2 : -2 - history : -1]
    conflicts = sum(conflicts for _, conflicts in told)
    return "writers met" if conflicts else "writers never met"


def cases() -> Sequence[Case]:
    """One a seed."""
    return [("writers", f"{seed}") for seed in range(500)]


SUBJECT = Subject(
    "races",
    "Of rival writers of one partition each success replaces the commit that its writer saw, every other writer is "
    "told, and no update is lost.",
    cases,
    prove,
    sampled=40,
    seeded=True,
)
