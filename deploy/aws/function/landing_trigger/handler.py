"""What Lambda calls: every change in an event is reported, or its message fails and is delivered again.

Belongs here: settings, trying again within the time that Lambda gives, and telling Lambda what failed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from landing_trigger.events import Change, Malformed, change_in, unwrapped
from landing_trigger.known import why_known
from landing_trigger.webserver import Refused, Unreachable, Webserver

ATTEMPTS = 4
FIRST_DELAY_SECONDS = 0.5
REQUEST_SECONDS = 10.0
RESERVE_SECONDS = 3.0
"""Left for the answer to Lambda: a function that is cut off has failed its whole batch, reported messages included."""

_log = logging.getLogger(__name__)
logging.getLogger("landing_trigger").setLevel(logging.INFO)  # Lambda's handler is at the root and has no level


class NotReported(RuntimeError):
    """Raised to Lambda, which delivers the event again, or moves it to where failed events go."""


def handle(event: Any, context: Any) -> dict[str, Any] | None:
    """The function's entry point."""
    webserver, prefix = configured(os.environ)
    return deliver(event, Trigger(webserver, prefix, lambda: context.get_remaining_time_in_millis() / 1000))


def configured(environment: Mapping[str, str]) -> tuple[Webserver, str]:
    """The webserver and the landing prefix that the environment names.

    Raises:
        ValueError: names the variable.
    """
    url = environment.get("DAGSTER_URL", "").rstrip("/")
    if not _is_url(url):
        raise ValueError(f"DAGSTER_URL={url!r} is not a URL like https://dagster.example.com or http://10.0.0.7:3000")
    try:
        given = json.loads(environment.get("DAGSTER_HEADERS") or "{}")
        headers = {str(name): str(value) for name, value in given.items()}
    except (ValueError, AttributeError):
        # Neither its value nor the cause, which quotes it: credentials are in there.
        raise ValueError('DAGSTER_HEADERS is not a JSON object such as {"Authorization": "Basic ..."}') from None
    if token := environment.get("DAGSTER_CLOUD_API_TOKEN"):
        headers["Dagster-Cloud-Api-Token"] = token
    asset = tuple((environment.get("LANDING_ASSET") or "landing").strip("/").split("/"))
    prefix = environment.get("LANDING_PREFIX", "").strip("/")
    return Webserver(url, asset, headers), f"{prefix}/" if prefix else ""


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def deliver(event: Any, trigger: Trigger) -> dict[str, Any] | None:
    """Report what an invocation brought.

    SQS is told which of its messages failed, and delivers those again. Who else invokes the function delivers all of
    the event again, of which the reported part is then known.

    Raises:
        NotReported: the event did not come from SQS, and something of it failed.
    """
    messages = event.get("Records") if isinstance(event, dict) else None
    if isinstance(messages, list) and any(_is_of_sqs(each) for each in messages):
        failed = [each["messageId"] for each in messages if trigger.report_all(each)]
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}
    if wrong := trigger.report_all(event):
        raise NotReported(f"{len(wrong)} of the event's records were not reported: {'; '.join(wrong)[:2000]}")
    return None


def _is_of_sqs(record: object) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == "aws:sqs"


class Trigger:
    """Reports the changes of one invocation.

    Args:
        webserver: where to.
        prefix: of the keys of the landing zone, with its "/" at the end; empty for a whole bucket.
        remaining_seconds: until Lambda cuts the invocation off.
        sleep: between attempts.
        jitter: a number from 0 to 1, so that functions that failed together do not come back together.
    """

    def __init__(
        self,
        webserver: Webserver,
        prefix: str,
        remaining_seconds: Callable[[], float],
        *,
        sleep: Callable[[float], object] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._webserver = webserver
        self._prefix = prefix
        self._remaining_seconds = remaining_seconds
        self._sleep = sleep
        self._jitter = jitter
        self._reports: dict[str, list[dict[str, Any]]] = {}
        self._attempts = ATTEMPTS

    def report_all(self, message: object) -> list[str]:
        """Report every change in a message, each by itself; returns what went wrong, which is also logged."""
        try:
            inner = unwrapped(message)
            if inner is None and (change := change_in(message, self._prefix)):
                self._report(change)
        except (Malformed, Refused, Unreachable) as error:
            _log.error("not reported: %s", error)
            return [str(error)]
        except Exception as error:  # noqa: BLE001 - a message nobody foresaw fails alone, and not its batch with it
            _log.exception("not reported: %.1000r", message)
            return [repr(error)]
        return [wrong for each in inner or [] for wrong in self.report_all(each)]

    def _report(self, change: Change) -> None:
        """Report a change unless it is known, trying again while that may help and there is time."""
        for attempt in range(1, self._attempts + 1):
            try:
                self._report_if_news(change)
            except Unreachable as error:
                # The report may have arrived although its answer did not: ask before sending it again.
                self._reports.pop(change.day, None)
                backoff_seconds = FIRST_DELAY_SECONDS * 2 ** (attempt - 1) * (0.5 + self._jitter())
                delay_seconds = max(error.retry_after_seconds, backoff_seconds)
                needed_seconds = delay_seconds + REQUEST_SECONDS + RESERVE_SECONDS
                if attempt == self._attempts or needed_seconds > self._remaining_seconds():
                    # The others of the batch would wait for the same; but if it is only this one, they get through.
                    self._attempts = 1
                    raise
                _log.warning("again in %.1f s: %s", delay_seconds, error)
                self._sleep(delay_seconds)
            else:
                return

    def _report_if_news(self, change: Change) -> None:
        if change.day not in self._reports:
            self._reports[change.day] = self._webserver.reports(change.day, self._timeout_seconds())
        if known := why_known(change, self._reports[change.day]):
            _log.info("skipped: %s: %s", change, known)
            return
        self._webserver.report(change, self._timeout_seconds())
        self._reports[change.day].insert(0, change.metadata())
        _log.info("reported for %s: %s", change.day, change)

    def _timeout_seconds(self) -> float:
        left = self._remaining_seconds() - RESERVE_SECONDS
        if left <= 0:
            raise Unreachable("no time was left in this invocation")
        return min(REQUEST_SECONDS, left)
