"""One message to one webhook: what is sent, in which format, and what the answer means. When is not decided here.

The URL of a webhook is a secret: whoever has it can post. It is in no text, error, repr or log that leaves this module.
"""

import html
import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pipeline_assets.orchestration.alerts.channel import Answer, PostOutcome
from pipeline_assets.partition import days_in_words, ranges_of
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.outbox import Message
from pipeline_assets.rules.symptoms import retry_after_seconds

WEBHOOK = "webhook"
CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0
DELIVERY_SECONDS = 10.0
"""All of one delivery. The two above bound neither a name server that is silent nor an answer that comes in drops."""
ANSWER_BYTES = 2000
SLACK_HEADER, SLACK_SECTION = 150, 3000
"""Characters that Slack takes in a header and in a section."""
NAMED_RANGES = 20
"""Stretches of days in a text; the others are counted. In JSON they are all there."""
_MARKS = {Severity.INFO: ":white_check_mark:", Severity.ALERT: ":warning:", Severity.PAGE: ":rotating_light:"}


@dataclass(frozen=True, slots=True)
class Links:
    """Gives the addresses of pages of the Dagster UI."""

    dagster_url: str

    def run(self, alert: Alert) -> str | None:
        """Give the page of the run to look at."""
        return None if alert.run_id is None else f"{self.dagster_url.rstrip('/')}/runs/{quote(alert.run_id, safe='')}"

    def table(self, alert: Alert) -> str:
        """Give the page of the asset."""
        return f"{self.dagster_url.rstrip('/')}/assets/{quote(alert.table)}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """The channel that posts messages to a URL.

    Args:
        url: a secret.
        format: of the messages; None is slack for hooks.slack.com and json for others.
        read_seconds: without a byte of the answer.
        delivery_seconds: of one delivery in all.
        name: of the channel; a second webhook needs one of its own.
    """

    url: str = field(repr=False)
    links: Links
    format: Literal["slack", "json"] | None = None
    read_seconds: float = READ_SECONDS
    delivery_seconds: float = DELIVERY_SECONDS
    name: str = WEBHOOK

    def deliver(self, message: Message, *, now: datetime) -> Answer:
        """Post one message, and wait for `delivery_seconds` at most. A delivery that fails raises nothing."""
        body = self.body_of(message, now=now)
        answers: list[Answer] = []
        # A thread, because nothing else bounds the time of a call that waits for a name server. It dies with us.
        thread = threading.Thread(target=lambda: answers.append(self._post(body, now)), daemon=True, name="webhook")
        thread.start()
        thread.join(self.delivery_seconds)
        if not answers:
            return Answer(PostOutcome.TRY_AGAIN, f"the webhook gave no whole answer within {self.delivery_seconds:g} s")
        return answers[0]

    def body_of(self, message: Message, *, now: datetime) -> dict[str, Any]:
        """Write what is posted, as JSON."""
        is_slack = urlsplit(self.url).hostname == "hooks.slack.com" if self.format is None else self.format == "slack"
        return slack(message, self.links) if is_slack else plain(message, self.links, sent_at=now)

    def _post(self, body: Mapping[str, Any], now: datetime) -> Answer:
        import requests  # a run imports the definitions too, and posts nothing

        try:
            with (
                self._unlogged(),
                requests.post(
                    self.url,
                    data=json.dumps(body).encode(),
                    headers={"Content-Type": "application/json; charset=utf-8"},
                    timeout=(CONNECT_SECONDS, self.read_seconds),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                said = "" if response.ok else response.raw.read(ANSWER_BYTES, decode_content=True)
                return self._answer(response.status_code, said, response.headers.get("Retry-After"), now)
        except Exception as error:  # noqa: BLE001 - its text names the URL; a failed delivery is logged and retried
            return Answer(
                PostOutcome.TRY_AGAIN, f"the webhook was not reached or did not answer: {type(error).__name__}"
            )

    def _answer(self, status: int, said: bytes | str, retry_after: str | None, now: datetime) -> Answer:
        text = self._redacted(said.decode(errors="replace") if isinstance(said, bytes) else said)
        reason = f"the webhook answered {status}{f': {text}' if text else ''}"
        if 200 <= status < 300:  # noqa: PLR2004 - the class of success
            return Answer(PostOutcome.DELIVERED, reason)
        wait = None if retry_after is None else retry_after_seconds(retry_after, now)
        if status in (408, 429) or status >= 500:  # noqa: PLR2004 - the server's own trouble
            return Answer(PostOutcome.TRY_AGAIN, reason, wait)
        if 300 <= status < 400:  # noqa: PLR2004 - a POST that follows a redirection becomes a GET
            reason += "; redirections are not followed: PIPELINE_ALERT_WEBHOOK_URL must be where they lead"
        return Answer(PostOutcome.REFUSED, reason)

    def _redacted(self, text: str) -> str:
        """One line without the URL, or the parts of it that are secret."""
        parts = urlsplit(self.url)
        secrets = {self.url, parts.query, parts.path, *(parts.path.split("/")), parts.password or ""}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) > 3:  # noqa: PLR2004 - "/", "" and the like are in any text
                text = text.replace(secret, "***")
        return " ".join(text.split())[:200]

    @contextmanager
    def _unlogged(self) -> Iterator[None]:
        """urllib3 logs the path of every request at level DEBUG."""
        logger, path = logging.getLogger("urllib3.connectionpool"), urlsplit(self.url).path

        def is_harmless(record: logging.LogRecord) -> bool:
            return path.strip("/") == "" or path not in record.getMessage()

        logger.addFilter(is_harmless)
        try:
            yield
        finally:
            logger.removeFilter(is_harmless)


def plain(message: Message, links: Links, *, sent_at: datetime) -> dict[str, Any]:
    """Write the message as JSON. Keys stay; new ones may come."""
    alert = message.alert
    return {
        "id": message.id,
        "severity": alert.severity.value,
        "title": alert.title,
        "table": alert.table,
        "days": [day.isoformat() for day in alert.days],
        "day_ranges": [[first.isoformat(), last.isoformat()] for first, last in ranges_of(alert.days)],
        "verdict": alert.verdict,
        "reason": alert.reason,
        "owners": list(alert.owners),
        "run_id": alert.run_id,
        "run_url": links.run(alert),
        "table_url": links.table(alert),
        "queued_at": message.queued.isoformat(),
        "sent_at": sent_at.isoformat(),
        "attempt": message.attempts + 1,
    }


def slack(message: Message, links: Links) -> dict[str, Any]:
    """Write the message for a Slack incoming webhook."""
    alert = message.alert
    facts = {
        "Table": f"<{_escaped(links.table(alert))}|{_escaped(alert.table, 200)}>",
        "Days": _escaped(days_in_words(alert.days, at_most=NAMED_RANGES)) or "none named",
        "Verdict": _escaped(alert.verdict, 200),
        "Owner": _escaped(", ".join(alert.owners), 300) or "nobody is named",
    }
    if (run := links.run(alert)) is not None:
        facts["Run"] = f"<{_escaped(run)}|{_escaped(str(alert.run_id)[:8])}>"
    fence = "```"
    reason = _escaped(alert.reason.replace(fence, "'''"), SLACK_SECTION - 2 * len(fence)) or "no reason is known"
    headline = f"{_MARKS[alert.severity]} {alert.title}"
    return {
        "text": _escaped(f"{headline}. {alert.reason}", SLACK_SECTION),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": headline[:SLACK_HEADER], "emoji": True}},
            {"type": "section", "fields": [_mrkdwn(f"*{name}*\n{value}") for name, value in facts.items()]},
            {"type": "section", "text": _mrkdwn(f"{fence}{reason}{fence}")},
            {"type": "context", "elements": [_mrkdwn(f"{alert.severity.value} · {message.id}")]},
        ],
    }


def line(alert: Alert, links: Links) -> str:
    """Write the alert as a line of a log."""
    parts = [f"[{alert.severity.value}] {alert.title}", f"verdict: {alert.verdict}", f"reason: {alert.reason}"]
    if alert.days:
        parts.append(f"days: {days_in_words(alert.days, at_most=NAMED_RANGES)}")
    if alert.owners:
        parts.append(f"owner: {', '.join(alert.owners)}")
    parts.append(links.run(alert) or links.table(alert))
    return " | ".join(parts)


def _mrkdwn(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text}


def _escaped(text: str, most: int | None = None) -> str:
    """Without Slack's three control characters, and no longer than that, with no entity cut in two."""
    escaped = html.escape(text, quote=False)
    if most is None or len(escaped) <= most:
        return escaped
    return re.sub(r"&[a-z]{0,3}$", "", escaped[: most - 1]) + "…"
