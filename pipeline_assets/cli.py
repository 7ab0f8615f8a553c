"""The `pipeline` command: thin, it calls the layers below. Whatever it does is visible in Dagster too.

Exit status: 0 done; 1 days failed; 2 a setting, an option or the landing zone is wrong; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.errors import PartitionMissing, PipelineError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import dagster as dg

    from pipeline_assets.rules.sla import SlaReport
    from pipeline_assets.settings import Settings
    from pipeline_assets.store import LocalStore, Partition

# Heavy imports stand inside the commands: `pipeline --help` and a typing error answer at once.

DAY = click.DateTime(formats=["%Y-%m-%d"])
PREVIEW_ROWS = 5
SLA_DAYS = 30
EXIT_FAILED, EXIT_WRONG, EXIT_INTERRUPTED = 1, 2, 130


def main() -> None:
    """Console script. Errors of the project end as one message, never as a traceback."""
    from pipeline_assets.settings import project_root

    os.chdir(project_root())  # relative settings, and Dagster's own paths, start there wherever the command is given
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_WRONG)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "interrupted: the days that were committed stand and are recorded; the same command goes on.",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `pipeline show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Daily pipelines that can be run again without fear."""


@cli.command()
@click.option("--days", default=60, show_default=True, type=click.IntRange(1, 3650), help="Arrival days to make.")
@click.option("--until", type=DAY, help="Last arrival day.  [default: yesterday]")
@click.option("--seed", default=20260101, show_default=True, type=click.IntRange(0), help="Another seed, another shop.")
def demo(days: int, until: datetime | None, seed: int) -> None:
    """Fill the landing zone with the events of a made-up shop."""
    from pipeline_assets.console import console
    from pipeline_assets.demo import write_days
    from pipeline_assets.rules.calendar import days_between
    from pipeline_assets.settings import load_settings

    settings = load_settings()
    if not isinstance(settings.landing, Path):
        msg = "PIPELINE_LANDING is a URL; demo data is written to a folder. Unset it, or name a folder"
        raise SettingsError(msg)
    last = until.date() if until else settings.today() - timedelta(days=1)
    asked = days_between(last - timedelta(days=days - 1), last)
    with console.status("demo shop") as status:
        summary = write_days(
            settings.landing,
            asked,
            seed=seed,
            progress=lambda day, files: status.update(f"demo shop: {day}, {files} files"),
        )
    console.print(
        f"demo shop: {summary.days} arrival days until {last}, {summary.files} files, {summary.bytes / 1e6:.1f} MB, "
        f"{summary.events:,} events in {settings.landing}"
    )


@cli.command()
@click.option("--from", "first", type=DAY, help="First day.  [default: PIPELINE_START]")
@click.option("--to", "last", type=DAY, help="Last day.  [default: newest landing day; yesterday, if that is a URL]")
@click.option("--select", help="Assets, in Dagster's syntax: events, 'events+', 'daily_sales,user_segments'.")
def run(first: datetime | None, last: datetime | None, select: str | None) -> None:
    """Compute a range of days in this process, without daemon or webserver.

    Days outside the range that exist already and are made from days of the range, late arrivals and trailing windows
    included, are computed again.
    """
    from pipeline_assets.console import RunView, console, stderr
    from pipeline_assets.orchestration import progress
    from pipeline_assets.orchestration.runs import execute, failures_of, plan_range, selected_keys, warnings_of
    from pipeline_assets.rules.calendar import days_between

    settings, store, defs = _loaded()
    store.check_writable()
    begin, end = _range(settings, first, last)
    keys = selected_keys(defs, select)
    runs = plan_range(defs, keys, days_between(begin, end), store)
    planned = {
        key.to_user_string(): sum(len(days_between(r.first, r.last)) for r in runs if key in r.keys) for key in keys
    }
    asked = len(days_between(begin, end))
    console.print(f"{begin} to {end}, {asked} days of {len(keys)} tables, {settings.store}")
    failures: list[str] = []
    with _instance() as instance, RunView(planned) as view, progress.listening(view.day_done):
        warnings: list[str] = []
        for each in runs:
            result = execute(defs, each, instance)
            warnings += warnings_of(result)
            failures += failures_of(result)
            if failures:
                break  # what is downstream would be made from days that are not there
    console.print(view.summary())
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)
    more = {table: days - asked for table, days in planned.items() if days > asked}
    if more:
        listed = ", ".join(f"{table} {days}" for table, days in more.items())
        console.print(f"Days outside the range that read days of it were computed again: {listed}.")
    if failures:
        stderr.print("\n".join(failures), markup=False, soft_wrap=True)
        sys.exit(EXIT_FAILED)
    console.print("Next: `make dev` shows it at http://localhost:3000; `.venv/bin/pipeline show daily_sales`;")
    console.print("      `.venv/bin/pipeline rejects` lists the rows that were not taken, with the reason.")


