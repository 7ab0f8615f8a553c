"""The function against a real `dagster-webserver`, directly and through a proxy that misbehaves."""

from __future__ import annotations

import json
import logging
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
from landing_trigger.events import change_in
from landing_trigger.handler import ATTEMPTS, REQUEST_SECONDS, NotReported, Trigger, configured, deliver, handle
from landing_trigger.webserver import Refused, Webserver

from pipeline_assets.orchestration.changes.landing_sensor import landing_sensor
from pipeline_assets.store.landing import LandingZone
from pipeline_assets_tests.deploy.aws.dagster_webserver_process import DEPLOYED, Dagster, webserver_running
from pipeline_assets_tests.deploy.aws.faulty_proxy import FAULTS, FaultyProxy, faulty_proxy
from pipeline_assets_tests.deploy.aws.s3_messages import (
    PREFIX,
    event_bridge,
    failed,
    key_of,
    records,
    removed,
    sqs,
    written,
)

pytestmark = pytest.mark.xdist_group("deploy_aws")

TELLS_AND_FAILS = ("503 after", "drop after", "half")


@pytest.fixture
def proxy(dagster: Dagster) -> Iterator[FaultyProxy]:
    with faulty_proxy(dagster.port) as between:
        yield between


class Lambda:
    """Invocations of the function with a clock that nobody waits for."""

    def __init__(self, url: str, *, asset: str = "landing", remaining_seconds: float = 60) -> None:
        self.webserver = Webserver(url, (asset,), {})
        self.remaining_seconds = remaining_seconds
        self.slept: list[float] = []

    def __call__(self, event: Any) -> Any:
        return deliver(
            event,
            Trigger(
                self.webserver, PREFIX, lambda: self.remaining_seconds, sleep=self.slept.append, jitter=lambda: 0.5
            ),
        )


