"""What a store promises, each promise a function that fails with a sentence.

With pytest:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_store_keeps(promise, tmp_path):
        promise(MyStore(tmp_path, history=HISTORY))

Each promise wants an empty store that keeps `HISTORY` replaced commits of a partition.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from itertools import chain, product

from pipeline_assets.errors import DefinitionError, PartitionConflict, PartitionMissing, PipelineError
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store import Published, Seen, Store

HISTORY = 3
DAY = date(2026, 6, 10)
SALES = Partition("shop/sales", DAY)
OTHERS = (Partition("shop/sales", DAY - timedelta(days=400)), Partition("shop/sales", date(1969, 7, 20)))
RIVALS = 8
NO_TABLES = ("", "_history", "../sales", "/sales", "sales/", "a//b", "dt=2026-06-10", ".hidden", "sales\n")


def before_the_first_commit_there_is_nothing(store: Store) -> None:
    """Of a partition that was never published, a store finds nothing, whatever it is asked."""
    found = (store.head(SALES), store.open(SALES), store.look([SALES])[SALES].version)
    _expect(found == (None, None, None), f"a partition that was never published has {found}")
    _expect(not store.history(SALES), "a partition that was never published has a history")
    _expect(not store.heads(SALES.table), "a table without commits has heads")
    _expect(not store.tables(), "an empty store has tables")
    _expect(not store.sweep(SALES.table), "an empty store has staged files")


def a_commit_reads_back_as_it_was_written(store: Store) -> None:
    """Bytes, digest, size and version are the same from every side; an empty file is a commit too."""
    for content in (b"first", b""):
        commit = _overwrite(store, content).commit
        head = store.head(SALES)
        _expect(_read(store) == content, "the bytes that are read are not those that were written")
        _expect(head == commit, f"publish gave {commit}, the head is {head}")
        _expect(commit.size_bytes == len(content), f"the size of {len(content)} bytes is {commit.size_bytes}")
        told = store.heads(SALES.table)[DAY]
        expected = (commit.version, commit.size_bytes, commit.published_at)
        _expect(told[:3] == expected, f"the listing tells {tuple(told)} of {commit}")
        _expect(told.is_told_by(_record(store)), f"the listing tells {tuple(told)} of {commit.record}")
        _expect(store.look([SALES])[SALES].version == commit.version, "a look sees another version than the head's")
        _expect(commit.published_at.tzinfo is UTC, "times of commits are in UTC")
        _expect(datetime.now(UTC) - commit.published_at < timedelta(minutes=1), "the time of a commit is long ago")


def heads_are_listed_by_day_and_tables_by_name(store: Store) -> None:
    """A store lists in ascending order, whatever the order of the publishes was."""
    for partition in (SALES, *OTHERS, Partition("shop", DAY), Partition("a", DAY)):
        _overwrite(store, b"x", partition)
    days = list(store.heads(SALES.table))
    _expect(days == sorted(each.key for each in (SALES, *OTHERS)), f"the days of a table are listed as {days}")
    _expect(store.tables() == ["a", "shop", "shop/sales"], f"the tables are listed as {store.tables()}")


def partitions_are_apart(store: Store) -> None:
    """A publish touches its own partition only."""
    for number, partition in enumerate((SALES, *OTHERS)):
        _overwrite(store, b"%d" % number, partition)
    before = {each: store.head(each) for each in OTHERS}
    _overwrite(store, b"new")
    _expect({each: store.head(each) for each in OTHERS} == before, "a publish changed another partition")


def what_is_staged_is_seen_by_nobody(store: Store) -> None:
    """What is staged is read by nobody before it is published; what never is, leaves nothing behind."""
    _overwrite(store, b"old")
    with store.stage(SALES) as staged:
        with staged.sink() as sink:
            sink.write(b"new")
        with staged.source() as source:
            _expect(source.read() == b"new", "what was staged cannot be read back by its writer")
        _expect(_read(store) == b"old", "what was only staged is read")
        _expect(not store.sweep(SALES.table), "a sweep took what is still being written")
    _expect(_read(store) == b"old", "what was dropped is read")
    _expect(not store.sweep(SALES.table), "what was dropped is still there")


def equal_rows_change_nothing(store: Store) -> None:
    """A publish of the head's own bytes, or of others with its digest, keeps its version, its time and the history."""
    first = _overwrite(store, b"same", record=Record(digest="rows1:same")).commit
    for content, digest in ((b"same", "rows1:same"), (b"as rows the same", "rows1:same"), (b"same", None)):
        again = _overwrite(store, content, record=Record(digest=digest))
        _expect(again.unchanged, "the same rows count as a change")
        told = (again.commit.version, again.commit.published_at, again.commit.digest)
        expected = (first.version, first.published_at, digest or again.commit.digest)
        _expect(told == expected, f"the same rows made another commit: {told} of {expected}")
        _expect(store.head(SALES) == again.commit, "the head is not what publish gave")
        _expect(_read(store) == b"same", "the same rows took the place of the head's")
    _expect(not store.history(SALES), "the same rows were archived")


