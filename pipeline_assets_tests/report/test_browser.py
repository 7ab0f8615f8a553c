"""The SLA page in a real browser, on a wide window and at the width of a phone."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline_assets.report.sla_page import sla_page
from pipeline_assets.rules.sla import DeliveryStatus, SlaReport
from pipeline_assets_tests.report import reports
from pipeline_assets_tests.support.browser import colours_of, dom_of, needs_browser, screenshot, served

PHONE, WIDE = 400, 1200
REPORTS: dict[str, Callable[[], SlaReport]] = {
    "month": reports.month,
    "a-year": reports.long_history,
    "all-missed": reports.all_missed,
    "long-names": reports.long_names,
    "nothing-due-yet": reports.nothing_due_yet,
    "no-table": reports.report_of,
}
# One page a frame, so that one start of the browser measures them all, narrower than its window can be.
MEASURE = """
<!DOCTYPE html><link rel="icon" href="data:,"><body><pre id="measured"></pre><script>
const frames = [...document.querySelectorAll('iframe')];
addEventListener('load', () => {
  const measured = frames.map(frame => {
    const page = frame.contentDocument, width = frame.clientWidth;
    const over = [...page.querySelectorAll('body *')].filter(each => {
      const box = each.getBoundingClientRect();
      return box.width && (box.right > width + 0.5 || box.left < -0.5) && !each.closest('thead');
    });
    const cut = [...page.querySelectorAll('svg text')].filter(each => {
      const box = each.getBoundingClientRect(), plot = each.closest('svg').getBoundingClientRect();
      return box.left < plot.left - 0.5 || box.right > plot.right + 0.5 || box.bottom > plot.bottom + 0.5;
    });
    return {
      name: frame.id, width, scroll_width: page.documentElement.scrollWidth, height: page.documentElement.scrollHeight,
      over: over.map(each => each.outerHTML.slice(0, 120)), cut: cut.map(each => each.textContent),
      display: page.querySelector('td') && frame.contentWindow.getComputedStyle(page.querySelector('td')).display,
      wrapped: [...page.querySelectorAll('td[data-label]:not(.why)')].filter(each => {
        const range = page.createRange();
        range.selectNodeContents(each);
        return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1;
      }).map(each => each.textContent),
      text: page.body.innerText, marks: page.querySelectorAll('.plot title, .strip title').length,
      font: Math.min(...[...page.querySelectorAll('.plot text')].map(each => each.getBoundingClientRect().height), 99),
    };
  });
  document.getElementById('measured').textContent = JSON.stringify(measured);
});
</script>
"""


def measured_in_browser(tmp_path: Path) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    pages = {f"/{name}": sla_page(make(), dagster_url="http://localhost:3000") for name, make in REPORTS.items()}
    frames = "".join(
        f'<iframe id="{name}-{width}" src="/{name}" style="width: {width}px; border: 0"></iframe>'
        for name in REPORTS
        for width in (PHONE, WIDE)
    )
    pages["/all"] = MEASURE.replace('<pre id="measured">', f'{frames}<pre id="measured">')
    with served(pages) as site:
        shown = dom_of(f"{site.url}/all", tmp_path / "profile")
    (found,) = re.findall(r'<pre id="measured">(.*?)</pre>', shown.dom, re.DOTALL)
    return {each["name"]: each for each in json.loads(html.unescape(found))}, shown.console, site.requested


@needs_browser
def test_the_page_fits_a_phone_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    measured, console, requested = measured_in_browser(tmp_path)

    assert console == []
    assert set(requested) == {"/all", *(f"/{name}" for name in REPORTS)}
    assert measured.keys() == {f"{name}-{width}" for name in REPORTS for width in (PHONE, WIDE)}
    for name, each in measured.items():
        assert each["scroll_width"] == each["width"], (name, each["over"])
        assert each["over"] == [], name
        assert each["cut"] == [], name
        assert each["font"] >= 12, name
        assert each["wrapped"] == [], name  # a long name takes no room from numbers
    text = measured[f"month-{PHONE}"]["text"]
    assert text.startswith("3 of 4 tables kept their promise from 22 October to 20 November 2026.")
    assert "1 failed, 1 running long, 1 upstream late. Times are those of Europe/London." in text
    assert (measured[f"month-{PHONE}"]["display"], measured[f"month-{WIDE}"]["display"]) == ("block", "table-cell")
    assert measured[f"a-year-{WIDE}"]["marks"] > 3 * 366
    assert "first deadline is 22 Nov 2026, 06:00 GMT" in measured[f"nothing-due-yet-{WIDE}"]["text"]


@needs_browser
def test_the_picture_of_the_page_shows_what_was_missed(tmp_path: Path) -> None:
    page, picture = tmp_path / "sla.html", tmp_path / "sla.png"
    page.write_text(sla_page(reports.month(), dagster_url="http://localhost:3000"), encoding="utf-8")

    screenshot(page.as_uri(), tmp_path / "profile", picture, width=900, height=1000)

    colours = colours_of(picture)
    area = sum(colours.values())
    assert area == 900 * 1000
    assert 0.7 < colours[b"\xff\xff\xff"] / area < 0.97
    for status, colour in {
        DeliveryStatus.ON_TIME: "2b7a8c",
        DeliveryStatus.LATE: "c2570c",
        DeliveryStatus.BROKEN: "a3123a",
    }.items():
        assert colours.get(bytes.fromhex(colour), 0) > 20, status