class Context:
    """What Lambda hands over beside the event."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


def etags(dagster: Dagster, day: str) -> list[str]:
    """Of the reports of a day, oldest first; "-" for a removal."""
    return [each.get("etag", "-") for each in dagster.reports(day)]


def test_a_new_object_becomes_one_report_that_says_what_happened(
    dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_URL", dagster.url)
    monkeypatch.setenv("LANDING_PREFIX", PREFIX)
    key = key_of("2026-01-01", "ä b.csv")

    assert handle(records(written(key, "e1", "00AB", size=5_000_000_000)), Context()) is None

    assert dagster.reports("2026-01-01") == [
        {
            "s3_bucket": "shop-landing",
            "s3_key": key,
            "etag": "e1",
            "sequencer": "00AB",
            "event_name": "ObjectCreated:Put",
            "event_time": "2026-06-10T04:00:00.000Z",
            "size_bytes": "5000000000",
        }
    ]


def test_a_repeated_event_is_reported_once_whatever_carries_it(dagster: Dagster) -> None:
    invoke, key = Lambda(dagster.url), key_of("2026-01-02")

    invoke(sqs(records(written(key)), records(written(key), written(key))))
    invoke(records(written(key)))
    invoke(event_bridge(key, "e1", "55aed6dcd90281e5"))

    assert etags(dagster, "2026-01-02") == ["e1"]


def test_events_in_any_order_end_with_the_newest(dagster: Dagster) -> None:
    invoke, key = Lambda(dagster.url), key_of("2026-01-03")

    invoke(sqs(records(written(key, "e2", "A2"))))
    invoke(sqs(records(written(key, "e1", "A1")), records(removed(key, "A3"))))
    invoke(sqs(records(written(key, "e2", "A2")), records(written(key, "e1", "A4"))))

    assert etags(dagster, "2026-01-03") == ["e2", "-", "e1"]


def test_objects_of_one_day_are_reported_one_by_one_and_asked_for_once(dagster: Dagster, proxy: FaultyProxy) -> None:
    keys = [key_of("2026-01-04", f"{number}.csv") for number in range(5)]

    Lambda(proxy.url)(sqs(*(records(written(key, key)) for key in keys)))

    assert etags(dagster, "2026-01-04") == keys
    assert proxy.paths.count("/graphql") == 1


def test_what_cannot_be_read_fails_alone_and_is_logged(dagster: Dagster, caplog: pytest.LogCaptureFixture) -> None:
    first, last = key_of("2026-01-05", "first.csv"), key_of("2026-01-05", "last.csv")
    batch = sqs(
        "{",
        records(written(first, "e1")),
        records({}, written(first, "e1"), written(last, "e2")),
        records(written("in/dt=2026-02-30/a.csv")),
        "null",
        {"Event": "s3:TestEvent"},
        records(written("elsewhere/a.csv")),
        "[" * 100_000,
    )

    assert failed(Lambda(dagster.url)(batch)) == ["m0", "m2", "m3", "m4", "m7"]

    assert etags(dagster, "2026-01-05") == ["e1", "e2"]
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 5
    assert "dt=2026-02-30/a.csv' would never be read" in errors[2]


def test_one_bad_record_of_a_direct_invocation_fails_it_after_the_others_are_reported(dagster: Dagster) -> None:
    event = records({"eventName": "ObjectCreated:Put"}, written(key_of("2026-01-06"), "e1"))

    for _ in range(2):
        with pytest.raises(NotReported, match="1 of the event's records were not reported: an S3 event that cannot"):
            Lambda(dagster.url)(event)

    assert etags(dagster, "2026-01-06") == ["e1"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("request_number", [0, 1], ids=["asked", "reported"])
def test_a_fault_that_passes_neither_loses_nor_doubles(
    fault: str, request_number: int, dagster: Dagster, proxy: FaultyProxy
) -> None:
    day = f"2026-02-{1 + FAULTS.index(fault) + 10 * request_number:02}"
    proxy.plan.extend([""] * request_number + [fault])
    invoke = Lambda(proxy.url)

    assert failed(invoke(sqs(records(written(key_of(day), "e1"))))) == []

    assert etags(dagster, day) == ["e1"]
    assert invoke.slept == [7.0 if fault == "429" else 0.5]
    told = fault in TELLS_AND_FAILS and request_number == 1
    reports = [path for path in proxy.paths if path.startswith("/report")]
    assert len(reports) == (1 if told or request_number == 0 else 2)


def test_a_webserver_that_is_down_fails_its_messages_which_are_then_delivered(dagster: Dagster) -> None:
    batch = sqs(records(written(key_of("2026-03-01"), "e1")), records(written(key_of("2026-03-02"), "e2")))
    with faulty_proxy(dagster.port) as closed:
        pass
    down = Lambda(closed.url)

    assert failed(down(batch)) == ["m0", "m1"]
    assert down.slept == [0.5, 1.0, 2.0]
    assert failed(Lambda(dagster.url)(batch)) == []

    assert etags(dagster, "2026-03-01") == ["e1"]
    assert etags(dagster, "2026-03-02") == ["e2"]


def test_one_report_that_always_fails_does_not_take_its_batch_along(dagster: Dagster, proxy: FaultyProxy) -> None:
    proxy.plan.extend(["", "503"] * ATTEMPTS)
    batch = sqs(*(records(written(key_of("2026-03-03", f"{number}.csv"), f"e{number}")) for number in range(3)))

    assert failed(Lambda(proxy.url)(batch)) == ["m0"]

    assert etags(dagster, "2026-03-03") == ["e1", "e2"]


def test_a_webserver_that_hangs_is_left_in_time_and_the_message_fails(dagster: Dagster, proxy: FaultyProxy) -> None:
    proxy.plan.append("hang")
    batch = sqs(records(written(key_of("2026-03-04"), "e1")))
    hasty = Lambda(proxy.url, remaining_seconds=3.2)

    began = time.monotonic()
    assert failed(hasty(batch)) == ["m0"]
    assert time.monotonic() - began < REQUEST_SECONDS
    assert hasty.slept == []
    assert failed(Lambda(proxy.url)(batch)) == []

    assert etags(dagster, "2026-03-04") == ["e1"]


def test_without_time_nothing_is_tried(proxy: FaultyProxy) -> None:
    assert failed(Lambda(proxy.url, remaining_seconds=3)(sqs(records(written(key_of("2026-03-05")))))) == ["m0"]
    assert proxy.paths == []


def test_a_long_retry_after_is_left_to_the_queue(proxy: FaultyProxy) -> None:
    proxy.plan.append("429")
    invoke = Lambda(proxy.url, remaining_seconds=19)

    assert failed(invoke(sqs(records(written(key_of("2026-03-06")))))) == ["m0"]
    assert invoke.slept == []


def test_a_database_of_dagster_that_is_busy_is_asked_again(dagster: Dagster, proxy: FaultyProxy) -> None:
    proxy.plan.append("locked")

    assert failed(Lambda(proxy.url)(sqs(records(written(key_of("2026-03-07"), "e1"))))) == []

    assert etags(dagster, "2026-03-07") == ["e1"]


@pytest.mark.parametrize("answer", ["401", "403", "404", "400", "redirect", "login"])
@pytest.mark.parametrize("request_number", [0, 1], ids=["asked", "reported"])
def test_a_refusal_is_not_repeated_and_says_what_to_look_at(
    answer: str, request_number: int, dagster: Dagster, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.plan.extend([""] * request_number + [answer])
    batch = sqs(records(written(key_of("2026-03-08"), f"{answer} {request_number}")))
    invoke = Lambda(proxy.url)

    assert failed(invoke(batch)) == ["m0"]

    assert invoke.slept == []
    assert len(proxy.paths) == 1 + request_number
    (error,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    status = {"redirect": "302", "login": "200"}.get(answer, answer)
    assert f"answered {status}" in error
    assert "Check DAGSTER_URL" in error
    assert dagster.reports("2026-03-08") == []


def test_an_asset_that_nobody_defines_is_not_reported_to(dagster: Dagster, caplog: pytest.LogCaptureFixture) -> None:
    """The webserver would take it, and nobody would ever look at it."""
    invoke = Lambda(dagster.url, asset="landings")

    assert failed(invoke(sqs(records(written(key_of("2026-03-09")))))) == ["m0"]

    assert "has no asset 'landings' (AssetNotFoundError)" in caplog.text
    assert dagster.reports("2026-03-09", asset="landings") == []


def test_reports_of_others_do_not_hide_a_change(dagster: Dagster) -> None:
    """As the curl of the README makes them, and the landing sensor."""
    day = "2026-03-10"
    for metadata in ({"digest": "d1", "rows": 3}, {"s3_key": key_of(day), "s3_bucket": 4}, {}):
        answer = requests.post(
            f"{dagster.url}/report_asset_materialization/landing",
            json={"partition": day, "metadata": metadata},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text

    Lambda(dagster.url)(records(written(key_of(day), "e1")))

    assert etags(dagster, day)[-1] == "e1"
    assert len(dagster.reports(day)) == 4


def test_headers_of_the_environment_are_sent_and_credentials_are_never_quoted(proxy: FaultyProxy) -> None:
    webserver, prefix = configured(
        {
            "DAGSTER_URL": f"{proxy.url}/",
            "DAGSTER_CLOUD_API_TOKEN": "user:abc",
            "DAGSTER_HEADERS": '{"Authorization": "Basic eDp5"}',
            "LANDING_PREFIX": "/in",
        }
    )

    deliver(records(written(key_of("2026-03-11"))), Trigger(webserver, prefix, lambda: 60))

    for headers in proxy.headers:
        assert headers["Dagster-Cloud-Api-Token"] == "user:abc"
        assert headers["Authorization"] == "Basic eDp5"
        assert headers["Content-Type"] == "application/json"
    for wrong in ('["hunter2"]', "hunter2"):
        with pytest.raises(ValueError, match="DAGSTER_HEADERS is not a JSON object") as refused:
            configured({"DAGSTER_URL": proxy.url, "DAGSTER_HEADERS": wrong})
        assert "hunter2" not in str(refused.value)
        assert refused.value.__suppress_context__


@pytest.mark.parametrize("url", ["", "dagster.internal:3000", "ftp://dagster.internal", "http://", "http://dagster:x"])
def test_a_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="DAGSTER_URL="):
        configured({"DAGSTER_URL": url})


def test_the_path_prefix_of_a_webserver_and_an_asset_below_a_folder_are_kept(proxy: FaultyProxy) -> None:
    webserver, prefix = configured({"DAGSTER_URL": f"{proxy.url}/dagster/", "LANDING_ASSET": "shop/landing zone"})
    change = change_in(written("dt=2026-03-12/a.csv"), prefix)
    assert change is not None

    with pytest.raises(Refused, match="405"):
        webserver.report(change, timeout_seconds=5)

    assert proxy.paths == ["/dagster/report_asset_materialization/shop/landing%20zone"]


@pytest.mark.slow(30)
def test_the_project_looks_at_a_day_because_the_function_reported_it(tmp_path: Path) -> None:
    """It is months old: the landing sensor would not look at it otherwise."""
    folder = tmp_path / "landing" / "dt=2026-01-10"
    folder.mkdir(parents=True)
    (folder / "orders.csv").write_text("event_id\n")
    settings = {"PIPELINE_LANDING": str(folder.parent), "PIPELINE_STORE": str(tmp_path / "lake")}
    batch = sqs(records(written(key_of("2026-01-10"), "e1")))
    with webserver_running(tmp_path, ["-m", "pipeline_assets.definitions"], settings) as dagster:
        assert failed(Lambda(dagster.url)(batch)) == []
        assert failed(Lambda(dagster.url)(batch)) == []
        assert etags(dagster, "2026-01-10") == ["e1"]

    sensor = landing_sensor(
        LandingZone(folder.parent),
        table="landing",
        days=dg.DailyPartitionsDefinition("2026-01-01"),
        look_back_days=1,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    cursor, found = None, []
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for _ in range(3):
            result: Any = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
            cursor = result.cursor
            for each in result.asset_events:
                found.append(each.partition)
                instance.report_runless_asset_event(each)
    assert found == ["2026-01-10"]


def test_the_curl_of_the_readme_reports_a_day(dagster: Dagster) -> None:
    (command,) = re.findall(r"^curl (?:.*\\\n)*.*$", (DEPLOYED / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    _, _, url, _, header, _, body = shlex.split(command.replace("\\\n", " "))
    name, value = header.split(": ")

    answer = requests.post(
        url.replace("http://localhost:3000", dagster.url), headers={name: value}, data=body, timeout=30
    )

    assert (answer.status_code, answer.text) == (200, "{}")
    said = json.loads(body)
    assert dagster.reports(said["partition"])[-1] == said["metadata"]