@cli.command()
@click.argument("table")
@click.option("--day", type=DAY, help="One day, with its history and record.")
@click.option("--last", "limit", default=14, show_default=True, type=click.IntRange(1), help="How many days to list.")
def show(table: str, day: datetime | None, limit: int) -> None:
    """Print the head, history and row accounting of a table."""
    from pipeline_assets.orchestration.runs import records_of
    from pipeline_assets.store import Partition

    _, store, defs = _loaded()
    key = _key(defs, table)
    days = store.days(table)
    if not days:
        msg = f"{table} has no day yet in {store.root}; compute some with `pipeline run`"
        raise PartitionMissing(msg)
    with _instance() as instance:
        if day is None:
            _show_days(store, table, days, records_of(instance, key, days[-limit:]), limit)
        else:
            partition = Partition(table, day.date())
            record = records_of(instance, key, [partition.day]).get(partition.day, {})
            _show_partition(store, partition, record)


def _show_days(
    store: LocalStore, table: str, days: list[date], records: Mapping[date, Mapping[str, Any]], limit: int
) -> None:
    from pipeline_assets.console import console, grid
    from pipeline_assets.store import Partition
    from pipeline_assets.store.parquet import row_count

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


def _show_partition(store: LocalStore, partition: Partition, record: Mapping[str, Any]) -> None:
    from pipeline_assets.console import console, grid
    from pipeline_assets.store.parquet import read_table, row_count

    pinned = store.open(partition)
    if pinned is None:
        days = store.days(partition.table)
        msg = f"{partition} has not been computed; there are {len(days)} days, {days[0]} to {days[-1]}"
        raise PartitionMissing(msg)
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


@cli.command()
@click.argument("table")
@click.argument("day", type=DAY)
def why(table: str, day: datetime) -> None:
    """Say why a partition was, or was not, computed again, and what it was made from."""
    from pipeline_assets.console import console, grid
    from pipeline_assets.orchestration.changes.why import explain

    _, _, defs = _loaded()
    with _instance() as instance:
        found = explain(instance, defs, table, day.date())
    console.print(f"{found.spot} is {found.state.value}. {' '.join(found.reasons)}", markup=False)
    if found.record is None:
        console.print("It has no record.")
    else:
        facts: list[list[object]] = [
            ["recorded (UTC)", f"{found.recorded_at:%Y-%m-%d %H:%M:%S}"],
            ["digest", found.record.digest],
            ["bytes", "as before: nothing downstream was asked for" if found.record.unchanged else "new"],
            ["why", found.launched],
            ["run", found.run_id],
        ]
        console.print(grid(["newest record", ""], facts))
    rows: list[list[object]] = [
        [str(each.spot), each.read or "not read", _since(each.read, each.now, rewritten=each.rewritten)]
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


@cli.command()
@click.option("--day", type=DAY, help="One arrival day.  [default: all]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many rows to list.")
def rejects(day: datetime | None, limit: int) -> None:
    """Print rejected rows with their reasons."""
    from pipeline_assets.console import console, grid
    from pipeline_assets.store import Partition
    from pipeline_assets.store.parquet import read_table

    _, store, _ = _loaded()
    table = "rejected_events"
    days = [day.date()] if day else store.days(table)
    counts: dict[str, int] = {}
    rows: list[list[object]] = []
    for each in days:
        pinned = store.open(Partition(table, each))
        if pinned is None:
            msg = f"{Partition(table, each)} has not been computed; run `pipeline run --from {each} --to {each}`"
            raise PartitionMissing(msg)
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


@cli.command()
@click.option("--from", "first", type=DAY, help="First day.  [default: 30 days up to --to]")
@click.option("--to", "last", type=DAY, help="Last day.  [default: yesterday]")
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "html"]),
    help="For people, programs, managers.",
)
def sla(first: datetime | None, last: datetime | None, form: str) -> None:
    """Print how the tables kept their deadlines, with the cause of every miss.

    A miss is what it reports, not a failure of the report: the exit status is 0.
    """
    from pipeline_assets.orchestration.sla.judging import sla_report

    settings, _, defs = _loaded()
    begin, end = _sla_range(settings, first, last)
    with _instance() as instance:
        report = sla_report(instance, defs, begin, end, now=datetime.now(UTC))
    if form == "table":
        _show_sla(report)
    elif form == "json":
        from pipeline_assets.report.sla_json import sla_json

        click.echo(sla_json(report).encode())  # bytes: JSON and the page are UTF-8 whatever the terminal is
    else:
        from pipeline_assets.report.sla_page import sla_page

        click.echo(sla_page(report, dagster_url=settings.dagster_url).encode())


