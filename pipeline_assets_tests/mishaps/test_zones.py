"""Days whose zone is changed, and zones that two databases disagree on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import pytest

from pipeline_assets_tests.assets.landed import HEADER, arrive, land
from pipeline_assets_tests.mishaps.world import LANDED_DAYS, Shop, is_of_day, needed, refusal_of

pytestmark = pytest.mark.slow(5)

EVENTS = "raw_events,rejected_events,events"
LAST = LANDED_DAYS - 1


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_every_event_is_in_one_day_after_the_zone_was_changed_or_a_plan_makes_days_again(shop: Shop, zone: str) -> None:
    needed("night2" in shop.column("raw_events", "event_id")[2], "an event of the night was not kept")
    needed(misplaced(shop) == {}, "the events are not each in one day before the zone is changed")
    shop.set(PIPELINE_TIMEZONE=zone)

    outcome = shop.pipeline("run", "--select", EVENTS, "--from", shop.key(LAST), "--to", shop.key(LAST))

    if outcome.status != 2:  # else it refuses
        needed(outcome.status == 0, outcome.err)
        assert misplaced(shop) == {} or "events" in shop.planned("--select", "raw_events,events")


def misplaced(shop: Shop) -> dict[str, int]:
    """Events that are not in one day of `events`, and in how many they are. Some of the first day are before it."""
    since = datetime.combine(shop.day(0), time(12), UTC)
    found = Counter(event for events in shop.column("events", "event_id").values() for event in events)
    raw = [row for number in range(LANDED_DAYS) for row in shop.rows("raw_events", number)]
    return {
        row["event_id"]: found[row["event_id"]]
        for row in raw
        if row["event_time"] >= since and found[row["event_id"]] != 1
    }


WINTER = [date(2026, 11, 20) + timedelta(days=number) for number in range(5)]
"""A winter that older data of time zones begin at another hour than newer ones, as in Vancouver."""


def disputed_zone() -> str | None:
    """A zone of which DuckDB, which brings its own data, and the system give one of the days another midnight."""
    disputed = []
    with duckdb.connect() as connection:
        for name in sorted(available_timezones()):
            try:
                connection.execute(f"SET TimeZone = '{name}'")
            except duckdb.Error:  # it does not know the zone
                continue
            texts = [f"{day} 00:00:00" for day in WINTER]
            found: list[tuple[Any]] = connection.execute(
                "SELECT epoch(CAST(midnight AS TIMESTAMPTZ)) FROM (SELECT unnest(?) AS midnight)", [texts]
            ).fetchall()
            expected = [datetime.combine(day, time(), ZoneInfo(name)).timestamp() for day in WINTER]
            if [seconds for (seconds,) in found] != expected:
                disputed.append(name)
    return "America/Vancouver" if "America/Vancouver" in disputed else next(iter(disputed), None)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_an_event_is_of_the_day_that_its_text_says_or_its_zone_is_refused(tmp_path: Path) -> None:
    zone = disputed_zone()
    if zone is None:
        pytest.skip("DuckDB and the system agree on all zones here")
    if refusal := refusal_of(PIPELINE_TIMEZONE=zone):
        assert zone in refusal
        return
    elsewhere = []
    for day in WINTER:
        rows = [f"{day} {clock},c1,view,1,{day} {clock}\n" for clock in ("00:30:00", "23:30:00")]
        land(tmp_path, "a.csv", HEADER + "".join(rows), day)
        kept = arrive(tmp_path, day, timezone=zone).kept.to_pylist()
        needed([row["event_id"] for row in kept] == [f"{day} 00:30:00", f"{day} 23:30:00"], "a row was not kept")
        elsewhere += [row["event_id"] for row in kept if not is_of_day(row["event_time"], day, zone)]

    assert elsewhere == [], zone
