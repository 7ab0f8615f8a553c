"""An SLA report as one HTML page: nothing to fetch, nothing that runs, the same bytes for the same report."""

import base64
from functools import cache, partial
from typing import Any
from urllib.parse import quote

import jinja2

from pipeline_assets.report import plots, words
from pipeline_assets.rules.sla import DeliveryStatus, SlaReport, TableReport

NEWEST_MISSES = 14
"""Two weeks are read; older misses are folded away."""


def sla_page(report: SlaReport, *, dagster_url: str) -> str:
    """Write the report as a page of HTML.

    Args:
        report: its names and sentences may hold any text; they are escaped.
        dagster_url: where the Dagster UI is, for links to runs.
    """
    statuses = {each.status for table in report.tables for each in table.deliveries}
    page = _environment().get_template("sla_page.html.j2")
    return page.render(
        report=report,
        tables=[_told(report, table) for table in _broken_first(report)],
        legend=[(status, meaning) for status, meaning in words.STATUSES.items() if status in statuses],
        run_url=partial(_run_url, dagster_url),
    )


def sla_summary(report: SlaReport, *, dagster_url: str) -> str:
    """The report's overview and newest misses as Markdown, with a picture per table: what Dagster's UI can show."""
    lines = [f"**{_markdown(words.headline(report))}.**", ""]
    lines += [f"- {_markdown(sentence)}" for sentence in words.explanation(report)]
    if report.tables:
        lines += ["", "| table | days | on time | promised | missed | error budget |", "|---|---|---|---|---|---|"]
    for number, table in enumerate(_broken_first(report)):
        picture = f"![{len(table.misses)} missed]({_strip_uri(report, table, number)})"
        shares = [words.share(table.on_time_share), words.share(table.objective)]
        missed = f"{len(table.misses)} of {len(table.deliveries)}"
        lines.append(_row([_markdown(table.table), picture, *shares, missed, words.budget_left(table)]))
    misses = sorted(
        ((each, table) for table in report.tables for each in table.misses), key=lambda pair: pair[0].day, reverse=True
    )
    if misses:
        lines += ["", "| newest misses | table | deadline | late by | why | run |", "|---|---|---|---|---|---|"]
    for miss, table in misses[:NEWEST_MISSES]:
        why = f"{_capitalize_first(words.cause(miss))}. {miss.detail}"
        run = f"[{miss.run_id[:8]}]({_run_url(dagster_url, miss.run_id)})" if miss.run_id else ""
        times = [words.local(miss.deadline, table.timezone), words.duration(miss.late_seconds)]
        lines.append(_row([words.long_day(miss.day), _markdown(table.table), *times, _markdown(why), run]))
    return "\n".join(lines)


def _broken_first(report: SlaReport) -> list[TableReport]:
    """Tables that need somebody, then the others; both upstream first, as the report has them."""
    return sorted(report.tables, key=lambda table: words.promise(table) is not words.Promise.BROKEN)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _run_url(dagster_url: str, run_id: str) -> str:
    return f"{dagster_url}/runs/{quote(run_id, safe='')}"


def _told(report: SlaReport, table: TableReport) -> dict[str, Any]:
    """One table as the template wants it."""
    misses = sorted(table.misses, key=lambda each: each.day, reverse=True)
    left_share = table.budget_left_days / table.budget_days if table.budget_days > words.ROUNDING_DAYS else 0.0
    return {
        "table": table,
        "promise": words.promise(table),
        "on_time_days": sum(each.status is DeliveryStatus.ON_TIME for each in table.deliveries),
        "budget_percent": round(min(max(left_share, 0.0), 1.0) * 100),
        "strip": plots.strip(report, table),
        "deliveries": plots.delivery_plot(report, table),
        "durations": plots.duration_plot(report, table),
        "newest_misses": misses[:NEWEST_MISSES],
        "older_misses": misses[NEWEST_MISSES:],
    }


def _strip_uri(report: SlaReport, table: TableReport, number: int) -> str:
    svg = _environment().get_template("strip.svg.j2").render(plot=plots.strip(report, table), id=f"strip-{number}")
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _markdown(text: str) -> str:
    """Text that Markdown takes as it is, in a table's cell too."""
    for character in "\\`*_{}[]()<>#|!&~":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline_assets.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals.update(words=words, plots=plots)
    environment.filters["capitalize_first"] = _capitalize_first
    return environment