def who_saw_an_older_record_is_refused(store: Store) -> None:
    """A publish that changed no row was one all the same: who looked before it knows less, and may publish nothing."""
    for content in (b"same", b"other"):
        _overwrite(store, b"same")
        seen = store.look([SALES])[SALES]
        _expect(_overwrite(store, b"same", record=Record(code_version="newer")).unchanged, "the same rows are a change")
        with _refused(PartitionConflict, "who looked before a publish of the same rows may publish over it"):
            _publish(store, content, seen)
        _expect(_record(store).code_version == "newer", "a publish that was refused changed the record")


def only_what_was_seen_is_replaced(store: Store) -> None:
    """A publish over anything else is a PartitionConflict, and changes nothing."""
    nothing = store.look([SALES])[SALES]
    digest = _overwrite(store, b"first").commit.digest
    first = store.look([SALES])[SALES]
    _overwrite(store, b"second")
    for seen in (nothing, first, Seen(None, None)):
        with _refused(PartitionConflict, "a publish replaced a head that it had not seen"):
            _publish(store, b"third", seen)
        _expect(_read(store) == b"second", "a publish that was refused changed the head")
    _expect(_kept(store) == [digest], "a publish that was refused changed the history")
    _publish(store, b"third", store.look([SALES])[SALES])
    _expect(_read(store) == b"third", "a publish over what was seen was not taken")


def of_rivals_one_wins(store: Store) -> None:
    """Threads that saw the same head publish at once; all but one are told."""
    for base in (None, b"base"):
        if base is not None:
            _overwrite(store, base)
        seen, barrier = store.look([SALES])[SALES], threading.Barrier(RIVALS)

        def race(name: int, seen: Seen = seen, barrier: threading.Barrier = barrier) -> list[bytes]:
            content = b"by %d" % name
            barrier.wait()
            with suppress(PartitionConflict):
                _publish(store, content, seen)
                return [content]
            return []

        with ThreadPoolExecutor(RIVALS) as rivals:
            won = list(chain.from_iterable(rivals.map(race, range(RIVALS))))
        _expect(len(won) == 1, f"{len(won)} of {RIVALS} rivals won")
        _expect(_read(store) == won[0], "what is read is not what won")


def a_reader_keeps_the_commit_that_it_opened(store: Store) -> None:
    """A reader goes on with the commit that it opened, whatever is published while it reads."""
    _overwrite(store, b"old")
    pinned = store.open(SALES)
    if pinned is None:
        raise AssertionError("a commit cannot be opened")
    _overwrite(store, b"new, and longer")
    _expect(pinned.file.read() == b"old", "a reader was given bytes of another commit")
    pinned.close()
    _expect(_read(store) == b"new, and longer", "who opens it now does not read the new commit")


def replaced_commits_are_kept_up_to_a_bound(store: Store) -> None:
    """History keeps the newest replaced commits, up to a bound, and lists the newest first."""
    digests = [_overwrite(store, b"%d" % number).commit.digest for number in range(HISTORY + 3)]
    expected = digests[-2 : -HISTORY - 2 : -1]
    found = _kept(store)
    _expect(found == expected, f"of {HISTORY + 2} replaced commits those kept are {found}, not {expected}")


def a_restored_commit_is_the_head_again(store: Store) -> None:
    """A restored commit is a new version: who saw an older head is refused. What it replaced is kept in its turn."""
    first = _overwrite(store, b"first", record=Record(rows=1)).commit
    seen_first = store.look([SALES])[SALES]
    second = _overwrite(store, b"second").commit
    seen_second = store.look([SALES])[SALES]
    restored = store.restore(SALES, first.digest).commit
    _expect(_read(store) == b"first", "a restored commit is not what is read")
    _expect(restored.digest == first.digest, "a restored commit has another digest")
    _expect(restored.record is not None and restored.record.rows == 1, "a restored commit lost its record")
    _expect(second.digest in _kept(store), "what was replaced is not kept")
    for seen in (seen_first, seen_second):
        with _refused(PartitionConflict, "who looked before a restore may publish over it"):
            _publish(store, b"third", seen)
    with _refused(PartitionMissing, "a commit that is not kept can be restored"):
        store.restore(SALES, "no such digest")


