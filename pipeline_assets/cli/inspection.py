"""Commands that show what the lake has, and ask nobody else: show, history, rejects."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import click
import pyarrow as pa

from pipeline_assets.cli.options import DAY
from pipeline_assets.console import console, grid, stderr
from pipeline_assets.errors import PartitionDamaged, PartitionMissing, UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.settings import load_settings
from pipeline_assets.store import Commit, Pinned, Store
from pipeline_assets.store.parquet import read_table, row_count, undamaged

PREVIEW_ROWS = 5
MOMENT, EPOCH = pa.timestamp("us", "UTC"), datetime(1970, 1, 1, tzinfo=UTC)
BOOKS = ("rows_read", "rows_duplicate", "rows_rejected")
"""Fields of a record that only tables which drop rows have."""


@click.command()
@click.argument("table")
@click.option("--day", type=DAY, help="One day, with its history and record.")
@click.option("--last", "limit", default=14, show_default=True, type=click.IntRange(1), help="How many days to list.")
def show(table: str, day: datetime | None, limit: int) -> None:
    """Print the head, history and row accounting of a table."""
    store, days = _opened(table)
    if day is None:
        _show_days(store, table, days, limit)
    else:
        _show_partition(store, Partition(table, day.date()), days)


@click.command()
@click.argument("table")
@click.argument("day", type=DAY)
def history(table: str, day: datetime) -> None:
    """List the commits of a partition, the head first, and how each was made."""
    store, days = _opened(table)
    partition = Partition(table, day.date())
    head = store.head(partition)
    if head is None:
        raise _missing(partition, days)
    rows = [_made(each) for each in (head, *store.history(partition))]
    names = ["commit", "rows", "bytes", "published (UTC)", "code version", "run"]
    console.print(grid(names, rows, title=f"{partition}: the head first"))
    if len(rows) > 1:
        console.print(f"`pipeline restore {table} {partition.day} COMMIT` publishes one of them again.")


def _opened(table: str) -> tuple[Store, list[date]]:
    """The lake, and the days that it has of a table."""
    store = load_settings().open_store()
    tables = store.tables()
    if table not in tables:
        there = f"tables: {', '.join(tables)}" if tables else "it is empty. `pipeline run` computes some days"
        raise UsageError(f"there is no table {table} in {store.uri}; {there}")
    days = list(store.heads(table))
    if not days:
        raise PartitionMissing(f"{table} has no day yet in {store.uri}; compute some with `pipeline run`")
    return store, days


def _missing(partition: Partition, days: list[date]) -> PartitionMissing:
    return PartitionMissing(f"{partition} has not been computed; there are {len(days)} days, {days[0]} to {days[-1]}")


def _made(commit: Commit) -> list[object]:
    record = commit.record or Record()
    facts = (commit.digest, record.rows, commit.size_bytes, f"{commit.published_at:%Y-%m-%d %H:%M:%S}")
    return [*facts, record.code_version, record.run_id or None]


def _show_days(store: Store, table: str, days: list[date], limit: int) -> None:
    pinned = [found for each in days[-limit:] if (found := store.open(Partition(table, each))) is not None]
    known = [each.commit.record or Record() for each in pinned]
    counts = [name for name in BOOKS if any(getattr(each, name) is not None for each in known)]
    rows = [_shown_day(store, each, record, counts) for each, record in zip(pinned, known, strict=True)]
    names = ["day", "rows", *counts, "bytes", "digest", "published (UTC)", "kept commits"]
    title = f"{table}: {len(days)} days, {days[0]} to {days[-1]}"
    console.print(grid(names, rows, title=title if len(rows) == len(days) else f"{title}; the last {len(rows)}"))


def _shown_day(store: Store, pinned: Pinned, record: Record, counts: list[str]) -> list[object]:
    head = pinned.commit
    books = [getattr(record, name) for name in counts]
    short = head.digest.rpartition(":")[2][:12]
    facts = (head.size_bytes, short, f"{head.published_at:%Y-%m-%d %H:%M:%S}", len(store.history(head.partition)))
    rows: object = "damaged"  # one day's trouble hides no other
    with pinned.file as file, suppress(PartitionDamaged), undamaged(head.partition):
        rows = row_count(file)
    return [str(head.partition.day), rows, *books, *facts]


def _show_partition(store: Store, partition: Partition, days: list[date]) -> None:
    pinned = store.open(partition)
    if pinned is None:
        raise _missing(partition, days)
    head, record = pinned.commit, pinned.commit.record
    with undamaged(partition):
        table = read_table(pinned.file)
    pinned.close()
    facts: list[list[object]] = [
        ["uri", head.uri],
        ["rows", f"{table.num_rows:,}"],
        ["bytes", f"{head.size_bytes:,}"],
        ["digest", head.digest],
        ["published (UTC)", f"{head.published_at:%Y-%m-%d %H:%M:%S}"],
    ]
    if record is None:
        facts.append(["record", "none in the lake; `pipeline why` says whether it is to be made again"])
    else:
        told = {name: getattr(record, name) for name in (*BOOKS, "unchanged", "seconds", "code_version")}
        told["run"] = record.run_id or None
        facts += [[f"record: {name}", value] for name, value in told.items() if value is not None]
        for upstream, commits in record.inputs.items():
            facts.append([f"made from {upstream}", "\n".join(f"{each} {digest}" for each, digest in commits.items())])
    console.print(grid(["head", str(partition)], facts))
    kept: list[list[object]] = [
        [commit.digest, commit.size_bytes, f"{commit.published_at:%Y-%m-%d %H:%M:%S}"]
        for commit in store.history(partition)
    ]
    if kept:
        console.print(grid(["replaced commit", "bytes", "published (UTC)"], kept))
        console.print(f"`pipeline restore {partition.table} {partition.day} DIGEST` publishes one of them again.")
    rows = table.slice(0, PREVIEW_ROWS)
    values = zip(*map(_values, rows.columns), strict=True)
    console.print(grid(rows.column_names, [list(row) for row in values], title="first rows"))


def _values(column: pa.ChunkedArray) -> list[object]:
    """As Python has them. Arrow imports pandas for times, which takes longer than all the rest of the command."""
    if column.type != MOMENT:
        return list(column.to_pylist())
    seconds = column.cast(pa.int64()).to_pylist()
    return [None if each is None else EPOCH + timedelta(microseconds=each) for each in seconds]


@click.command()
@click.option("--day", type=DAY, help="One arrival day.  [default: all]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many rows to list.")
def rejects(day: datetime | None, limit: int) -> None:
    """Print rejected rows with their reasons."""
    store = load_settings().open_store()
    table = "rejected_events"
    days = [day.date()] if day else list(store.heads(table))
    counts: dict[str, int] = {}
    rows: list[list[object]] = []
    damaged: list[str] = []
    for each in days:
        pinned = store.open(Partition(table, each))
        if pinned is None:
            raise PartitionMissing(
                f"{Partition(table, each)} has not been computed; run `pipeline run --from {each} --to {each}`"
            )
        try:
            with pinned.file as file, undamaged(Partition(table, each)):
                rejected = read_table(file).to_pylist()
        except PartitionDamaged as error:
            if day:
                raise
            damaged.append(str(error))
            continue
        for row in rejected:
            counts[row["rule"]] = counts.get(row["rule"], 0) + 1
            if len(rows) < limit:
                where = row["source_file"] + (f":{row['source_line']}" if row["source_line"] else "")
                rows.append([where, row["rule"], row["reason"], row["row_text"]])
    for told in damaged:
        stderr.print(f"warning: {told}", markup=False, soft_wrap=True)
    total = sum(counts.values())
    if not total:
        console.print(f"no rejected rows in {len(days)} days")
        return
    console.print(grid(["file and line", "rule", "reason", "row"], rows), markup=False)
    listed = ", ".join(f"{count:,} {rule}" for rule, count in sorted(counts.items(), key=lambda item: -item[1]))
    console.print(f"{total:,} rejected rows in {len(days)} days: {listed}")
    if total > len(rows):
        console.print(f"{len(rows)} are listed; --limit {total} lists all")
