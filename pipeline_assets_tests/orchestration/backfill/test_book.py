"""The book of backfills: what was written is read, ids are found by their beginning, one process holds a backfill."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.errors import BackfillHeld, StateUnreadable, UsageError
from pipeline_assets.orchestration.backfill.book import IN_PROCESS, Backfill, Book, new_id
from pipeline_assets.rules.backfill import Action, Ask, Entry, Mode, Plan, Reason
from pipeline_assets.rules.plan_file import PlanFile, digest_of

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DAY = date(2026, 2, 14)
HOLD = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Book(instance)


def backfill(backfill_id: str, *, retries: str | None = None) -> Backfill:
    entries = {"events": {DAY: Entry(Action.COMPUTE, Reason.REQUESTED)}}
    plan = Plan(Ask(Mode.SELECTIVE, ("events",), ((DAY, DAY),), "bug 12"), ("events",), entries, {}, {})
    return Backfill(backfill_id, NOW, IN_PROCESS, 30, 2, PlanFile(plan, NOW, digest_of(plan)), retries=retries)


def test_what_is_written_down_is_read_back(book: Book) -> None:
    assert (book.ids(), list(book.readable())) == ([], [])
    book.add(backfill("20260301-1", retries="20260228-1"))
    assert book.get("20260301-1") == backfill("20260301-1", retries="20260228-1")


def test_a_file_that_was_written_before_files_had_a_format_is_read(book: Book) -> None:
    book.add(backfill("20260301-1"))
    file = book.folder / "20260301-1.json"
    written = json.loads(file.read_text())
    assert written.pop("format") == 1
    file.write_text(json.dumps(written | {"begun_at": "2026-03-01T12:30:00+00:00"}))

    assert book.get("20260301-1") == backfill("20260301-1")
    file.write_text(json.dumps(written | {"format": 2}))
    with pytest.raises(StateUnreadable, match=r"cannot be read as a backfill \(format: Input should be 1\)"):
        book.get("20260301-1")


def test_the_newest_is_first_and_no_more_are_read_than_asked_for(book: Book) -> None:
    for each in ("20260301-1", "20260302-1", "20260228-1"):
        book.add(backfill(each))
    assert book.ids() == ["20260302-1", "20260301-1", "20260228-1"]
    assert [each.backfill_id for each in book.readable(2)] == ["20260302-1", "20260301-1"]


def test_an_id_is_found_by_its_beginning_if_no_other_begins_so(book: Book) -> None:
    for each in ("20260301-1", "20260301-12", "20260302-1"):
        book.add(backfill(each))
    assert book.get("20260302").backfill_id == "20260302-1"
    assert book.get("20260301-1").backfill_id == "20260301-1"  # whole, though another one begins with it
    with pytest.raises(UsageError, match="several backfills begin with '20260301'; there are: 20260301-12, 2026"):
        book.get("20260301")
    for unknown in ("", "1", "20260301-123"):
        with pytest.raises(UsageError, match=f"there is no backfill '{unknown}'; there are: 20260302-1, "):
            book.get(unknown)


def test_ids_sort_by_time_and_differ_within_one_moment() -> None:
    later = [timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=40)]
    moments = [NOW, *(NOW + after for after in later)]
    ids = [[new_id(moment) for _ in range(5)] for moment in moments]
    assert all(max(before) < min(after) for before, after in pairwise(ids))
    assert len({new_id(NOW) for _ in range(5)}) == 5


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"backfill_id": 1, "begun_at": 2}'])
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_listed(book: Book, text: str) -> None:
    book.add(backfill("20260301-1"))
    (book.folder / "20260302-1.json").write_text(text)
    told: list[str] = []
    assert [each.backfill_id for each in book.readable(unreadable=told.append)] == ["20260301-1"]
    (message,) = told
    assert str(book.folder / "20260302-1.json") in message
    with pytest.raises(StateUnreadable, match="cannot be read as a backfill"):
        book.get("20260302-1")


def test_a_plan_that_was_edited_in_the_book_is_not_carried_out(book: Book) -> None:
    book.add(backfill("20260301-1"))
    path = book.folder / "20260301-1.json"
    path.write_text(path.read_text().replace(str(DAY), "2026-02-15"))
    with pytest.raises(UsageError, match="was edited after it was written"):
        book.get("20260301-1")


def test_cancelled_is_for_good(book: Book) -> None:
    book.add(backfill("20260301-1"))
    assert not book.is_cancelled("20260301-1")
    book.cancel("20260301-1")
    book.cancel("20260301-1")
    assert book.is_cancelled("20260301-1")
    assert book.ids() == ["20260301-1"]


def test_one_process_carries_it_out_and_lets_go_of_it_when_it_is_killed(book: Book) -> None:
    book.add(backfill("20260301-1"))
    lock = book.folder / "20260301-1.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert book.is_held("20260301-1")
        with (
            pytest.raises(BackfillHeld, match="20260301-1 is being carried out by another process"),
            book.hold("20260301-1"),
        ):
            pass
        other.kill()
    assert not book.is_held("20260301-1")
    with book.hold("20260301-1"):
        assert book.is_held("20260301-1")
    assert not book.is_held("20260301-1")


def test_somebody_who_only_looks_keeps_nobody_from_carrying_it_out(book: Book) -> None:
    book.add(backfill("20260301-1"))
    with (book.folder / "20260301-1.lock").open("w") as looking, contextlib.ExitStack() as stack:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not book.is_held("20260301-1")
        stack.enter_context(book.hold("20260301-1", sleep=lambda _: fcntl.flock(looking, fcntl.LOCK_UN)))
        assert book.is_held("20260301-1")
