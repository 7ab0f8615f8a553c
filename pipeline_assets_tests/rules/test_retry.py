"""The verdict table: which error of which library gets which row, what a server asked for, and how long is waited."""

from __future__ import annotations

import errno
import io
import socket
import sqlite3
import ssl
import urllib.error
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from http.client import IncompleteRead, RemoteDisconnected
from typing import Any

import botocore.exceptions
import psycopg2  # type: ignore[import-untyped]  # it has no annotations
import pytest
import requests
import sqlalchemy.exc
import urllib3.exceptions
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets import errors
from pipeline_assets.rules.alerts import Severity
from pipeline_assets.rules.retry import (
    BROKEN,
    BUSY,
    CONFLICT,
    DENIED,
    FULL,
    LONGEST_WAIT_SECONDS,
    MISCONFIGURED,
    NETWORK,
    NOT_NAMED,
    REFUSED,
    THROTTLED,
    UNUSABLE,
    VERDICTS,
    Verdict,
    delay_seconds,
    kind_of,
    verdict_for,
    verdict_named,
)
from pipeline_assets.rules.symptoms import asked_to_wait_seconds, retry_after_seconds

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RETRIED = [verdict for verdict in VERDICTS if verdict.may_retry]


def answered(status: int, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError(f"{status}", response=response)


def urllib_answered(status: int, **headers: str) -> urllib.error.HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("https://h", status, "said so", message, io.BytesIO())


def aws(code: str, status: int = 400, headers: dict[str, str] | None = None) -> botocore.exceptions.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return botocore.exceptions.ClientError(response, "PutObject")


def postgres(sqlstate: str, error: type[psycopg2.Error] = psycopg2.OperationalError) -> psycopg2.Error:
    """As the driver raises it; its pgcode cannot be set otherwise."""
    raised = error("as the server said")
    raised.__setstate__({"pgcode": sqlstate})
    assert raised.pgcode == sqlstate
    return raised


def caused_by(cause: BaseException, error: Exception | None = None) -> Exception:
    try:
        raise error or RuntimeError("the author's own words") from cause  # noqa: TRY301 - to be caught with its cause
    except Exception as raised:  # noqa: BLE001 - it is what is wanted
        return raised


def while_handling(first: BaseException, error: Exception) -> Exception:
    try:
        try:
            raise first  # noqa: TRY301 - to be handled carelessly
        except BaseException:  # noqa: BLE001 - a careless handler
            raise error  # noqa: B904 - without `from`, as it happens
    except Exception as raised:  # noqa: BLE001 - it is what is wanted
        return raised


def alchemy(orig: BaseException) -> sqlalchemy.exc.DBAPIError:
    return sqlalchemy.exc.OperationalError("SELECT 1", None, orig)


CERTIFICATE = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1)"
CASES: dict[str, tuple[BaseException, Verdict]] = {
    # the project's own
    "conflict": (errors.PartitionConflict("theirs"), CONFLICT),
    "store busy": (errors.StoreBusy("locked"), BUSY),
    "landing in progress": (errors.LandingInProgress("written"), BUSY),
    "landing unavailable": (errors.LandingUnavailable("reset"), NETWORK),
    "landing asks to wait": (errors.LandingUnavailable("429", retry_after_seconds=2), THROTTLED),
    "landing asks to wait no time": (errors.LandingUnavailable("429", retry_after_seconds=0), THROTTLED),
    "landing asks nonsense": (errors.LandingUnavailable("429", retry_after_seconds=float("nan")), NETWORK),
    "landing missing": (errors.LandingMissing("404"), UNUSABLE),
    "landing unreadable": (errors.LandingError("truncated"), UNUSABLE),
    "upstream missing": (errors.PartitionMissing("not computed"), UNUSABLE),
    "upstream damaged": (errors.PartitionDamaged("no Parquet"), UNUSABLE),
    "access denied": (errors.AccessDenied("401"), DENIED),
    "contract": (errors.ContractBroken("nulls"), BROKEN),
    "rows of another day": (errors.PartitionMismatch("1 of 2"), BROKEN),
    "settings": (errors.SettingsError("no"), MISCONFIGURED),
    "source": (errors.SourceError("no"), MISCONFIGURED),
    "storage refused": (errors.StorageRefused("read-only"), REFUSED),
    "storage full": (errors.StorageFull("full"), FULL),
    "project's base": (errors.PipelineError("what"), NOT_NAMED),
    # bugs, and what is permanent though it is an OSError
    "bug": (ZeroDivisionError("division by zero"), NOT_NAMED),
    "assertion": (AssertionError(), NOT_NAMED),
    "memory": (MemoryError(), NOT_NAMED),
    "file not found": (FileNotFoundError(errno.ENOENT, "no"), NOT_NAMED),
    "permission": (PermissionError(errno.EACCES, "no"), NOT_NAMED),
    "is a folder": (IsADirectoryError(errno.EISDIR, "no"), NOT_NAMED),
    "too many files": (OSError(errno.EMFILE, "no"), NOT_NAMED),
    "broken disk": (OSError(errno.EIO, "no"), NOT_NAMED),
    "no number": (OSError("no"), NOT_NAMED),
    "a number of another world": (OSError(99999, "no"), NOT_NAMED),
    # the operating system
    "EAGAIN": (OSError(errno.EAGAIN, "later"), BUSY),
    "BlockingIOError": (BlockingIOError("later"), BUSY),
    "EBUSY": (OSError(errno.EBUSY, "busy"), BUSY),
    "ENOSPC": (OSError(errno.ENOSPC, "full"), FULL),
    "EDQUOT": (OSError(errno.EDQUOT, "quota"), FULL),
    "EFBIG": (OSError(errno.EFBIG, "limit"), FULL),
    "EROFS": (OSError(errno.EROFS, "read-only"), REFUSED),
    "ECONNRESET": (ConnectionResetError(errno.ECONNRESET, "reset"), NETWORK),
    "reset without a number": (ConnectionResetError("reset"), NETWORK),
    "refused": (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), NETWORK),
    "ETIMEDOUT": (OSError(errno.ETIMEDOUT, "out"), NETWORK),
    "EHOSTUNREACH": (OSError(errno.EHOSTUNREACH, "no route"), NETWORK),
    "TimeoutError": (TimeoutError(), NETWORK),
    "DNS": (socket.gaierror(socket.EAI_AGAIN, "try again"), NETWORK),
    "TLS ended": (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), NETWORK),
    "certificate": (ssl.SSLCertVerificationError(1, CERTIFICATE), DENIED),
    # requests, urllib3, urllib, http.client
    "requests: reset": (requests.ConnectionError("reset"), NETWORK),
    "requests: read time-out": (requests.ReadTimeout("slow"), NETWORK),
    "requests: cut off": (requests.exceptions.ChunkedEncodingError("cut"), NETWORK),
    "requests: certificate": (requests.exceptions.SSLError(f"Caused by SSLError({CERTIFICATE!r})"), DENIED),
    "requests: bad URL": (requests.exceptions.InvalidURL("no"), NOT_NAMED),
    "requests: not JSON": (requests.exceptions.JSONDecodeError("no", "", 0), NOT_NAMED),
    "requests: 429": (answered(429), THROTTLED),
    "requests: 503": (answered(503), THROTTLED),
    "requests: 500": (answered(500), NETWORK),
    "requests: 504": (answered(504), NETWORK),
    "requests: 401": (answered(401), DENIED),
    "requests: 403": (answered(403, Retry_After="5"), DENIED),
    "requests: 404": (answered(404), NOT_NAMED),
    "requests: 507": (answered(507), FULL),
    "urllib3: time-out": (urllib3.exceptions.ReadTimeoutError(None, "", "slow"), NETWORK),  # type: ignore[arg-type]
    "urllib3: cut off": (urllib3.exceptions.ProtocolError("broken", ConnectionResetError()), NETWORK),
    "urllib: 503": (urllib_answered(503), THROTTLED),
    "urllib: 404": (urllib_answered(404), NOT_NAMED),
    "urllib: 403": (urllib_answered(403), DENIED),
    "urllib: refused": (urllib.error.URLError(ConnectionRefusedError(errno.ECONNREFUSED, "no")), NETWORK),
    "urllib: no such scheme": (urllib.error.URLError("unknown url type"), NOT_NAMED),
    "http.client: cut off": (IncompleteRead(b""), NETWORK),
    "http.client: gone": (RemoteDisconnected("gone"), NETWORK),
    # AWS
    "aws: SlowDown": (aws("SlowDown", 503), BUSY),
    "aws: Throttling": (aws("ThrottlingException", 400), BUSY),
    "aws: AccessDenied": (aws("AccessDenied", 403), DENIED),
    "aws: expired": (aws("ExpiredToken", 400), DENIED),
    "aws: InternalError": (aws("InternalError", 500), NETWORK),
    "aws: head 403": (aws("403", 403), DENIED),
    "aws: unheard of, 503": (aws("Strange", 503), THROTTLED),
    "aws: NoSuchKey": (aws("NoSuchKey", 404), NOT_NAMED),
    "aws: no route": (botocore.exceptions.EndpointConnectionError(endpoint_url="https://h"), NETWORK),
    "aws: time-out": (botocore.exceptions.ReadTimeoutError(endpoint_url="https://h"), NETWORK),
    "aws: no credentials": (botocore.exceptions.NoCredentialsError(), DENIED),
    # databases
    "postgres: serialization": (postgres("40001"), BUSY),
    "postgres: deadlock": (postgres("40P01"), BUSY),
    "postgres: lock": (postgres("55P03"), BUSY),
    "postgres: disk full": (postgres("53100"), FULL),
    "postgres: password": (postgres("28P01"), DENIED),
    "postgres: privilege": (postgres("42501", psycopg2.ProgrammingError), DENIED),
    "postgres: connection": (postgres("08006"), NETWORK),
    "postgres: shutdown": (postgres("57P01"), NETWORK),
    "postgres: unique": (postgres("23505", psycopg2.IntegrityError), NOT_NAMED),
    "postgres: syntax": (postgres("42601", psycopg2.ProgrammingError), NOT_NAMED),
    "postgres: refused": (psycopg2.OperationalError("connection to server failed: Connection refused"), NETWORK),
    "postgres: hung up": (psycopg2.OperationalError("server closed the connection unexpectedly"), NETWORK),
    "postgres: login": (psycopg2.OperationalError('FATAL:  password authentication failed for user "u"'), DENIED),
    "postgres: no such database": (psycopg2.OperationalError('FATAL:  database "d" does not exist'), NOT_NAMED),
    "sqlalchemy: deadlock": (alchemy(postgres("40P01")), BUSY),
    "sqlalchemy: refused": (alchemy(psycopg2.OperationalError("Connection refused")), NETWORK),
    "sqlite: locked": (sqlite3.OperationalError("database is locked"), BUSY),
    "sqlite: full": (sqlite3.OperationalError("database or disk is full"), FULL),
    "sqlite: no table": (sqlite3.OperationalError("no such table: t"), NOT_NAMED),
    "the words in a bug": (ValueError("database is locked"), NOT_NAMED),
    # wrapped
    "from a reset": (caused_by(ConnectionResetError()), NETWORK),
    "from far below": (caused_by(caused_by(aws("SlowDown"))), BUSY),
    "in the arguments": (RuntimeError("failed", TimeoutError()), NETWORK),
    "a bug in a handler": (while_handling(ConnectionResetError(), NameError("name 'log' is not defined")), NOT_NAMED),
    "broken contract from a reset": (caused_by(ConnectionResetError(), errors.ContractBroken("no")), BROKEN),
    "a reset from a conflict": (caused_by(errors.PartitionConflict("x"), ConnectionResetError()), CONFLICT),
    "refused from EIO": (caused_by(OSError(errno.EIO, "x"), errors.StorageRefused("no")), REFUSED),
    "unavailable from 401": (caused_by(answered(401), errors.LandingUnavailable("odd")), NETWORK),
    "group of transients": (ExceptionGroup("g", [TimeoutError(), errors.StoreBusy("b")]), BUSY),
    "group with a bug": (ExceptionGroup("g", [TimeoutError(), ValueError("bug")]), NOT_NAMED),
    "group with a full disk": (ExceptionGroup("g", [ValueError("bug"), OSError(errno.ENOSPC, "full")]), FULL),
    "group in a group": (ExceptionGroup("g", [ExceptionGroup("h", [caused_by(TimeoutError())])]), NETWORK),
    "from a group": (caused_by(ExceptionGroup("g", [TimeoutError(), TimeoutError()])), NETWORK),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_gets_the_verdict_of_its_row(case: str) -> None:
    error, verdict = CASES[case]
    assert verdict_for(error).name == verdict.name


