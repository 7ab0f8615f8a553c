"""The conformance kit passes our own stores, and fails ones that break a promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_assets.errors import SettingsError
from pipeline_assets.record import Record
from pipeline_assets.store import Published, Seen, Staged, Store, open_store
from pipeline_assets.store.memory import MemoryStore
from pipeline_assets.testing.store import HISTORY, PROMISES
from pipeline_assets_tests.support.commits import SALES, overwrite

Promise = Callable[[Store], None]
every_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)


@every_promise
def test_a_local_store_keeps(promise: Promise, tmp_path: Path) -> None:
    promise(open_store(tmp_path / "lake", history=HISTORY))


@every_promise
def test_a_store_in_memory_keeps(promise: Promise, request: pytest.FixtureRequest) -> None:
    promise(open_store(f"memory://{request.node.name}", history=HISTORY))


def test_stores_in_memory_of_one_name_are_one_and_one_without_a_name_is_nobody_elses() -> None:
    overwrite(open_store("memory://shared"), SALES, b"mine")

    assert open_store("memory://shared").head(SALES) is not None
    assert open_store("memory://other").head(SALES) is None
    overwrite(open_store("memory://"), SALES, b"mine")
    assert open_store("memory://").head(SALES) is None


def test_a_store_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"s3://bucket/lake: .* is not supported"):
        open_store("s3://bucket/lake")


class LastWriterWins(MemoryStore):
    """Replaces whatever there is."""

    def publish(self, staged: Staged, record: Record, *, seen: Seen) -> Published:
        return super().publish(staged, record, seen=self.look([staged.partition])[staged.partition])


class Forgetful(MemoryStore):
    """Keeps no record."""

    def publish(self, staged: Staged, record: Record, *, seen: Seen) -> Published:
        return super().publish(staged, Record(), seen=seen)


def broken(store: Callable[[], Store]) -> set[str]:
    found = set()
    for promise in PROMISES:
        try:
            promise(store())
        except AssertionError:
            found.add(promise.__name__)
    return found


@pytest.mark.parametrize(
    ("store", "promise"),
    [
        (lambda: LastWriterWins(history=HISTORY), "only_what_was_seen_is_replaced"),
        (lambda: LastWriterWins(history=HISTORY), "of_rivals_one_wins"),
        (lambda: MemoryStore(history=HISTORY + 1), "replaced_commits_are_kept_up_to_a_bound"),
        (lambda: Forgetful(history=HISTORY), "a_record_stays_with_its_commit"),
    ],
)
def test_a_store_that_breaks_a_promise_is_found(store: Callable[[], Store], promise: str) -> None:
    assert promise in broken(store)
