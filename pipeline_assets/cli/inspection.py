"""Commands that show what there is: show, why, rejects."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import click

from pipeline_assets.cli.options import DAY
from pipeline_assets.cli.project import key_named, load_project, opened_instance
from pipeline_assets.console import console, grid
from pipeline_assets.errors import PartitionMissing
from pipeline_assets.orchestration.changes.explanation import explain
from pipeline_assets.orchestration.process import records_of
from pipeline_assets.partition import Partition
from pipeline_assets.store import Store
from pipeline_assets.store.parquet import read_table, row_count

PREVIEW_ROWS = 5


@click.command()
@click.argument("table")
@click.option("--day", type=DAY, help="One day, with its history and record.")
@click.option("--last", "limit", default=14, show_default=True, type=click.IntRange(1), help="How many days to list.")
def show(table: str, day: datetime | None, limit: int) -> None:
    """Print the head, history and row accounting of a table."""
    _, store, defs = load_project()
    key = key_named(defs, table)
    days = list(store.heads(table))
    if not days:
        raise PartitionMissing(f"{table} has no day yet in {store.uri}; compute some with `pipeline run`")
    with opened_instance() as instance:
        if day is None:
            _show_days(store, table, days, records_of(instance, key, days[-limit:]), limit)
        else:
            partition = Partition(table, day.date())
            record = records_of(instance, key, [partition.day]).get(partition.day, {})
            _show_partition(store, partition, record)


def _show_days(
    store: Store, table: str, days: list[date], records: Mapping[date, Mapping[str, Any]], limit: int
) -> None:
    counts = [
        name for name in ("rows_read", "rows_duplicate", "rows_rejected") if name in next(iter(records.values()), {})
    ]
    rows: list[list[object]] = []
    for each in days[-limit:]:
        partition = Partition(table, each)
        pinned = store.open(partition)
        if pinned is None:
            continue  # removed since it was listed
        head, record = pinned.commit, records.get(each, {})
        books = [record.get(name, "") for name in counts]
        published = f"{head.published_at:%Y-%m-%d %H:%M:%S}"
        facts = (head.size_bytes, head.digest[:12], published, len(store.history(partition)))
        rows.append([str(each), row_count(pinned.file), *books, *facts])
        pinned.close()
    names = ["day", "rows", *counts, "bytes", "digest", "published (UTC)", "kept commits"]
    title = f"{table}: {len(days)} days, {days[0]} to {days[-1]}"
    console.print(grid(names, rows, title=title if len(rows) == len(days) else f"{title}; the last {len(rows)}"))


def _show_partition(store: Store, partition: Partition, record: Mapping[str, Any]) -> None:
    pinned = store.open(partition)
    if pinned is None:
        days = list(store.heads(partition.table))
        raise PartitionMissing(
            f"{partition} has not been computed; there are {len(days)} days, {days[0]} to {days[-1]}"
        )
    head = pinned.commit
    facts: list[list[object]] = [
        ["uri", head.uri],
        ["rows", f"{row_count(pinned.file):,}"],
        ["bytes", f"{head.size_bytes:,}"],
        ["digest", head.digest],
        ["published (UTC)", f"{head.published_at:%Y-%m-%d %H:%M:%S}"],
    ]
    names = ("rows_read", "rows_duplicate", "rows_rejected", "unchanged", "seconds", "code_version", "run")
    facts += [[f"record: {name}", record[name]] for name in names if name in record]
    for table, commits in record.get("inputs", {}).items():
        known = "\n".join(f"{each} {digest}" for each, digest in commits.items())
        facts.append([f"made from {table}", known])
    if record.get("digest", head.digest) != head.digest:
        facts.append(["note", f"the newest record is of {record['digest']}, which is not the head"])
    console.print(grid(["head", str(partition)], facts))
    kept: list[list[object]] = [
        [commit.digest, commit.size_bytes, f"{commit.published_at:%Y-%m-%d %H:%M:%S}"]
        for commit in store.history(partition)
    ]
    if kept:
        console.print(grid(["replaced commit", "bytes", "published (UTC)"], kept))
        console.print(f"`pipeline restore {partition.table} {partition.day} DIGEST` publishes one of them again.")
    rows = read_table(pinned.file).slice(0, PREVIEW_ROWS)
    pinned.close()
    console.print(grid(rows.column_names, [list(row.values()) for row in rows.to_pylist()], title="first rows"))


@click.command()
@click.argument("table")
@click.argument("day", type=DAY)
def why(table: str, day: datetime) -> None:
    """Say why a partition was, or was not, computed again, and what it was made from."""
    _, _, defs = load_project()
    with opened_instance() as instance:
        found = explain(instance, defs, table, day.date())
    console.print(f"{found.partition} is {found.status.value}. {' '.join(found.reasons)}", markup=False)
    if found.record is None:
        console.print("It has no record.")
    else:
        facts: list[list[object]] = [
            ["recorded (UTC)", f"{found.record.recorded_at:%Y-%m-%d %H:%M:%S}"],
            ["digest", found.record.digest],
            ["bytes", "as before: nothing downstream was asked for" if found.record.unchanged else "new"],
            ["why", found.launched],
            ["run", found.record.run_id or None],
        ]
        console.print(grid(["newest record", ""], facts))
    rows: list[list[object]] = [
        [str(each.partition), each.read or "not read", _since(each.read, each.now, rewritten=each.rewritten)]
        for each in found.inputs
    ]
    if rows:
        console.print(grid(["made from", "digest", "since then"], rows))


def _since(read: str | None, now: str | None, *, rewritten: bool) -> str:
    if now is None:
        return "no record"
    if now != read:
        return f"now {now}"
    return "computed again, same digest" if rewritten else "unchanged"


@click.command()
@click.option("--day", type=DAY, help="One arrival day.  [default: all]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many rows to list.")
def rejects(day: datetime | None, limit: int) -> None:
    """Print rejected rows with their reasons."""
    _, store, _ = load_project()
    table = "rejected_events"
    days = [day.date()] if day else list(store.heads(table))
    counts: dict[str, int] = {}
    rows: list[list[object]] = []
    for each in days:
        pinned = store.open(Partition(table, each))
        if pinned is None:
            raise PartitionMissing(
                f"{Partition(table, each)} has not been computed; run `pipeline run --from {each} --to {each}`"
            )
        for row in read_table(pinned.file).to_pylist():
            counts[row["rule"]] = counts.get(row["rule"], 0) + 1
            if len(rows) < limit:
                where = row["source_file"] + (f":{row['source_line']}" if row["source_line"] else "")
                rows.append([where, row["rule"], row["reason"], row["row_text"]])
        pinned.close()
    total = sum(counts.values())
    if not total:
        console.print(f"no rejected rows in {len(days)} days")
        return
    console.print(grid(["file and line", "rule", "reason", "row"], rows), markup=False)
    listed = ", ".join(f"{count:,} {rule}" for rule, count in sorted(counts.items(), key=lambda item: -item[1]))
    console.print(f"{total:,} rejected rows in {len(days)} days: {listed}")
    if total > len(rows):
        console.print(f"{len(rows)} are listed; --limit {total} lists all")