def test_the_table_says_how_often_how_long_and_how_loud() -> None:
    said = {each.name: (each.max_retries, each.base_seconds, each.factor, each.cap_seconds) for each in RETRIED}
    assert said == {
        "server asked to wait": (5, 5, 2, 3600),
        "transient network": (5, 2, 2, 300),
        "temporarily unavailable": (3, 1, 3, 30),
        "conflict": (3, 1, 2, 30),
    }
    assert [each.name for each in VERDICTS if each.severity is Severity.PAGE] == ["no space left"]
    assert not NOT_NAMED.may_retry
    assert not NOT_NAMED.symptoms


def test_what_further_days_would_meet_as_well_ends_a_range() -> None:
    assert {each.name: each.ends_range_after for each in VERDICTS if each.ends_range_after} == {
        "server asked to wait": 1,
        "transient network": 3,
        "access denied": 1,
        "misconfigured": 1,
        "storage refused": 1,
        "no space left": 1,
    }


def test_no_symptom_stands_in_two_rows_and_every_kind_of_error_in_one() -> None:
    counts = Counter(symptom for verdict in VERDICTS for symptom in verdict.symptoms)
    assert {symptom: count for symptom, count in counts.items() if count > 1} == {}
    tree = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.PipelineError)]
    kinds = {each.kind for each in tree}
    # What ends a command, or keeps the definitions from loading, is never raised within a step and has no row.
    elsewhere = {"kind:pipeline", "kind:usage", "kind:state_unreadable", "kind:dagster_refused", "kind:plan_outdated"}
    elsewhere |= {"kind:no_answer", "kind:watch_lost", "kind:backfill_held", "kind:worker_died"}
    assert {f"kind:{kind}" for kind in kinds} - counts.keys() == elsewhere


