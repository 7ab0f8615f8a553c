"""A writer is killed, or refused by the file system, at one system call of one thing that a store does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline_assets.errors import PipelineError
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.parquet import read_table
from pipeline_assets_tests.proofs.subject import Case, Subject
from pipeline_assets_tests.support.commits import (
    SALES,
    commit_number,
    commit_rows,
    files_below,
    publish_table,
    seen_of,
    staged_files,
)
from pipeline_assets_tests.support.system_calls import Call, traced

OLDEST, OLD, NEW = 0, 1, 2
FAULTS = {"killed": "signal=KILL", "disk full": "error=ENOSPC", "input/output error": "error=EIO"}
"""As strace injects them, by what a user would call them."""


def publish(root: Path, number: int, *, history: int) -> str:
    """Publish a commit; its digest, or the name of the error that it ended with."""
    store = LocalStore(root, history=history)
    try:
        return publish_table(store, SALES, commit_rows(number), seen=seen_of(store, SALES)).commit.digest
    except PipelineError as error:
        return type(error).__name__


def restore_oldest(root: Path) -> str:
    """Bring the oldest commit back, unless it is the head already, as who repeats an interrupted command does."""
    store = LocalStore(root, history=1)
    try:
        if read_number(root) == OLDEST:
            return publish(root, OLDEST, history=1)
        return store.restore(SALES, digest_of(OLDEST)).commit.digest
    except PipelineError as error:
        return type(error).__name__


@dataclass(frozen=True, slots=True)
class Scene:
    """What a store does.

    Args:
        commits: published before, in this order.
        task: what is disturbed.
        ends_in: number of the commit that is the head when it went well.
    """

    commits: Sequence[int]
    task: Callable[[Path], str]
    ends_in: int
    history: int = 1

    def prepared(self, root: Path) -> Path:
        """The lake as it is before."""
        for number in self.commits:
            publish(root, number, history=self.history)
        return root

    @property
    def before(self) -> int | None:
        """Number of the commit that is the head before."""
        return self.commits[-1] if self.commits else None


SCENES = {
    "first commit": Scene((), partial(publish, number=NEW, history=1), NEW),
    "overwrite": Scene((OLDEST, OLD), partial(publish, number=NEW, history=1), NEW),
    "overwrite without history": Scene((OLDEST, OLD), partial(publish, number=NEW, history=0), NEW, history=0),
    "unchanged": Scene((OLDEST, NEW), partial(publish, number=NEW, history=1), NEW),
    "history lowered": Scene((OLDEST, OLD), partial(publish, number=NEW, history=0), NEW),
    "restore": Scene((OLDEST, OLD), restore_oldest, OLDEST),
}


@lru_cache
def digest_of(number: int) -> str:
    """Digest of a commit's rows."""
    with TemporaryDirectory() as folder:
        return publish(Path(folder), number, history=0)


def read_number(root: Path) -> int | None:
    """Number of the commit that a reader sees, all of whose rows are there."""
    pinned = LocalStore(root).open(SALES)
    if pinned is None:
        return None
    number = commit_number(read_table(pinned.file))
    pinned.close()
    return number


def calls_of(scene: Scene, folder: Path) -> list[Call]:
    """The system calls under the lake's folder, none of which is disturbed."""
    root = scene.prepared(folder / "lake")
    outcome = traced(scene.task, root, folder / "trace")
    assert (outcome.exit_status, outcome.answer) == (0, digest_of(scene.ends_in))
    assert read_number(root) == scene.ends_in
    assert len(outcome.calls) > 10
    return outcome.calls


def cases() -> list[Case]:
    """Every fault at every call of every scene."""
    found: list[Case] = []
    for name, scene in SCENES.items():
        with TemporaryDirectory() as folder:
            calls = calls_of(scene, Path(folder))
        found += [(name, fault, call.name, str(call.number)) for call in calls for fault in FAULTS]
    return found


def prove(case: Case, folder: Path) -> str:
    """One whole commit is read afterwards; a sweep and a repetition end in the files of an undisturbed run."""
    name, fault, call, number = case
    scene = SCENES[name]
    undisturbed, root = (scene.prepared(folder / each) for each in ("undisturbed", "lake"))
    assert scene.task(undisturbed) == digest_of(scene.ends_in)

    outcome = traced(scene.task, root, folder / "trace", inject=f"{call}:{FAULTS[fault]}:when={number}")
    if fault == "killed":
        assert outcome.exit_status == -9
    else:
        assert outcome.injected
        assert outcome.answer in {"StorageFull", "StorageRefused", digest_of(scene.ends_in)}, outcome.answer
        assert staged_files([root]) == [] or call.startswith("unlink")  # what cannot be removed waits for a sweep
    seen = read_number(root)
    assert seen in {scene.before, scene.ends_in}
    if seen is not None:
        head = LocalStore(root).head(SALES)
        assert head is not None
        assert head.record is not None, "nobody knows how the head was made"
        assert head.record.digest == head.digest == digest_of(seen)

    LocalStore(root).sweep("sales")
    assert staged_files([root]) == []
    assert scene.task(root) == digest_of(scene.ends_in)
    assert files_below(root) == files_below(undisturbed)
    assert all((root / each).read_bytes() == (undisturbed / each).read_bytes() for each in files_below(root))
    shutil.rmtree(root)
    return "new commit" if seen == scene.ends_in != scene.before else "old commit"


SUBJECT = Subject(
    "crash_points",
    "Whoever is killed or refused at any system call, a reader sees one whole commit, the old one or the new one, and "
    "the same command again ends in the files of a run that nothing disturbed.",
    cases,
    prove,
    sampled=240,
)
