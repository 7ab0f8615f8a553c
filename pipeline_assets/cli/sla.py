"""The command sla: how deadlines were kept."""

from datetime import UTC, date, datetime, timedelta

import click

from pipeline_assets.cli.options import DAY, format_option
from pipeline_assets.cli.project import checked_range, load_project, opened_instance
from pipeline_assets.console import console, grid
from pipeline_assets.orchestration.sla.sensor import sla_report
from pipeline_assets.report import words
from pipeline_assets.report.sla_json import sla_json
from pipeline_assets.report.sla_page import sla_page
from pipeline_assets.rules.sla import SlaReport
from pipeline_assets.settings import Settings

SLA_DAYS = 30


@click.command()
@click.option("--from", "first", type=DAY, help="First day.  [default: 30 days up to --to]")
@click.option("--to", "last", type=DAY, help="Last day.  [default: yesterday]")
@format_option("table", "json", "html", readers="For people, programs, managers.")
def sla(first: datetime | None, last: datetime | None, form: str) -> None:
    """Print how the tables kept their deadlines, with the cause of every miss.

    A miss is what it reports, not a failure of the report: the exit status is 0.
    """
    settings, store, defs = load_project()
    begin, end = sla_range_of(settings, first, last)
    with opened_instance() as instance:
        report = sla_report(instance, defs, begin, end, now=datetime.now(UTC), store=store)
    if form == "table":
        show_sla(report)
    elif form == "json":
        click.echo(sla_json(report).encode())  # bytes: JSON and the page are UTF-8 whatever the terminal is
    else:
        click.echo(sla_page(report, dagster_url=settings.dagster_url).encode())


def show_sla(report: SlaReport) -> None:
    """Print the report as tables."""
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


def sla_range_of(settings: Settings, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """The asked days; what is not asked for is thirty days that end yesterday, or as many as there are.

    Raises:
        UsageError: backwards, before the first day, or not over yet.
    """
    today = settings.today()
    end = last.date() if last else today - timedelta(days=1)
    earliest = min(settings.first_day(today=today), end)  # an end before the history is told as that
    begin = first.date() if first else max(end - timedelta(days=SLA_DAYS - 1), earliest)
    return checked_range(settings, begin, end)