GROUPS = (errors.MustChange, errors.MayPass, errors.Unknown)


def test_every_error_is_in_one_group_and_only_those_that_may_pass_are_tried_again() -> None:
    tree = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.PipelineError)]
    for each in set(tree) - {errors.PipelineError, *GROUPS}:
        assert sum(issubclass(each, group) for group in GROUPS) == 1, each
        assert verdict_for(each("x")).may_retry == issubclass(each, errors.MayPass), each


def test_an_adopters_own_error_is_tried_again_if_its_group_may_pass() -> None:
    class Flaky(errors.MayPass):
        """Of a library that raises what no row names."""

    class Wrong(errors.MustChange):
        """Of the same."""

    assert verdict_for(Flaky("x")).name == BUSY.name
    assert verdict_for(Wrong("x")).name == NOT_NAMED.name


def test_a_kind_of_an_adopters_own_error_is_its_parents_row_unless_it_has_one() -> None:
    class Mine(errors.StoreBusy):
        kind = "mine"

    assert verdict_for(Mine("x")).name == BUSY.name
    own = Verdict("mine", "mine", frozenset({"kind:mine"}), max_retries=9)
    assert verdict_for(Mine("x"), [*VERDICTS, own]).max_retries == 9
    assert kind_of(Mine("x"), own) == "mine"