def a_record_stays_with_its_commit(store: Store) -> None:
    """A record reads back as it was handed over, with what the store knows better; an unchanged publish renews it."""
    record = Record(
        inputs={"events": {DAY: "digest"}},
        began_at=datetime(2026, 6, 11, 4, 30, tzinfo=UTC),
        code_version="one",
        rows=7,
        seconds=0.25,
        run_id="a run",
    )
    first = _overwrite(store, b"first", record=record).commit
    _expect(_record(store) == first.record, "the head's record is not the one that publish gave")
    told = _record(store)
    _expect((told.digest, told.size_bytes, told.unchanged) == (first.digest, 5, False), f"the record tells {told}")
    _expect((told.version, told.follows, told.first_at) == (first.version, "", told.recorded_at), f"it tells {told}")
    _expect((told.inputs, told.began_at) == (record.inputs, record.began_at), f"the record tells {told}")
    _overwrite(store, b"first", record=Record(code_version="two"))
    again = _record(store)
    _expect((again.code_version, again.unchanged) == ("two", True), "the record of an unchanged commit is an old one's")
    _expect((again.follows, again.first_at) == (told.write_id, told.first_at), f"{again} does not follow {told}")
    _overwrite(store, b"second", record=Record(code_version="three"))
    newest = _record(store)
    _expect(newest.code_version == "three", "the record of a new commit is an old one's")
    _expect((newest.follows, newest.first_at) == (again.write_id, told.first_at), f"{newest} does not follow {again}")
    kept = [each.record.code_version if each.record else None for each in store.history(SALES)]
    _expect(kept == ["two"], f"the code versions of the kept commits are {kept}")


def what_nobody_disturbed_has_no_flaws(store: Store) -> None:
    """Commits, history and restored commits fit together, whether files are read or not."""
    for content in (b"first", b"second", b"second"):
        _overwrite(store, content)
    store.restore(SALES, store.history(SALES)[0].digest)
    for read in (True, False):
        found = list(store.flaws(SALES.table, read=read, mend=False))
        _expect(not found, f"flaws are found in what nobody disturbed: {found}")
    _expect(not store.adopt(OTHERS[0], Record()), "a record is kept of a head that is not there")


def a_table_of_a_name_that_leads_elsewhere_is_refused(store: Store) -> None:
    """Names of tables stay below the root, and apart from the store's own folders."""
    uses: tuple[Callable[[Partition], object], ...] = (
        store.head,
        lambda one: store.look([one]),
        store.history,
        lambda one: store.stage(one).__enter__(),
        lambda one: store.heads(one.table),
        lambda one: store.sweep(one.table),
    )
    for use, table in product(uses, NO_TABLES):
        with _refused(DefinitionError, f"a table may be named {table!r}"):
            use(Partition(table, DAY))


def a_page_takes_the_place_of_the_one_before(store: Store) -> None:
    """A page lies where the one before it lay, and where no table can be."""
    places = {store.write_page("sla", DAY, text) for text in ("<p>a long first page</p>", "<p>é</p>")}
    _expect(len(places) == 1, f"two pages of one day lie at {sorted(places)}")
    _expect(not store.heads("sla"), "a page counts as a commit")
    _expect(not store.tables(), "pages count as a table")


def a_store_can_be_asked_whether_it_can_be_written(store: Store) -> None:
    """The check whether a store can be written leaves nothing that a reader could see."""
    store.check_writable()
    _expect(not store.tables(), "the check left a table")


def _overwrite(store: Store, content: bytes, partition: Partition = SALES, record: Record | None = None) -> Published:
    return _publish(store, content, store.look([partition])[partition], partition, record)


def _publish(
    store: Store, content: bytes, seen: Seen, partition: Partition = SALES, record: Record | None = None
) -> Published:
    with store.stage(partition) as staged:
        with staged.sink() as sink:
            sink.write(content)
        return store.publish(staged, record or Record(), seen=seen)


def _read(store: Store, partition: Partition = SALES) -> bytes:
    pinned = store.open(partition)
    if pinned is None:
        raise AssertionError(f"{partition} was published and cannot be opened")
    with pinned.file as file:
        content: bytes = file.read()
    return content


def _record(store: Store) -> Record:
    head = store.head(SALES)
    if head is None or head.record is None:
        raise AssertionError("the head has no record")
    return head.record


def _kept(store: Store) -> list[str]:
    """Digests of the kept commits, the newest first."""
    return [each.digest for each in store.history(SALES)]


@contextmanager
def _refused(error: type[PipelineError], otherwise: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(otherwise)


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise AssertionError(otherwise)


PROMISES: tuple[Callable[[Store], None], ...] = tuple(
    each for name, each in dict(vars()).items() if getattr(each, "__module__", "") == __name__ and name[0] != "_"
)
"""All that stands above under a public name."""
