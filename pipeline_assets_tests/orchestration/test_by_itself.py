"""The pipeline with nobody in attendance: files come and go, the daemon dies, and what must be computed is, once."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from pipeline_assets.demo import landing_files
from pipeline_assets.orchestration.history.runs import IN_FLIGHT
from pipeline_assets.orchestration.history.tags import RANGE_END, RANGE_START
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets_tests.orchestration import shop
from pipeline_assets_tests.orchestration.lake import sha256, tables_of
from pipeline_assets_tests.orchestration.servers import dagster_running, wait_until
from pipeline_assets_tests.orchestration.watch import Watch

pytestmark = pytest.mark.slow(120)

NOW = datetime.now(UTC)
ZONE = f"Etc/GMT{NOW.hour - 12:+d}"
"""Where it is noon: no day ends while this test runs."""
YESTERDAY = NOW.astimezone(ZoneInfo(ZONE)).date() - timedelta(days=1)
EMPTY = 7
"""Number of the day on which the demo shop lands nothing, which it does every 28 days."""
FIRST = YESTERDAY - timedelta(days=9 + (YESTERDAY.toordinal() - 9 + EMPTY - 14) % 28)
DAYS = [FIRST + timedelta(days=number) for number in range(10)]
READS = {
    "raw_events": ("landing", 0, 0),
    "rejected_events": ("landing", 0, 0),
    "events": ("raw_events", -1, shop.LATENESS_DAYS),
    "daily_sales": ("events", 0, 0),
    "user_features": ("events", -27, 0),
    "user_segments": ("user_features", 0, 0),
}
"""What a day of each table is made from: a table, and the first and the last day around it."""
WEB = "demo-web.jsonl.gz"
COMPUTED = {0: 1, 1: 1, 2: 1, 3: 1, 4: 3, 5: 2, 6: 1, 7: 1, 8: 1, 9: 1}
"""How often the files of each day change, arrivals included: a late file comes and goes, and one is delivered anew."""


@dataclass
class Shop:
    """What arrives at the landing zone. Days are told by their numbers."""

    landing: Path

    def lands(self, *numbers: int) -> None:
        for number in numbers:
            for name, data in landing_files(DAYS[number], seed=1).items():
                self.puts(number, name, data)

    def puts(self, number: int, name: str, data: bytes) -> None:
        """A file arrives whole; one of that name is replaced."""
        path = self.path(number, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{name}")
        hidden.write_bytes(data)
        hidden.replace(path)

    def delivers_again(self, number: int) -> None:
        """The same bytes under the same names, other files."""
        for path in sorted(self.path(number, "").iterdir()):
            self.puts(number, path.name, path.read_bytes())

    def path(self, number: int, name: str) -> Path:
        return self.landing / f"dt={DAYS[number]}" / name


def test_files_come_and_go_and_the_daemon_dies_and_every_day_is_computed_as_often_as_its_inputs_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing, lake, home = (tmp_path / name for name in ("landing", "lake", "home"))
    home.mkdir()
    demo = Shop(landing)
    demo.lands(0, 1, 2, 3, 4, 5)
    assert landing_files(DAYS[EMPTY], seed=1) == {}
    settings = {
        "PIPELINE_LANDING": str(landing),
        "PIPELINE_STORE": str(lake),
        "PIPELINE_START": str(FIRST),
        "PIPELINE_TIMEZONE": ZONE,
    }
    monkeypatch.chdir(home)  # where the instance's relative paths start
    with dagster_running(home, settings) as server, open_instance(home) as instance:
        watch = Watch(instance, server, DAYS)
        wait_until(lambda: watch.runs(*IN_FLIGHT), what="the first run")
        arrives_slowly(demo, watch, 6)
        demo.lands(8)

        wait_until(lambda: 5 in watch.counts("raw_events"), what="the days that were there")
        wait_until(lambda: was_killed_in_the_middle_of_day(8, watch), what="a run of day 8")
        demo.lands(9)
        demo.puts(4, "late.csv", late_events(of=2))
        demo.puts(5, WEB, landing_files(DAYS[5], seed=1)[WEB] + one_more_event(of=5))
        demo.delivers_again(2)
        wait_until(lambda: not watch.runs(dg.DagsterRunStatus.STARTED), what="what was running when the daemon died")
        server.daemon.start()
        watch.wait_until_quiet()

        before = {table: (watch.counts(table), watch.digests(table)) for table in ("landing", *READS)}
        demo.path(4, "late.csv").unlink()
        demo.delivers_again(1)
        server.post("report_asset_materialization/landing", {"partition": str(DAYS[0])})
        watch.wait_until_quiet()

        assert computed_since(before, watch) == followed(before, watch)
        assert watch.counts("landing") == watch.counts("raw_events") == watch.counts("rejected_events") == COMPUTED
        assert {table: watch.counts(table)[0] for table in READS} == dict.fromkeys(READS, 1)
        for table in READS:
            assert_made_once_from_what_is_there(table, watch)
        runs = [run for run in watch.runs() if READS.keys() & {key.path[-1] for key in run.asset_selection or ()}]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert {run.tags.get("dagster/sensor_name") for run in runs} == {"upstream_sensor"}
        assert asked_for(runs) == {(table, day): n for table in READS for day, n in watch.counts(table).items()}

    expected = tmp_path / "expected"
    shop.run_days(shop.definitions(landing, expected, first=FIRST, timezone=ZONE), expected, DAYS)
    assert tables_of(sha256(lake)) == tables_of(sha256(expected))


def arrives_slowly(demo: Shop, watch: Watch, number: int) -> None:
    """One of the day's files is written in two pieces, and nobody takes what is there in between."""
    slow, *others = landing_files(DAYS[number], seed=1).items()
    name, data = slow
    demo.path(number, "").mkdir()
    with demo.path(number, name).open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        for each in others:
            demo.puts(number, *each)
        wait_until(watch.looked(3), what="three looks at a file that is being written")
        assert number not in watch.records("landing")
        file.write(data[len(data) // 2 :])


def was_killed_in_the_middle_of_day(number: int, watch: Watch) -> bool:
    """Kill the daemon if a run is going that the day is part of, and all that it launched have a process.

    Dagster would miss one that has none after minutes, by a timeout.
    """
    if not any(day == number for _, day in asked_for(watch.runs(dg.DagsterRunStatus.STARTED))):
        return False
    daemon = watch.server.daemon
    with daemon.frozen(), closing(sqlite3.connect(daemon.home / ".data/dagster/history/runs.db")) as runs:
        launched = runs.execute("SELECT run_id FROM runs WHERE status = 'STARTING'").fetchall()
        if not all(watch.has_process(run_id) for (run_id,) in launched):
            return False
        daemon.kill()
    return True


def computed_since(before: Mapping[str, Any], watch: Watch) -> dict[str, set[int]]:
    """Days of each table that have more records than they had."""
    return {
        table: {number for number, count in watch.counts(table).items() if count != before[table][0].get(number)}
        for table in READS
    }


def followed(before: Mapping[str, Any], watch: Watch) -> dict[str, set[int]]:
    """Days of each table that read a day that has another digest than it had."""
    changed = {
        table: {number for number, digest in watch.digests(table).items() if digest != before[table][1].get(number)}
        for table in before
    }
    assert changed["landing"] == {4}
    assert changed["daily_sales"] < set(range(len(DAYS)))
    return {
        table: {
            number
            for number in range(len(DAYS))
            if changed[upstream].intersection(range(number + first, number + last + 1))
        }
        for table, (upstream, first, last) in READS.items()
    }


def assert_made_once_from_what_is_there(table: str, watch: Watch) -> None:
    """No two records of a day, one after the other, name the same inputs; the last names what is upstream."""
    upstream, first, last = READS[table]
    there = watch.digests(upstream)
    for number, records in watch.records(table).items():
        for before, after in pairwise(records):
            assert before["inputs"] != after["inputs"], f"{table} {DAYS[number]}"
        window = [each for each in range(number + first, number + last + 1) if each in there]
        assert records[-1]["inputs"] == {upstream: {str(DAYS[each]): there[each] for each in window}}


def asked_for(runs: Sequence[dg.DagsterRun]) -> Counter[tuple[str, int]]:
    """How often each day of each table was to be made by the runs."""
    found: Counter[tuple[str, int]] = Counter()
    for run in runs:
        day = run.tags.get("dagster/partition")
        first, last = (DAYS.index(date.fromisoformat(day or run.tags[tag])) for tag in (RANGE_START, RANGE_END))
        for key in run.asset_selection or ():
            found.update((key.to_user_string(), number) for number in range(first, last + 1))
    return found


def late_events(*, of: int) -> bytes:
    """A landing file."""
    return f"event_id,user_id,event_type,amount,event_time\nlate,u00001,purchase,9.99,{DAYS[of]}T12:00:00Z\n".encode()


def one_more_event(*, of: int) -> bytes:
    """To be appended to the web file."""
    event = {
        "event_id": "more",
        "user_id": "u00001",
        "event_type": "add_to_cart",
        "amount": 9.99,
        "event_time": f"{DAYS[of]}T12:00:00Z",
    }
    return gzip.compress(f"{json.dumps(event)}\n".encode(), mtime=0)