def test_the_kind_is_the_projects_or_else_the_verdicts() -> None:
    assert kind_of(errors.LandingUnavailable("x"), NETWORK) == "landing_unavailable"
    assert kind_of(caused_by(errors.StorageFull("x")), FULL) == "storage_full"
    assert kind_of(TimeoutError(), NETWORK) == "network"
    assert kind_of(ValueError(), NOT_NAMED) == "bug"


def test_a_verdict_that_is_no_longer_in_the_table_is_not_named() -> None:
    assert verdict_named("conflict") is CONFLICT
    assert verdict_named("of an older version") is NOT_NAMED


def test_an_error_that_is_its_own_cause_is_judged_all_the_same() -> None:
    error = RuntimeError("round")
    error.args = (error,)
    assert verdict_for(error) is NOT_NAMED


# --- delays


@pytest.mark.parametrize(
    ("verdict", "waits"),
    [(THROTTLED, [5, 10, 20, 40, 80]), (NETWORK, [2, 4, 8, 16, 32]), (BUSY, [1, 3, 9]), (CONFLICT, [1, 2, 4])],
    ids=lambda each: each.name if isinstance(each, Verdict) else "",
)
def test_the_backoff_is_exponential_and_jitter_takes_up_to_half_of_it(verdict: Verdict, waits: list[float]) -> None:
    numbers = range(1, verdict.max_retries + 1)
    assert [delay_seconds(verdict, number, 1.0) for number in numbers] == waits
    assert [delay_seconds(verdict, number, 0.0) for number in numbers] == [wait / 2 for wait in waits]


