"""`pipeline sla` as people and CI use it: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline_assets import cli
from pipeline_assets.cli.sla import show_sla
from pipeline_assets.rules.sla import SlaReport
from pipeline_assets_tests.report import reports
from pipeline_assets_tests.report.reports import LAST, miss, report_of, table_of

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
START = YESTERDAY - timedelta(days=99)


@dataclass
class Outcome:
    status: int
    out: str
    err: str


Pipeline = Callable[..., Outcome]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pipeline:
    """The command, with nothing landed and an instance that never ran anything."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    settings = {
        "DAGSTER_HOME": tmp_path / "dagster",
        "PIPELINE_LANDING": tmp_path / "landing",
        "PIPELINE_STORE": tmp_path / "lake",
        "PIPELINE_START": START,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return run


def test_thirty_days_that_end_yesterday_are_reported_unless_others_are_asked_for(pipeline: Pipeline) -> None:
    done = pipeline("sla", "--format", "json")
    report = json.loads(done.out)

    assert (done.status, done.err) == (0, "")
    assert (report["first"], report["last"]) == (str(YESTERDAY - timedelta(days=29)), str(YESTERDAY))
    assert datetime.fromisoformat(report["made_at"]) > datetime.now(UTC) - timedelta(minutes=5)

    first, last = str(START), str(START + timedelta(days=2))
    asked = json.loads(pipeline("sla", "--from", first, "--to", last, "--format", "json").out)
    assert (asked["first"], asked["last"]) == (first, last)
    cut_off = json.loads(pipeline("sla", "--to", last, "--format", "json").out)
    assert (cut_off["first"], cut_off["last"]) == (first, last)


def test_an_instance_that_never_ran_has_a_report(pipeline: Pipeline) -> None:
    table, page = pipeline("sla"), pipeline("sla", "--format", "html")

    assert (table.status, page.status) == (0, 0)
    assert page.out.startswith("<!DOCTYPE html>")
    assert page.out.rstrip().endswith("</html>")
    headline = table.out.splitlines()[0]
    assert headline in page.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", str(YESTERDAY), "--to", str(START)), f"--from {YESTERDAY} is after --to {START}"),
        (("--from", str(START - timedelta(days=1))), f"is before the first day of the history, {START}"),
        (("--to", str(START - timedelta(days=1))), f"--to {START - timedelta(days=1)} is before the first day"),
        (("--to", str(YESTERDAY + timedelta(days=1))), "is not over yet"),
        (("--from", "2026-02-30"), "2026-02-30"),
        (("--format", "pdf"), "pdf"),
    ],
    ids=["backwards", "too-early", "ends-too-early", "not-over", "no-date", "no-format"],
)
def test_what_cannot_be_asked_for_ends_with_two_and_says_why(
    pipeline: Pipeline, options: tuple[str, ...], message: str
) -> None:
    done = pipeline("sla", *options)

    assert (done.status, done.out) == (2, "")
    assert message in done.err


def shown(report: SlaReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_sla(report)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_the_table_has_a_line_per_table_and_one_per_miss(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(reports.month(), capsys)

    assert lines[0] == "3 of 4 tables kept their promise from 22 October to 20 November 2026."
    assert lines[1] == "user_features missed 3 of 30 days; its error budget of 1.5 days is overspent by 1.5 days."
    text = "\n".join(lines)
    assert "daily_sales" in text
    assert sum("2026-11-" in line for line in lines) == 4
    assert "failed Run 5a5b5c5d failed at 04:12" in text


def test_text_in_brackets_is_printed_and_not_taken_for_a_style(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(table_of("events", [miss("events", LAST, detail="[bold]wrong[/bold]")]))

    assert "[bold]wrong[/bold]" in " ".join(shown(report, capsys))


def test_a_report_without_misses_has_no_table_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(reports.all_on_time(), capsys)

    assert [line for line in lines if line.startswith("missed")] == []
    assert shown(report_of(), capsys)[0] == "No table has a deadline."
