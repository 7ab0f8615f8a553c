"""Backfills by clicking in the Dagster UI, in a real browser: what was clicked is what is in the lake, and no more.

The pictures of the documentation are taken on the way. To renew them:

    UI_PICTURES=docs .venv/bin/pytest -n0 pipeline_assets_tests/orchestration/test_ui_browser.py
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from pipeline_assets.demo import landing_files
from pipeline_assets_tests.orchestration import shop
from pipeline_assets_tests.orchestration.backfills import TABLES, ZONE, ended, last_days, made, runs_of
from pipeline_assets_tests.orchestration.lake import sha256, tables_of
from pipeline_assets_tests.orchestration.servers import Server, dagster_running
from pipeline_assets_tests.orchestration.test_by_itself import READS
from pipeline_assets_tests.support.browser import clicked_through, needs_browser

pytestmark = pytest.mark.slow(90)

HISTORY = last_days(4)
DAYS = [day.isoformat() for day in HISTORY]
SUCCEEDED = {"status": "COMPLETED_SUCCESS", "error": None}
FAILED = {"status": "COMPLETED_FAILED", "error": None}
SEED, WEB = 1, "demo-web.jsonl.gz"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The lake as one run in this process leaves it."""
    landing, lake = (tmp_path_factory.mktemp(name) for name in ("landing", "expected"))
    shop.land(landing, seed=SEED, days=HISTORY)
    shop.run_days(shop.definitions(landing, lake, first=HISTORY[0], timezone=ZONE), lake, HISTORY)
    return tables_of(sha256(lake))


@dataclass
class Ui:
    """The UI in a browser, the server that it belongs to, and the two ends of the pipeline."""

    page: Page
    server: Server
    landing: Path
    lake: Path
    pictures: Path

    def open(self, path: str) -> None:
        self.page.goto(f"{self.server.url}/{path}")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self.pictures / f"backfill_{name}.png", animations="disabled", caret="hide")

    def materialize_asset(self, table: str) -> None:
        """Up to the dialog that asks for partitions, from the asset's page."""
        self.open(f"assets/{table}?view=partitions")
        self.button("Materialize…").click()

    def materialize_all_tables(self) -> None:
        """The same for every table of the pipeline, from the lineage."""
        self.open("asset-groups")
        self.page.locator("svg foreignObject").get_by_text("reference_pipeline").dblclick()
        self.page.locator("svg foreignObject").get_by_text("raw_events", exact=True).click()
        self.button("user_segments").click(modifiers=["Shift"])  # and what lies between
        expect(self.button("Materialize selected (4)…")).to_be_visible()
        self.button("daily_sales").click(modifiers=["Shift"])
        self.button("Materialize selected (5)…").click()

    def confirm(self, warning: str) -> None:
        """A question that Dagster asks first."""
        asked = self.page.get_by_role("dialog").filter(has_text=warning)
        asked.get_by_role("button", name="Confirm").click()
        expect(asked).to_have_count(0)

    def launch(self, days: Sequence[str], *, tables: int, picture: str | None = None) -> str:
        """Type a range in and press the button; the backfill's id."""
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_have_count(1)
        expect(dialog).to_contain_text(f"materialize {tables} assets" if tables > 1 else "materialize events")
        expect(dialog).to_contain_text(f"Showing {len(DAYS)} of {len(DAYS)} partitions")
        typed = dialog.get_by_role("textbox")
        typed.fill(f"[{days[0]}...{days[-1]}]")
        typed.blur()
        expect(dialog).to_contain_text(f"Partition selection {len(days)} partitions", use_inner_text=True)
        if picture:
            self.picture(picture)
        dialog.get_by_role("button", name=re.compile("^Launch")).click()
        return self.launched()

    def launched(self) -> str:
        """Follow the link of what was just launched; the backfill's id."""
        said = self.page.get_by_text(re.compile(r"^Created backfill \w+$"))
        backfill_id = said.inner_text().split()[-1]
        self.page.get_by_role("link", name="View", exact=True).click()
        expect(self.page).to_have_url(re.compile(rf"/runs/b/{backfill_id}$"))
        return backfill_id

    def shows(self, status: str, **rows: tuple[int, int, int, int]) -> None:
        """The backfill's page: by table, how many partitions are targeted, in progress, succeeded, failed."""
        body = self.page.locator("body")
        expect(body).to_contain_text(f"Status {status}", use_inner_text=True)
        for table, counts in rows.items():
            text = f"{table} 100% completed {' '.join(map(str, counts))}"
            expect(body).to_contain_text(text, use_inner_text=True)

    def menu(self) -> Locator:
        """What can be done with the backfill whose page is open."""
        self.button("expand_more").click()
        item = self.page.get_by_role("menuitem", name="Re-execute from failure")
        expect(item).to_be_visible()
        return item

    def breaks(self, day: date) -> None:
        """A landing file was cut off on its way."""
        path = self._web(day)
        path.write_bytes(path.read_bytes()[:-100])

    def mends(self, day: date) -> None:
        self._web(day).write_bytes(landing_files(day, seed=SEED)[WEB])

    def _web(self, day: date) -> Path:
        return self.landing / f"dt={day}" / WEB