def test_what_the_server_asked_for_is_waited_for_and_jitter_comes_on_top() -> None:
    assert delay_seconds(THROTTLED, 1, 0.0, 600) == 600
    assert delay_seconds(THROTTLED, 1, 1.0, 600) == 605
    assert delay_seconds(THROTTLED, 3, 1.0, 0) == 20  # it may ask for less than the backoff; the backoff stays
    assert delay_seconds(THROTTLED, 1, 0.5, 7 * 86400) == LONGEST_WAIT_SECONDS


@given(
    verdict=st.sampled_from(RETRIED),
    number=st.integers(1, 10**6),
    jitter=st.floats(0, 1),
    asked=st.none() | st.floats(0, 1e12),
)
def test_a_wait_is_never_shorter_than_asked_for_nor_longer_than_the_bound(
    verdict: Verdict, number: int, jitter: float, asked: float | None
) -> None:
    wait = delay_seconds(verdict, number, jitter, asked)
    assert 0 < wait <= LONGEST_WAIT_SECONDS
    assert wait >= min(asked or 0, LONGEST_WAIT_SECONDS)
    if asked is None:
        assert wait <= verdict.cap_seconds
        assert wait <= delay_seconds(verdict, number + 1, jitter)


# --- what servers say


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("1.5", 1.5),
        ("Fri, 20 Nov 2026 12:10:00 GMT", 600),  # IMF-fixdate
        ("Friday, 20-Nov-26 12:10:00 GMT", 600),  # RFC 850
        ("Fri Nov 20 12:10:00 2026", 600),  # asctime
        ("Fri, 20 Nov 2026 13:10:00 +0100", 600),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
        ("", None),
        ("-5", None),
        ("+5", None),
        ("soon", None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Fri, 31 Feb 2026 12:00:00 GMT", None),
        ("Fri, 20 Nov 99999999 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms_and_garbage_is_none(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@given(
    st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} -?[0-9]{1,9} [0-9:]{1,9} (GMT|[-+][0-9]{1,9})")
)
def test_no_header_is_an_error(header: str) -> None:
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**7))
def test_a_date_and_its_seconds_are_one_wait(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_seconds(date, NOW) == retry_after_seconds(str(seconds), NOW) == seconds


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (lambda: errors.LandingUnavailable("429", retry_after_seconds=7), 7),
        (lambda: caused_by(answered(503, Retry_After="7"), errors.LandingUnavailable("503")), 7),
        (lambda: answered(429, retry_after="Fri, 20 Nov 2026 12:00:07 GMT"), 7),
        (lambda: answered(429), None),
        (lambda: answered(429, Retry_After="soon"), None),
        (lambda: urllib_answered(503, Retry_After="7"), 7),
        (lambda: aws("SlowDown", 503, {"retry-after": "7"}), 7),
        (lambda: aws("SlowDown", 503), None),
        (lambda: ExceptionGroup("g", [answered(429, Retry_After="3"), answered(429, Retry_After="7")]), 7),
        (lambda: ValueError("7"), None),
    ],
    ids=["landing", "below", "requests", "silent", "garbage", "urllib", "aws", "aws silent", "group", "bug"],
)
def test_what_the_server_asked_for_is_found_on_the_error(error: Callable[[], Exception], seconds: float | None) -> None:
    assert asked_to_wait_seconds(error(), NOW) == seconds
