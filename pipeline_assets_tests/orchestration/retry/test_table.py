"""The retry table, row by row: `raw_events` of the reference pipeline from a server that misbehaves.

Requests are counted at the server, attempts and waits in the run.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.source.select import load_source
from pipeline_assets.orchestration.history.failures import RecordedFailure, recorded_failures
from pipeline_assets.orchestration.history.tags import ATTEMPTS_TAG
from pipeline_assets.rules.alerts import Severity
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.store.http.client import HttpClient
from pipeline_assets.store.http.day_url import DayUrl
from pipeline_assets.store.http.landing import HttpLanding
from pipeline_assets.store.landing import LandingFile
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration.lake import DAYS, QUIET, ROW, Impatient, day, key
from pipeline_assets_tests.orchestration.partition.test_outcome import files_of_at_most
from pipeline_assets_tests.support.commits import days_of
from pipeline_assets_tests.support.misbehaving_server import Answer, MisbehavingServer, busy, misbehaving_server

PROJECT = Path(__file__).resolve().parents[3]
SILENCE_SECONDS = 0.3
EVENTS = 200
PATH = f"/shop/{key(0)}.jsonl.gz"


def landed(number: int = 0) -> bytes:
    """A day's file."""
    event = {"user_id": "u", "event_type": "purchase", "amount": "1.50", "event_time": f"{key(number)}T10:00:00Z"}
    lines = [json.dumps({"event_id": f"{number}-{each}", **event}) for each in range(EVENTS)]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def parquet(**columns: list[Any]) -> bytes:
    """A file whose content is Parquet, whatever it is named."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


GOOD = Answer(body=landed(), etag='"good"')
NETWORK = [0.02, 0.04, 0.08, 0.16, 0.32]


@dataclass
class Shop:
    """The reference pipeline between the server and a lake, and what became of its runs."""

    server: MisbehavingServer
    root: Path
    instance: dg.DagsterInstance

    @property
    def landing(self) -> HttpLanding:
        """Mends nothing by itself, so that every trouble reaches the verdicts."""
        url = DayUrl(f"{self.server.url}/shop/{{day}}.jsonl.gz")
        client = HttpClient(url, retry_after_seconds, read_seconds=SILENCE_SECONDS)
        return HttpLanding(client, cache=self.root / "cache", resumes=0)

    @property
    def days(self) -> list[date]:
        """That have a commit."""
        return days_of(LocalStore(self.root / "lake"), "raw_events")

    def run(self, first: int = 0, last: int = 0, *, attempts: int = 0, asset: dg.AssetsDefinition | None = None) -> str:
        """Compute `raw_events`, or another asset, after some attempts elsewhere; the run's id."""
        pipeline = reference_pipeline(
            days=DAYS, landing=self.landing, source=load_source(PROJECT / "sources" / "demo.sql"), lateness_days=3
        )
        days = {"dagster/asset_partition_range_start": key(first), "dagster/asset_partition_range_end": key(last)}
        raw_events = next(each for each in pipeline if isinstance(each, dg.AssetsDefinition))
        return dg.materialize(
            [asset or raw_events],
            instance=self.instance,
            resources={"io_manager": Impatient(root=str(self.root / "lake"))},
            tags={**days, **({ATTEMPTS_TAG: str(attempts)} if attempts else {})},
            run_config=QUIET,
            raise_on_error=False,
        ).run_id

    def waits(self, run_id: str) -> list[float]:
        logged = self.instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_UP_FOR_RETRY})
        return [round(each.get_dagster_event().step_retry_data.seconds_to_wait or 0, 3) for each in logged]

    def noted(self, run_id: str) -> RecordedFailure:
        """The only one."""
        (found,) = recorded_failures(self.instance, run_id)
        return found

    def gaps(self) -> list[float]:
        """Seconds between the requests that the server saw."""
        times = [each.monotonic_seconds for each in self.server.seen(PATH)]
        return [later - earlier for earlier, later in pairwise(times)]

    def succeeded(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.is_success


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with misbehaving_server() as server, dg.DagsterInstance.ephemeral() as instance:
        yield Shop(server, tmp_path, instance)


CUT = Answer(body=landed(), etag='"good"', ends_after=100, ending="reset")
TRANSIENT: dict[str, tuple[Sequence[Answer], list[float]]] = {
    "503": ((busy(503), busy(503)), NETWORK[:2]),
    "500": ((busy(500),), NETWORK[:1]),
    "429 with Retry-After: 0": ((busy(429, 0),), [0.05]),
    "reset in the middle of the body": ((CUT,), NETWORK[:1]),
    "reset before the answer": ((Answer(drops=True),) * 3, NETWORK[:3]),
    "closed in the middle of the body": ((Answer(body=landed(), ends_after=100),), NETWORK[:1]),
    "a connection that hangs": ((Answer(hangs=True),), NETWORK[:1]),
    "a body that hangs": ((Answer(body=landed(), ends_after=100, ending="hang"),), NETWORK[:1]),
}


@pytest.mark.parametrize("row", TRANSIENT)
def test_what_may_pass_is_tried_again_until_it_does(shop: Shop, row: str) -> None:
    answers, waits = TRANSIENT[row]
    shop.server.script(PATH, *answers, GOOD)
    run_id = shop.run()
    assert shop.succeeded(run_id)
    assert shop.waits(run_id) == waits
    assert len(shop.server.seen(PATH)) == len(answers) + 1
    assert all(gap >= wait for gap, wait in zip(shop.gaps(), waits, strict=True))
    assert shop.days == [day(0)]
    (record,) = shop.instance.fetch_materializations(dg.AssetKey("raw_events"), limit=9).records
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["dagster/row_count"].value == EVENTS


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_a_short_wait_is_asked_again_after_it(shop: Shop, status: int, as_date: bool) -> None:  # noqa: FBT001 - pytest's
    shop.server.script(PATH, busy(status, 1, as_date=as_date), GOOD)
    run_id = shop.run()
    assert shop.succeeded(run_id)
    (wait,), (gap,) = shop.waits(run_id), shop.gaps()
    assert wait == 1.05 or (as_date and wait in {0.05, 1.05, 2.05})  # dates are whole seconds
    assert gap >= wait


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_server_that_asks_for_a_long_wait_is_asked_once_and_again_by_another_run(shop: Shop, as_date: bool) -> None:  # noqa: FBT001 - pytest's
    shop.server.script(PATH, busy(429, 600, as_date=as_date), busy(429, 600), GOOD)
    for attempts in (1, 2):
        began = datetime.now(UTC)
        run_id = shop.run(0, 2, attempts=attempts - 1)
        noted = shop.noted(run_id)
        assert (noted.verdict, noted.kind) == ("server asked to wait", "landing_unavailable")
        assert (noted.attempts, noted.max_attempts, noted.may_retry) == (attempts, 6, True)
        assert noted.not_before is not None
        assert timedelta(seconds=598) <= noted.not_before - began <= timedelta(seconds=660)
        assert shop.waits(run_id) == []
        assert len(shop.server.seen()) == attempts  # nor were the other days asked for
    assert shop.succeeded(shop.run(attempts=2))
    assert len(shop.server.seen()) == 3


def test_all_layers_together_stay_within_the_verdict(shop: Shop) -> None:
    shop.server.script(PATH, busy(503, 600), busy(503), busy(503), busy(503, 600), busy(503))
    requests, attempts = list[int](), 0
    while True:  # as a sensor does: again, as long as the verdict allows it
        run_id = shop.run(attempts=attempts)
        requests.append(len(shop.server.seen(PATH)))
        noted = shop.noted(run_id)
        if not noted.may_retry:
            break
        attempts = noted.attempts
    assert requests == [1, 4, 6]
    assert noted.attempts == noted.max_attempts == 6


def test_a_server_that_is_down_is_given_up_after_six_attempts(shop: Shop) -> None:
    shop.server.script(PATH, busy(503))
    run_id = shop.run()
    assert shop.waits(run_id) == NETWORK
    assert len(shop.server.seen(PATH)) == 6
    noted = shop.noted(run_id)
    assert (noted.verdict, noted.attempts, noted.may_retry) == ("transient network", 6, False)


TRUNCATED = Answer(body=landed()[:-9])
STRANGE = Answer(body=parquet(strange=[1]))
PERMANENT: dict[str, tuple[Answer, str, str]] = {
    "401": (Answer(status=401), "access denied", "access_denied"),
    "403": (Answer(status=403), "access denied", "access_denied"),
    "404": (Answer(status=404), "unusable input", "landing_missing"),
    "410": (Answer(status=410), "unusable input", "landing_missing"),
    "truncated gzip": (TRUNCATED, "unusable input", "landing"),
    "wrong schema": (STRANGE, "unusable input", "landing"),
}


@pytest.mark.parametrize("row", PERMANENT)
def test_what_stays_as_it_is_is_asked_for_once(shop: Shop, row: str) -> None:
    answer, verdict, kind = PERMANENT[row]
    shop.server.script(PATH, answer)
    run_id = shop.run()
    assert len(shop.server.seen(PATH)) == 1
    assert shop.waits(run_id) == []
    noted = shop.noted(run_id)
    assert (noted.verdict, noted.kind, noted.may_retry) == (verdict, kind, False)
    assert (noted.attempts, noted.max_attempts, noted.severity) == (1, 1, Severity.ALERT)
    assert noted.tables == ("raw_events", "rejected_events")
    assert shop.days == []


def test_a_full_disk_is_met_once_and_pages(shop: Shop) -> None:
    for number in range(3):
        shop.server.script(f"/shop/{key(number)}.jsonl.gz", Answer(body=landed(number), etag=f'"{number}"'))
    with files_of_at_most(1500):  # the download fits, its events do not
        run_id = shop.run(0, 2)
    noted = shop.noted(run_id)
    assert (noted.verdict, noted.kind, noted.severity) == ("no space left", "storage_full", Severity.PAGE)
    assert (noted.attempts, noted.may_retry) == (1, False)
    assert (noted.failed_days, noted.days_not_attempted) == ((day(0),), (day(1), day(2)))
    assert len(shop.server.seen()) == 1


def test_a_bug_in_user_code_runs_once_a_day(shop: Shop) -> None:
    calls = []

    @daily_asset(
        partitions_def=DAYS,
        contract=ROW,
        params={"landing": shop.landing},
        code_version="1",
        retry_policy=dg.RetryPolicy(max_retries=3),
    )
    def mine(day: date, landing: Any) -> pa.Table:
        calls.append(day)
        files: list[LandingFile] = landing.files(day)
        return pa.table({"n": [1 // (len(files) - 1)]})

    for number in range(2):
        shop.server.script(f"/shop/{key(number)}.jsonl.gz", GOOD)
    noted = shop.noted(shop.run(0, 1, asset=mine))
    assert calls == [day(0), day(1)]
    assert len(shop.server.seen()) == 2
    assert (noted.verdict, noted.kind, noted.may_retry) == ("not named", "bug", False)


def test_one_bad_day_beside_a_flaky_one_is_not_asked_for_again(shop: Shop) -> None:
    good, flaky, bad = (f"/shop/{key(number)}.jsonl.gz" for number in range(3))
    shop.server.script(good, GOOD)
    shop.server.script(flaky, busy(503), busy(503), Answer(body=landed(1)))
    shop.server.script(bad, TRUNCATED)
    run_id = shop.run(0, 2)
    assert [len(shop.server.seen(path)) for path in (good, flaky, bad)] == [1, 3, 1]
    noted = shop.noted(run_id)
    assert (noted.kind, noted.failed_days) == ("landing", (day(2),))
    assert shop.days == [day(0), day(1)]
