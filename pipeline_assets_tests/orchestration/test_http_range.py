"""The reference pipeline over a range of days that land on an HTTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets import ParquetIOManager
from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.source.select import load_source
from pipeline_assets.orchestration.process import execute, failures_of, plan_range, selected_keys
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.store.http.client import HttpClient
from pipeline_assets.store.http.day_url import DayUrl
from pipeline_assets.store.http.landing import HttpLanding
from pipeline_assets.store.landing import Landing, LandingZone
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration.lake import sha256, tables_of
from pipeline_assets_tests.support.commits import days_of
from pipeline_assets_tests.support.misbehaving_server import Answer, MisbehavingServer, misbehaving_server

PROJECT = Path(__file__).resolve().parents[2]
FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(60)]
MISSING = DAYS[41]


def lines(day: date) -> bytes:
    event = {"event_id": f"e{day}", "user_id": "u", "event_type": "purchase", "amount": "1.50"}
    rows = [{**event, "event_time": f"{day}T10:00:00Z"}, {"event_id": None}]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as running_server:
        for day in DAYS:
            if day != MISSING:
                running_server.script(f"/{day}.jsonl", Answer(body=lines(day), etag=f'"{day}"'))
        yield running_server


def at(server: MisbehavingServer, cache: Path) -> HttpLanding:
    return HttpLanding(HttpClient(DayUrl(f"{server.url}/{{day}}.jsonl"), retry_after_seconds), cache=cache)


def computed(landing: Landing, lake: Path, days: list[date]) -> list[str]:
    """What failed."""
    defs = dg.Definitions(
        reference_pipeline(
            days=dg.DailyPartitionsDefinition(FIRST.isoformat()),
            landing=landing,
            source=load_source(PROJECT / "sources" / "demo.sql"),
            lateness_days=3,
        ),
        resources={"io_manager": ParquetIOManager(root=str(lake))},
        executor=dg.in_process_executor,
    )
    failures: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        for planned in plan_range(defs, selected_keys(defs, "raw_events"), days, LocalStore(lake)):
            failures += failures_of(execute(defs, planned, instance))
    return failures


@pytest.mark.slow(5)
def test_one_missing_day_of_sixty_fails_by_name_and_the_others_are_committed(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    (failure,) = computed(at(server, tmp_path / "cache"), lake, DAYS)
    assert f"{MISSING}.jsonl answered 404" in failure
    assert [each for each in DAYS if f"{each}.jsonl" in failure] == [MISSING]
    assert days_of(LocalStore(lake), "raw_events") == [day for day in DAYS if day != MISSING]
    assert len(server.seen()) == len(DAYS)  # a missing day is not asked for again

    server.script(f"/{MISSING}.jsonl", Answer(body=b"", etag='"none"'))
    assert computed(at(server, tmp_path / "cache"), lake, DAYS[40:43]) == []
    assert days_of(LocalStore(lake), "raw_events") == DAYS
    again = [seen.headers["If-None-Match"] for seen in server.seen()[len(DAYS) :]]
    assert again == [f'"{DAYS[40]}"', None, f'"{DAYS[42]}"']


def test_bytes_depend_neither_on_the_server_nor_on_where_its_copies_are(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    days = DAYS[:3]
    folder = tmp_path / "landing"
    for day in days:
        path = folder / f"dt={day}" / f"{day}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(lines(day))
    zones: list[Landing] = [LandingZone(folder), at(server, tmp_path / "here"), at(server, tmp_path / "there")]
    lakes = []
    for number, zone in enumerate(zones):
        assert computed(zone, tmp_path / f"lake{number}", days) == []
        lakes.append(tables_of(sha256(tmp_path / f"lake{number}")))
    assert lakes[0] == lakes[1] == lakes[2]
    assert len(lakes[0]) == 2 * len(days)