@contextmanager
def ui(folder: Path, *, days_per_run: int | None) -> Iterator[Ui]:
    landing, lake, home = (folder / name for name in ("landing", "lake", "home"))
    home.mkdir()
    shop.land(landing, seed=SEED, days=HISTORY)
    settings = {
        "PIPELINE_LANDING": str(landing),
        "PIPELINE_STORE": str(lake),
        "PIPELINE_START": DAYS[0],
        "PIPELINE_TIMEZONE": ZONE,
        "PIPELINE_SENSORS": "stopped",  # they would compute what is to be backfilled
        **({"PIPELINE_DAYS_PER_RUN": str(days_per_run)} if days_per_run else {}),
    }
    pictures = Path(os.environ.get("UI_PICTURES", folder))
    with dagster_running(home, settings) as server, clicked_through(folder, width=1280, height=720) as page:
        yield Ui(page, server, landing, lake, pictures)


def part(files: Mapping[str, str], tables: Sequence[str], days: Sequence[str]) -> dict[str, str]:
    """Those files of the lake."""
    wanted = {f"{table}/dt={day}/data.parquet" for table in tables for day in days}
    return {name: digest for name, digest in files.items() if name in wanted}


def of_days(tables: Sequence[str], days: Sequence[str]) -> Counter[tuple[str, str]]:
    """Each once."""
    return Counter((table, day) for table in tables for day in days)


