"""The SLA page as HTML: what it holds, and that it needs nothing besides itself. `test_browser.py` looks at it."""

from __future__ import annotations

import base64
import dataclasses
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from pipeline_assets.report.sla_page import NEWEST_MISSES, sla_page, sla_summary
from pipeline_assets.rules.sla import DeliveryStatus, SlaReport
from pipeline_assets_tests.report import reports
from pipeline_assets_tests.report.reports import FIRST, LAST, miss, on_time, report_of, table_of

UI = "http://dagster.example:3000"
REPORTS: dict[str, Callable[[], SlaReport]] = {
    "month": reports.month,
    "a-year": reports.long_history,
    "all-missed": reports.all_missed,
    "all-on-time": reports.all_on_time,
    "long-names": reports.long_names,
    "nothing-due-yet": reports.nothing_due_yet,
    "no-table": reports.report_of,
}
VOID = {"meta", "link"}
HOSTILE = "<script>alert(1)</script>\"'&`|"


class Page(HTMLParser):
    """Elements of a page in the order they open; complains about those that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1:] != ["style"]:
            self.texts.append(" ".join(data.split()))

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def count(self, wanted: str) -> int:
        return Counter(tag for tag, _ in self.elements)[wanted]


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> SlaReport:
    return REPORTS[request.param]()


def page_of(report: SlaReport) -> Page:
    return Page(sla_page(report, dagster_url=UI))


def test_the_same_report_makes_the_same_bytes(report: SlaReport) -> None:
    assert sla_page(report, dagster_url=UI) == sla_page(dataclasses.replace(report), dagster_url=UI)


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(report: SlaReport) -> None:
    page = page_of(report)
    leads_to = [*page.all("href"), *page.all("src")]

    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page.all("content")  # browsers see to it
    assert page.count("script") == page.count("img") == page.count("iframe") == 0
    assert [
        each for each in leads_to if not re.match(r"(#table-\d+|data:,|http://dagster\.example:3000/runs/)", each)
    ] == []
    assert not re.search(r"@import|url\(", sla_page(report, dagster_url=UI))
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []


def test_names_of_elements_are_unique_and_what_refers_to_one_finds_it(report: SlaReport) -> None:
    page = page_of(report)
    names = page.all("id")

    assert [name for name, count in Counter(names).items() if count > 1] == []
    referred = [each for value in page.all("aria-labelledby") for each in value.split()]
    referred += [each[1:] for each in page.all("href") if each.startswith("#")]
    assert set(referred) <= set(names)


def test_pictures_and_tables_say_what_they_are(report: SlaReport) -> None:
    page = page_of(report)

    for tag, attributes in page.elements:
        if tag == "svg":
            assert "aria-labelledby" in attributes or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    assert sum(tag == "html" and attributes["lang"] == "en" for tag, attributes in page.elements) == 1


def test_every_due_day_has_a_mark_and_every_miss_a_row_with_its_run() -> None:
    report = reports.month()
    page = page_of(report)
    due = sum(len(table.deliveries) for table in report.tables)
    timed = sum(each.duration_seconds is not None for table in report.tables for each in table.deliveries)
    misses = [each for table in report.tables for each in table.misses]
    pictures = page.count("svg") - 3  # three are in the legend
    bars = len(report.tables)

    assert page.count("title") - 1 - pictures == 2 * due + timed
    assert pictures == 4 * bars
    assert len([each for each in page.all("href") if each.startswith(f"{UI}/runs/")]) == len(misses) == 4
    assert f"{UI}/runs/5a5b5c5d-0000-4000-8000-00000000000f" in page.all("href")
    assert "Failed. Run 5a5b5c5d failed at 04:12, and 2 more after it." in page.texts
    assert "4 Nov 2026, 07:14 GMT" in page.texts


def test_tables_that_did_not_keep_their_promise_come_first() -> None:
    expected = ["user_features", "events", "daily_sales", "user_segments"]
    report = reports.month()
    text = sla_page(report, dagster_url=UI)
    summary = sla_summary(report, dagster_url=UI)

    assert re.findall(r'<a href="#table-\d+">(.*?)</a>', text) == expected
    assert re.findall(r"<h2 .*?>(.*?)</h2>", text) == expected
    assert [each.replace("\\", "") for each in re.findall(r"^\| (.*?) \| !", summary, re.MULTILINE)] == expected


def test_a_miss_has_a_shape_of_its_own_and_the_legend_names_it() -> None:
    shapes = {}
    for status in (DeliveryStatus.LATE, DeliveryStatus.MISSING, DeliveryStatus.BROKEN):
        text = sla_page(report_of(table_of("t", [miss("t", LAST, status)])), dagster_url=UI)
        (shape,) = re.findall(r'aria-hidden="true"><path d="M8 8(.*?)"', text)
        shapes[status] = shape
    on_time_page = sla_page(reports.all_on_time(), dagster_url=UI)

    assert len(set(shapes.values())) == 3
    assert re.search(r'aria-hidden="true"><circle', on_time_page)
    assert "late</li>" not in on_time_page


def test_whatever_stands_in_names_and_sentences_is_text() -> None:
    each = miss(HOSTILE, LAST, detail=HOSTILE, run_id="../" + HOSTILE)
    report = report_of(table_of(HOSTILE, [each], owners=[HOSTILE]))
    page = page_of(report)

    assert page.count("script") == 0
    assert HOSTILE in page.texts
    (run,) = (href for href in page.all("href") if "/runs/" in href)
    assert run.startswith(f"{UI}/runs/..%2F%3Cscript%3E")


def test_old_misses_are_folded_away() -> None:
    page = page_of(reports.all_missed())

    assert page.count("details") == 1
    assert f"{30 - NEWEST_MISSES} earlier misses" in page.texts
    assert page.count("th") == 6 + 1 + 2 * 5 + 30
    assert page_of(reports.month()).count("details") == 0


def test_nothing_stands_where_there_is_nothing_to_compute_from() -> None:
    bare = report_of(table_of("t", [on_time("t", FIRST, seconds=None)]))
    text = sla_page(bare, dagster_url=UI)

    assert "no duration was recorded" in text
    assert "No duration was recorded." in text
    assert "no day was late" in text
    assert "None" not in text
    assert "nan" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


def test_a_table_that_is_new_says_when_it_is_due() -> None:
    page = page_of(reports.nothing_due_yet())

    assert "Nothing was due yet; the first deadline is 22 Nov 2026, 06:00 GMT." in page.texts
    assert "nothing due yet" in page.texts
    assert page.count("dl") == 1  # the footer's


def test_no_table_at_all_is_a_page_that_says_what_to_do() -> None:
    page = page_of(report_of())

    assert "No table has a deadline." in page.texts
    assert page.count("table") == page.count("section") == 0


@pytest.mark.parametrize(("misses", "bar"), [(0, 100), (1, 33), (2, 0)], ids=["untouched", "a-third-left", "overspent"])
def test_the_bar_is_what_is_left_of_the_error_budget(misses: int, bar: int) -> None:
    days = reports.month().tables[1].deliveries
    each = [miss("t", day.day) for day in days[:misses]] + [on_time("t", day.day) for day in days[misses:]]
    text = sla_page(report_of(table_of("t", each, objective=0.95)), dagster_url=UI)

    assert f"Error budget left: {bar} %" in text
    assert ('<rect width="100" height="7" rx="1" fill="#a3123a"/>' in text) == (misses == 2)


def test_the_summary_is_markdown_with_pictures_that_stand_alone() -> None:
    report = reports.month()
    text = sla_summary(report, dagster_url=UI)
    pictures = [base64.b64decode(each) for each in re.findall(r"!\[.*?\]\(data:image/svg\+xml;base64,(.*?)\)", text)]

    assert text.startswith("**3 of 4 tables kept their promise")
    assert len(pictures) == 4
    assert [len(ET.fromstring(each).findall("{http://www.w3.org/2000/svg}g")) for each in pictures] == [30] * 4  # noqa: S314 - our own
    assert len(re.findall(rf"\[5a5b5c5d\]\({re.escape(UI)}/runs/", text)) == 4
    assert "| 20 November 2026 | user\\_features | 21 Nov 2026, 06:00 GMT | 2 h 15 min | Failed. Run 5a5b5c5d" in text


def test_the_summary_takes_any_text_as_text() -> None:
    text = sla_summary(report_of(table_of(HOSTILE, [miss(HOSTILE, LAST, detail=HOSTILE)])), dagster_url=UI)

    assert "<script" not in text.replace("\\<", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {7}