def _show_sla(report: SlaReport) -> None:
    from pipeline_assets.console import console, grid
    from pipeline_assets.report import words

    console.print(f"{words.headline(report)}.", markup=False)
    for sentence in words.explanation(report):
        console.print(sentence, markup=False)
    rows: list[list[object]] = [
        [
            each.table,
            each.due,
            words.share(each.on_time_share),
            words.share(each.objective),
            f"{len(each.misses)}/{len(each.deliveries)}",
            words.budget_left(each),
            words.duration(each.lateness_p50_seconds),
            words.duration(each.lateness_p95_seconds),
            words.duration(each.duration_mean_seconds),
            words.duration(each.duration_p95_seconds),
            words.trend(each),
        ]
        for each in report.tables
    ]
    if rows:
        names = ["table", "due", "on time", "goal", "missed", "error budget", "late p50", "late p95"]
        console.print(grid([*names, "takes", "takes p95", "trend"], rows), markup=False)
    misses: list[list[object]] = [
        [
            each.table,
            str(miss.day),
            words.local(miss.deadline, each.timezone),
            words.local(miss.delivered, each.timezone),
            words.duration(miss.late_seconds),
            words.cause(miss),
            miss.detail,
            (miss.run_id or "")[:8],
        ]
        for each in report.tables
        for miss in each.misses
    ]
    if misses:
        names = ["missed", "day", "deadline", "delivered", "late by", "cause", "detail", "run"]
        console.print(grid(names, misses), markup=False)


@cli.command()
@click.argument("table")
@click.argument("day", type=DAY)
@click.argument("digest")
def restore(table: str, day: datetime, digest: str) -> None:
    """Publish a replaced commit of a partition again."""
    import dagster as dg

    from pipeline_assets.console import console
    from pipeline_assets.store import Partition

    _, store, defs = _loaded()
    key = _key(defs, table)
    published = store.restore(Partition(table, day.date()), digest)
    with _instance() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                partition=day.date().isoformat(),
                description="restored from history by `pipeline restore`",
                metadata={
                    "digest": published.commit.digest,
                    "unchanged": published.unchanged,
                    "restored": True,
                },
            )
        )
    console.print(f"{published.commit.partition} is {published.commit.digest} again")


def _loaded() -> tuple[Settings, LocalStore, dg.Definitions]:
    from pipeline_assets.definitions import build_definitions
    from pipeline_assets.settings import load_settings
    from pipeline_assets.store import LocalStore

    settings = load_settings()
    return settings, LocalStore(settings.store, history=settings.history), build_definitions(settings)


@contextmanager
def _instance() -> Iterator[dg.DagsterInstance]:
    from pipeline_assets.orchestration.runs import open_instance
    from pipeline_assets.settings import dagster_home, project_root

    with open_instance(dagster_home() or project_root()) as instance:
        yield instance


def _key(defs: dg.Definitions, table: str) -> dg.AssetKey:
    known = {key.to_user_string(): key for key in defs.resolve_asset_graph().get_all_asset_keys()}
    if table not in known:
        msg = f"there is no table {table}; tables: {', '.join(sorted(known))}"
        raise SettingsError(msg)
    return known[table]


def _range(settings: Settings, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """The asked days, checked against the history.

    Raises:
        SettingsError: backwards, before the first day, or not over yet.
    """
    from pipeline_assets.store.landing import LandingZone

    today = settings.today()
    start, newest = settings.first_day(today=today), today - timedelta(days=1)
    # A URL cannot be listed: there every day that is over may have something.
    listed = LandingZone(settings.landing).days() if isinstance(settings.landing, Path) else [newest]
    landed = [day for day in listed if day <= newest]
    if not landed and not (first and last):
        msg = (
            f"{settings.landing} holds no day that is over. `pipeline demo` makes some, or point PIPELINE_LANDING at "
            "a folder of dt=YYYY-MM-DD folders, or say --from and --to."
        )
        raise SettingsError(msg)
    begin = first.date() if first else start
    end = last.date() if last else max(landed)
    return _checked_range(settings, begin, end)


def _sla_range(settings: Settings, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """The asked days; what is not asked for is thirty days that end yesterday, or as many as there are.

    Raises:
        SettingsError: backwards, before the first day, or not over yet.
    """
    today = settings.today()
    end = last.date() if last else today - timedelta(days=1)
    earliest = min(settings.first_day(today=today), end)  # an end before the history is told as that
    begin = first.date() if first else max(end - timedelta(days=SLA_DAYS - 1), earliest)
    return _checked_range(settings, begin, end)


def _checked_range(settings: Settings, begin: date, end: date) -> tuple[date, date]:
    today = settings.today()
    start, newest = settings.first_day(today=today), today - timedelta(days=1)
    if begin > end:
        msg = f"--from {begin} is after --to {end}"
        raise SettingsError(msg)
    if begin < start:
        option = f"--to {end}" if end < start else f"--from {begin}"
        msg = f"{option} is before the first day of the history, {start} (PIPELINE_START)"
        raise SettingsError(msg)
    if end > newest:
        msg = f"--to {end} is not over yet; the last day that is, in {settings.timezone}, is {newest}"
        raise SettingsError(msg)
    return begin, end