def waits_ms(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How long after each partition that it is made from a partition was materialized, as the event log has it."""
    at = {
        (event["assetKey"]["path"][0], date.fromisoformat(event["partition"])): int(event["timestamp"])
        for run in found
        for event in run["assetMaterializations"]
    }
    return {
        f"{table} {day} after {other} {upstream_day}": made_at - upstream_made_at
        for (table, day), made_at in at.items()
        for (other, upstream_day), upstream_made_at in at.items()
        if READS[table][0] == other and READS[table][1] <= (upstream_day - day).days <= READS[table][2]
    }


@needs_browser
@pytest.mark.parametrize("days_per_run", [1, None], ids=["a run per day", "a single run"])
def test_a_range_launched_from_an_asset_page_leaves_what_one_run_leaves(
    days_per_run: int | None, expected: dict[str, str], tmp_path: Path
) -> None:
    raw_days, days = DAYS[1:], DAYS[2:]
    with ui(tmp_path, days_per_run=days_per_run) as asset_page:
        asset_page.materialize_asset("raw_events")
        asset_page.confirm("Additional assets will be materialized")
        raw = asset_page.launch(raw_days, tables=2)
        assert ended(asset_page.server, raw) == SUCCEEDED
        asset_page.shows("Succeeded", raw_events=(3, 0, 3, 0), rejected_events=(3, 0, 3, 0))

        asset_page.materialize_asset("events")
        events = asset_page.launch(days, tables=1, picture=None if days_per_run else "launch")
        assert ended(asset_page.server, events) == SUCCEEDED
        asset_page.shows("Succeeded", events=(2, 0, 2, 0))

        raw_runs, runs = runs_of(asset_page.server, raw), runs_of(asset_page.server, events)
    assert made(raw_runs) == of_days(["raw_events", "rejected_events"], raw_days)
    assert made(runs) == of_days(["events"], days)
    assert [len(raw_runs), len(runs)] == ([len(raw_days), len(days)] if days_per_run else [1, 1])
    # Events of a day read the arrivals from the day before on: the two days have all of theirs.
    assert tables_of(sha256(tmp_path / "lake")) == {
        **part(expected, ["raw_events", "rejected_events"], raw_days),
        **part(expected, ["events"], days),
    }


@needs_browser
def test_the_failed_day_of_a_range_in_one_run_is_executed_again_alone(expected: dict[str, str], tmp_path: Path) -> None:
    broken, whole = DAYS[2], [DAYS[0], DAYS[1], DAYS[3]]
    with ui(tmp_path, days_per_run=None) as asset_page:
        asset_page.breaks(HISTORY[2])
        asset_page.materialize_asset("raw_events")
        asset_page.confirm("Additional assets will be materialized")
        first = asset_page.launch(DAYS, tables=2)
        assert ended(asset_page.server, first) == FAILED
        asset_page.shows("Failed", raw_events=(4, 0, 3, 1), rejected_events=(4, 0, 3, 1))
        (run,) = runs_of(asset_page.server, first)
        assert run["status"] == "FAILURE"
        assert made([run]) == of_days(["raw_events", "rejected_events"], whole)

        asset_page.mends(HISTORY[2])
        asset_page.open(f"runs/b/{first}")
        asset_page.menu().click()
        again = asset_page.launched()
        assert ended(asset_page.server, again) == SUCCEEDED
        asset_page.shows("Succeeded", raw_events=(1, 0, 1, 0), rejected_events=(1, 0, 1, 0))
        assert made(runs_of(asset_page.server, again)) == of_days(["raw_events", "rejected_events"], [broken])
    assert tables_of(sha256(tmp_path / "lake")) == part(expected, ["raw_events", "rejected_events"], DAYS)


@needs_browser
def test_downstream_in_one_go_keeps_the_order_and_from_failure_only_what_failed_or_waited_is_computed(
    expected: dict[str, str], tmp_path: Path
) -> None:
    with ui(tmp_path, days_per_run=1) as lineage:
        lineage.breaks(HISTORY[0])
        lineage.materialize_all_tables()
        lineage.confirm("Additional assets will be materialized")
        first = lineage.launch(DAYS, tables=6)
        assert ended(lineage.server, first) == FAILED
        lineage.shows("Failed", raw_events=(4, 0, 3, 1), events=(4, 0, 2, 2), user_segments=(4, 0, 0, 4))
        before = runs_of(lineage.server, first)
        assert [run["status"] for run in before].count("FAILURE") == 1
        # An arrival day is read by the events of its own day, of the day after and of the three days before.
        assert made(before) == of_days(["raw_events", "rejected_events"], DAYS[1:]) + of_days(
            ["events", "daily_sales"], DAYS[2:]
        )
        assert min(waits_ms(before).values()) > 0

        lineage.mends(HISTORY[0])
        lineage.open(f"runs/b/{first}")
        lineage.shows("Failed")
        from_failure = lineage.menu()
        lineage.picture("failed")
        from_failure.click()
        again = lineage.launched()
        assert ended(lineage.server, again) == SUCCEEDED
        lineage.shows("Succeeded", raw_events=(1, 0, 1, 0), events=(2, 0, 2, 0), user_segments=(4, 0, 4, 0))
        lineage.open(f"runs/b/{again}")
        lineage.shows("Succeeded")
        lineage.picture("done")
        after = runs_of(lineage.server, again)
        assert made(before) + made(after) == of_days(TABLES, DAYS)
        assert min(waits_ms(after).values()) > 0
    assert tables_of(sha256(tmp_path / "lake")) == expected
