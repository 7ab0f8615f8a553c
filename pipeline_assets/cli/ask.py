"""What a backfill is wanted for: the options that say so, and what they ask."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from pipeline_assets.cli.options import DAY
from pipeline_assets.cli.project import Project, checked_range
from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.process import selected_keys
from pipeline_assets.rules.backfill import Ask, Made, Mode, stretches_of
from pipeline_assets.settings import Settings

MODES = tuple(mode.value for mode in Mode if mode is not Mode.MADE)  # which has options of its own
FORCED_MODES = (Mode.FULL, Mode.INCREMENTAL, Mode.SELECTIVE)


def plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what a backfill is wanted for."""
    options = [
        click.option(
            "--mode",
            type=click.Choice(MODES),
            help="What is looked for.  [default: selective if days are given, else incremental]",
        ),
        click.option("--select", help="Tables, in Dagster's syntax: events, 'events+', 'daily_sales,user_segments'."),
        click.option("--from", "first", type=DAY, help="First day."),
        click.option("--to", "last", type=DAY, help="Last day."),
        click.option("--days", multiple=True, help="Days and ranges: 2026-02-14, 2026-02-20..2026-02-22; repeatable."),
        click.option("--made-by", metavar="CODE_VERSION", help="What this wrong code made, and all downstream of it."),
        click.option(
            "--made-between", type=(str, str), metavar="T1 T2", help="The same of what was made then; UTC unless told."
        ),
        click.option("--reason", help="Why, for whoever reads the runs later; selective requires it."),
        click.option("--force", is_flag=True, help="Compute what did not change, too."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def given_options(asked: Mapping[str, Any]) -> list[str]:
    """Name those of `plan_options` that were given, with whatever value."""
    names = {"first": "from", "last": "to", "made_by": "made-by", "made_between": "made-between"}
    return [f"--{names.get(name, name)}" for name, value in asked.items() if value not in (None, False, ())]


def ask_of(project: Project, asked: Mapping[str, Any]) -> Ask:
    """Read what `plan_options` say.

    Raises:
        UsageError: they contradict each other, or the project.
    """
    mode = _mode(asked)
    tables = _tables(project, asked["select"])
    spans = _spans(project.settings, asked)
    reason = (asked["reason"] or "").strip()
    if mode is Mode.MADE:
        return Ask(mode, tables, tuple(stretches_of(spans)), reason, force=True, made=_made(asked))
    if mode is Mode.SELECTIVE and not reason:
        raise UsageError("a selective backfill needs --reason: it is what people find beside its runs later")
    return Ask(mode, tables, tuple(stretches_of(spans)), reason, asked["force"])


def _mode(asked: Mapping[str, Any]) -> Mode:
    by_range = asked["first"] or asked["last"]
    if asked["days"] and by_range:
        raise UsageError("--days and --from/--to are two ways to say the same; use one of them")
    given = bool(by_range or asked["days"])
    if asked["made_by"] or asked["made_between"]:
        if asked["mode"] or asked["force"]:
            raise UsageError("--made-by and --made-between say what is looked for: leave --mode and --force out")
        return Mode.MADE
    mode = Mode(asked["mode"] or (Mode.SELECTIVE if given else Mode.INCREMENTAL))
    if mode is Mode.SELECTIVE and not given:
        raise UsageError("--mode selective needs its days: --from and --to, or --days. --mode full takes all history")
    if asked["force"] and mode not in FORCED_MODES:
        raise UsageError(
            f"--force computes what did not change, and --mode {mode.value} looks for none of that; --force goes with "
            f"--mode {', '.join(FORCED_MODES)}"
        )
    return mode


def _made(asked: Mapping[str, Any]) -> Made:
    since, until = (_moment(each) for each in asked["made_between"]) if asked["made_between"] else (None, None)
    if since is not None and until is not None and since > until:
        raise UsageError(f"--made-between: {since.isoformat()} is after {until.isoformat()}")
    return Made(asked["made_by"], since, until)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--made-between {text!r}: no moment as 2026-02-14T09:30, or 2026-02-14T09:30+01:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _tables(project: Project, select: str | None) -> tuple[str, ...]:
    """Choose leading tables, upstream first."""
    graph = project.backfills.graph
    daily = [table for table in graph.tables if table not in graph.sources]
    if select is not None and not select.strip():
        raise UsageError(f"--select is empty. Daily tables: {', '.join(daily)}")
    selected = {key.to_user_string() for key in selected_keys(project.defs, select)}
    leads = tuple(dict.fromkeys(graph.lead(table) for table in daily if table in selected))
    if not leads:
        raise UsageError(
            f"--select {select} selects no table that is computed by days. Daily tables: {', '.join(daily)}"
        )
    return leads


def _spans(settings: Settings, asked: Mapping[str, Any]) -> Sequence[tuple[date, date]]:
    if asked["days"]:
        return [_span(settings, part.strip()) for each in asked["days"] for part in each.split(",")]
    today = settings.today()
    first, last = asked["first"], asked["last"]
    begin = first.date() if first else settings.first_day(today=today)
    end = last.date() if last else today - timedelta(days=1)
    return [checked_range(settings, begin, end)]


def _span(settings: Settings, text: str) -> tuple[date, date]:
    begin, dots, end = text.partition("..")
    try:
        first = date.fromisoformat(begin)
        last = date.fromisoformat(end) if dots else first
    except ValueError as error:
        raise UsageError(
            f"--days {text!r}: neither a day as 2026-02-14 nor a range as 2026-02-14..2026-02-16"
        ) from error
    return checked_range(settings, first, last, given=f"--days {text}")
