"""What an exception shows of itself, as words that the verdict table can name.

Belongs here: reading kinds, numbers, codes and class names off exceptions of any library, none of which is imported.
Does not: what they mean. Only what was raised on purpose from another error (`raise ... from`), or holds one, leads
on to it: an error that merely happened while another was handled is a bug in the handler.
"""

import errno
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pipeline_assets.errors import PipelineError

TOLD_TO_WAIT = "told to wait"
UNTRUSTED = "certificate not trusted"
HTTP_STATUSES = range(100, 600)
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
_PHRASES = (
    # Libraries that give no number for these. libpq reports what happens before a session exists as text only, so the
    # phrases stand for the SQLSTATE that the server meant.
    ("sqlite3", "database is locked", "errno:EAGAIN"),
    ("sqlite3", "database table is locked", "errno:EAGAIN"),
    ("sqlite3", "database or disk is full", "errno:ENOSPC"),
    ("psycopg", "password authentication failed", "sql:28P01"),
    ("psycopg", "no password supplied", "sql:28P01"),
    ("psycopg", "no pg_hba.conf entry", "sql:28000"),
    ("psycopg", "too many clients", "sql:53300"),
    ("psycopg", "remaining connection slots are reserved", "sql:53300"),
    ("psycopg", "is starting up", "sql:57P03"),
    ("psycopg", "is shutting down", "sql:57P03"),
    ("psycopg", "could not translate host name", "sql:08001"),
    ("psycopg", "connection refused", "sql:08001"),
    ("psycopg", "timeout expired", "sql:08001"),
    ("psycopg", "connection timed out", "sql:08001"),
    ("psycopg", "server closed the connection unexpectedly", "sql:08006"),
    ("psycopg", "connection reset by peer", "sql:08006"),
    ("psycopg", "the connection is closed", "sql:08003"),
    # A certificate that is not accepted is raised as the same class as a connection that broke.
    *((module, "certificate_verify_failed", UNTRUSTED) for module in ("ssl", "requests", "urllib3", "httpx")),
    ("botocore", "certificate verify failed", UNTRUSTED),
)


def links(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, the outermost first. A group's members are not followed."""
    found: list[BaseException] = []

    def follow(one: object) -> None:
        if isinstance(one, BaseException) and not any(one is each for each in found):
            found.append(one)
            if isinstance(one, BaseExceptionGroup):
                return
            follow(one.__cause__)
            follow(getattr(one, "orig", None))  # SQLAlchemy's
            follow(getattr(one, "reason", None))  # urllib's and urllib3's
            for argument in one.args:
                follow(argument)

    follow(error)
    return found


def symptoms_of(error: BaseException) -> Iterator[str]:
    """List the symptoms of one error, the most telling first.

    `kind:conflict` (errors.py), `code:SlowDown` (AWS), `sql:40001` and its class `sql:40`, `http:503`,
    `errno:ENOSPC`, and `class:<root module>.<name>` for the class and each of its bases.
    """
    if _wait_attribute(error) is not None:
        yield TOLD_TO_WAIT
    classes = [each for each in type(error).__mro__ if each not in (object, BaseException, Exception)]
    for each in classes:
        if issubclass(each, PipelineError) and "kind" in vars(each):
            yield f"kind:{each.kind}"
    for module, phrase, symptom in _PHRASES:
        if any(each.__module__.startswith(module) for each in classes) and phrase in str(error).lower():
            yield from _states(symptom)
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        yield f"code:{_within(response, 'Error', 'Code')}"
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str) and _SQLSTATE.fullmatch(state):
        yield from _states(f"sql:{state}")
    named = [f"class:{each.__module__.partition('.')[0]}.{each.__name__}" for each in classes]
    status = _status(error, response, is_urllibs="class:urllib.HTTPError" in named)
    if status is not None:
        yield f"http:{status}"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        yield f"errno:{errno.errorcode[error.errno]}"
    yield from named


def asked_to_wait_seconds(error: BaseException, now: datetime) -> float | None:
    """How long the server behind the error asked to wait; the longest time when a group holds several."""
    waits = []
    for link in links(error):
        if isinstance(link, BaseExceptionGroup):
            waits += [asked_to_wait_seconds(member, now) for member in link.exceptions]
            continue
        waits.append(_wait_attribute(link))
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):
            headers = _within(response, "ResponseMetadata", "HTTPHeaders")
        else:
            headers = getattr(link if response is None else response, "headers", None)
        if hasattr(headers, "items"):
            asked = [str(text) for name, text in headers.items() if str(name).lower() == "retry-after"]
            waits += [retry_after_seconds(text, now) for text in asked]
    return max((wait for wait in waits if wait is not None), default=None)


def retry_after_seconds(header: str, now: datetime) -> float | None:
    """The wait that a Retry-After header asks for: seconds, or a date in one of the three forms of RFC 9110.

    Returns:
        None if it cannot be read, 0 for a date that has passed.
    """
    text = header.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # asctime has no zone; RFC 9110 says UTC
        return max((aware - now).total_seconds(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _states(symptom: str) -> Iterator[str]:
    """A SQLSTATE also as its class, which is its first two characters."""
    yield symptom
    if symptom.startswith("sql:"):
        yield symptom[: len("sql:") + 2]


def _wait_attribute(error: BaseException) -> float | None:
    wait = getattr(error, "retry_after_seconds", None)
    if isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0:
        return float(wait)
    return None


def _status(error: BaseException, response: object, *, is_urllibs: bool) -> int | None:
    if isinstance(response, Mapping):
        candidates = [_within(response, "ResponseMetadata", "HTTPStatusCode")]
    else:
        candidates = [getattr(response, "status_code", None), getattr(error, "status_code", None)]
    if is_urllibs:  # other errors have other things as `code`
        candidates.append(getattr(error, "code", None))
    return next((each for each in candidates if isinstance(each, int) and each in HTTP_STATUSES), None)


def _within(response: Mapping[str, object], outer: str, inner: str) -> object:
    found = response.get(outer)
    return found.get(inner) if isinstance(found, Mapping) else None
