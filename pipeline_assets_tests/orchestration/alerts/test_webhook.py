"""One message and one webhook: what is posted, what an answer means, and that the URL stays secret."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipeline_assets.orchestration.alerts.channel import Answer, PostOutcome
from pipeline_assets.orchestration.alerts.webhook import Links, Webhook, line, slack
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.outbox import Message, id_of
from pipeline_assets_tests.support.webhook_server import SECRET, Receiver, Reply, url_of_nobody, webhook

NOW = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
DAYS = [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3), date(2026, 11, 7)]
LINKS = Links("http://dagster.example:3000")
ALERT = Alert(
    "run|1|events",
    Severity.PAGE,
    "events failed: 4 days",
    "shop/events",
    DAYS,
    "no space left",
    "StorageFull: <root> & no space left",
    owners=["team:data", "ann@example.com"],
    run_id="2f1c8a7e-5f0b-4d5e-9c1a-0123456789ab",
)
MESSAGE = Message(id_of(ALERT.key), ALERT, NOW - timedelta(minutes=1), NOW)


def delivered_to(receiver: Receiver, **how: Any) -> Answer:
    return Webhook(receiver.url, LINKS, **how).deliver(MESSAGE, now=NOW)


def test_json_has_all_that_is_known_under_keys_that_stay() -> None:
    with webhook() as receiver:
        assert delivered_to(receiver).outcome is PostOutcome.DELIVERED
    assert receiver.content_types == ["application/json; charset=utf-8"]
    assert receiver.received == [
        {
            "id": id_of(ALERT.key),
            "severity": "page",
            "title": "events failed: 4 days",
            "table": "shop/events",
            "days": ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-07"],
            "day_ranges": [["2026-11-01", "2026-11-03"], ["2026-11-07", "2026-11-07"]],
            "verdict": "no space left",
            "reason": "StorageFull: <root> & no space left",
            "owners": ["team:data", "ann@example.com"],
            "run_id": ALERT.run_id,
            "run_url": f"http://dagster.example:3000/runs/{ALERT.run_id}",
            "table_url": "http://dagster.example:3000/assets/shop/events",
            "queued_at": "2026-11-20T05:59:00+00:00",
            "sent_at": "2026-11-20T06:00:00+00:00",
            "attempt": 1,
        }
    ]


def test_slack_gets_a_text_and_blocks() -> None:
    with webhook() as receiver:
        assert delivered_to(receiver, format="slack").outcome is PostOutcome.DELIVERED
    (body,) = receiver.received
    assert body["text"].startswith(":rotating_light: events failed: 4 days. StorageFull: &lt;root&gt; &amp; no space")
    header, facts, reason, footer = body["blocks"]
    assert header["text"] == {"type": "plain_text", "text": ":rotating_light: events failed: 4 days", "emoji": True}
    assert [each["text"] for each in facts["fields"]] == [
        "*Table*\n<http://dagster.example:3000/assets/shop/events|shop/events>",
        "*Days*\n2026-11-01 to 2026-11-03, 2026-11-07",
        "*Verdict*\nno space left",
        "*Owner*\nteam:data, ann@example.com",
        f"*Run*\n<http://dagster.example:3000/runs/{ALERT.run_id}|2f1c8a7e>",
    ]
    assert reason["text"]["text"] == "```StorageFull: &lt;root&gt; &amp; no space left```"
    assert footer["elements"][0]["text"] == f"page · {id_of(ALERT.key)}"


def test_whatever_is_told_keeps_slacks_limits_and_cannot_call_everybody() -> None:
    wild = replace(
        ALERT,
        title="<!channel> " + "t" * 300,
        table="<!here>" * 60,
        verdict="<@U1>" * 100,
        reason="``` <!channel> " + "&<>" * 2000,
        days=[date(2020, 1, 1) + timedelta(days=2 * number) for number in range(4000)],
        owners=["<!everyone>"] * 100,
    )
    body = slack(replace(MESSAGE, alert=wild), LINKS)
    header, facts, reason, _ = body["blocks"]
    assert len(header["text"]["text"]) <= 150
    assert len(facts["fields"]) <= 10
    assert all(len(field["text"]) <= 2000 for field in facts["fields"])
    assert len(reason["text"]["text"]) <= 3000
    assert len(body["text"]) <= 3000
    texts = [body["text"], reason["text"]["text"], *(field["text"] for field in facts["fields"])]
    for text in texts:
        assert not re.search(r"<[!@#]", text)
        assert not re.search(r"&(?!amp;|lt;|gt;)", text), "an entity was cut in two"
    assert reason["text"]["text"].count("```") == 2
    assert "and 3980 more stretches" in facts["fields"][1]["text"]
    json.dumps(body)


def test_what_is_not_known_is_said_in_slack_and_null_in_json() -> None:
    bare = replace(MESSAGE, alert=replace(ALERT, owners=(), days=(), run_id=None, reason=""))
    fields = [field["text"] for field in slack(bare, LINKS)["blocks"][1]["fields"]]
    assert fields[1:] == ["*Days*\nnone named", "*Verdict*\nno space left", "*Owner*\nnobody is named"]
    body = Webhook("http://x/", LINKS).body_of(bare, now=NOW)
    assert (body["run_url"], body["days"], body["day_ranges"], body["owners"]) == (None, [], [], [])


def test_the_format_goes_by_the_host_unless_it_is_stated() -> None:
    def is_slack(url: str, **how: Any) -> bool:
        return "blocks" in Webhook(url, LINKS, **how).body_of(MESSAGE, now=NOW)

    assert is_slack("https://hooks.slack.com/services/x")
    assert not is_slack("https://example.com/hooks.slack.com")
    assert is_slack("https://example.com/", format="slack")
    assert not is_slack("https://hooks.slack.com/services/x", format="json")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_success_is_delivered(status: int) -> None:
    with webhook(Reply(status)) as receiver:
        assert delivered_to(receiver).outcome is PostOutcome.DELIVERED


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_the_servers_own_trouble_is_tried_again(status: int) -> None:
    with webhook(Reply(status, body="busy")) as receiver:
        answer = delivered_to(receiver)
    assert answer == Answer(PostOutcome.TRY_AGAIN, f"the webhook answered {status}: busy")


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Fri, 20 Nov 2026 06:02:00 GMT", 120.0), ("soon", None)])
def test_retry_after_is_read_in_both_forms(header: str, seconds: float | None) -> None:
    with webhook(Reply(429, {"Retry-After": header})) as receiver:
        assert delivered_to(receiver).retry_after_seconds == seconds


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_would_be_refused_again_is_refused_with_the_servers_words(status: int) -> None:
    with webhook(Reply(status, body="invalid_payload\n")) as receiver:
        answer = delivered_to(receiver)
    assert answer == Answer(PostOutcome.REFUSED, f"the webhook answered {status}: invalid_payload")


def test_a_redirection_is_refused_and_not_followed() -> None:
    with webhook() as elsewhere, webhook(Reply(302, {"Location": elsewhere.url})) as receiver:
        answer = delivered_to(receiver)
    assert answer.outcome is PostOutcome.REFUSED
    assert "redirections are not followed" in answer.reason
    assert elsewhere.received == []


def test_nobody_who_listens_is_tried_again() -> None:
    answer = Webhook(url_of_nobody(), LINKS).deliver(MESSAGE, now=NOW)
    assert answer.outcome is PostOutcome.TRY_AGAIN
    assert "ConnectionError" in answer.reason


def test_a_host_that_cannot_be_one_is_tried_again_too() -> None:
    answer = Webhook(f"http://{'x' * 300}.example/{SECRET}", LINKS).deliver(MESSAGE, now=NOW)
    assert answer.outcome is PostOutcome.TRY_AGAIN


def test_a_webhook_that_hangs_costs_no_more_than_the_time_out() -> None:
    with webhook(Reply(hangs=True)) as receiver:
        began = time.monotonic()
        answer = delivered_to(receiver, read_seconds=0.2)
        assert time.monotonic() - began < 3
    assert answer.outcome is PostOutcome.TRY_AGAIN
    assert "ReadTimeout" in answer.reason


def test_a_webhook_that_drips_costs_no_more_than_one_delivery_may() -> None:
    with webhook(Reply(drips=True)) as receiver:
        began = time.monotonic()
        answer = delivered_to(receiver, delivery_seconds=0.4)
        assert 0.4 <= time.monotonic() - began < 3
    assert answer == Answer(PostOutcome.TRY_AGAIN, "the webhook gave no whole answer within 0.4 s")


@pytest.mark.parametrize("reply", [Reply(), Reply(500, echoes=True), Reply(400, echoes=True), Reply(hangs=True)])
def test_the_url_is_in_no_text_error_repr_or_log(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with webhook(reply) as receiver:
        hook = Webhook(receiver.url, LINKS, read_seconds=0.2)
        answer = hook.deliver(MESSAGE, now=NOW)
        path = urlsplit(receiver.url).path
    said = f"{hook!r} {answer!r} {caplog.text} {line(ALERT, LINKS)}"
    for secret in (receiver.url, path, *SECRET.split("/")):
        assert secret not in said
    if reply.echoes:
        assert "***" in answer.reason


def test_a_password_in_the_url_is_kept_secret_too() -> None:
    with webhook(Reply(400, body="who is hunter2000")) as receiver:
        url = receiver.url.replace("http://", "http://bob:hunter2000@")
        answer = Webhook(url, LINKS).deliver(MESSAGE, now=NOW)
    assert answer.reason == "the webhook answered 400: who is ***"


def test_the_log_names_what_a_reader_needs() -> None:
    assert line(ALERT, LINKS) == (
        "[page] events failed: 4 days | verdict: no space left | reason: StorageFull: <root> & no space left | "
        "days: 2026-11-01 to 2026-11-03, 2026-11-07 | owner: team:data, ann@example.com | "
        f"http://dagster.example:3000/runs/{ALERT.run_id}"
    )
    bare = replace(ALERT, owners=(), days=(), run_id=None)
    assert line(bare, LINKS).endswith("no space left | http://dagster.example:3000/assets/shop/events")
