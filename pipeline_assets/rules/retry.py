"""What may pass next time, and after how long: the verdict table, as data.

Belongs here: which error gets which verdict, and the delays. Does not: how an error is read (`symptoms`), nor how a
verdict is carried out (`orchestration.retry`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline_assets.errors import PipelineError
from pipeline_assets.rules.alerts import Severity
from pipeline_assets.rules.symptoms import TOLD_TO_WAIT, UNTRUSTED, links, symptoms_of

LONGEST_WAIT_SECONDS = 3600.0
"""A server that asks for more is asked again after an hour: by then it may have been told another date."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table of verdicts.

    Args:
        kind: of errors that are not the project's own, which have theirs.
        symptoms: words of `symptoms_of`.
        max_retries: after the first attempt, over all of Dagster's layers together; 0 is "fail now".
        base_seconds: the wait before the first retry; each further one is `factor` times the one before.
        cap_seconds: no backoff is longer. What a server asked for may be.
        severity: when it is final.
        ends_range_after: failed days in a row after which a range is not gone on with, as further days would meet
            the same; None if days are independent.
    """

    name: str
    kind: str
    symptoms: frozenset[str] = frozenset()
    max_retries: int = 0
    base_seconds: float = 0.0
    factor: float = 2.0
    cap_seconds: float = LONGEST_WAIT_SECONDS
    severity: Severity = Severity.ALERT
    ends_range_after: int | None = None

    @property
    def may_retry(self) -> bool:
        """True unless the first attempt must be the last."""
        return self.max_retries > 0


def _words(prefix: str, listed: str) -> frozenset[str]:
    return frozenset(f"{prefix}:{word}" for word in listed.split())


NOT_NAMED = Verdict("not named", "bug")
"""A bug is not transient."""
THROTTLED = Verdict(
    "server asked to wait",
    "busy",
    frozenset({TOLD_TO_WAIT}) | _words("http", "429 503"),
    max_retries=5,
    base_seconds=5,
    ends_range_after=1,
)
NETWORK = Verdict(
    "transient network",
    "network",
    _words("kind", "landing_unavailable")
    | _words("http", "408 425 500 502 504")
    | _words("code", "RequestTimeout RequestTimeoutException InternalError InternalFailure")
    | _words("sql", "08 57P01 57P02 57P03")
    | _words("errno", "ECONNRESET ECONNREFUSED ECONNABORTED EPIPE ETIMEDOUT ENETUNREACH ENETDOWN ENETRESET")
    | _words("errno", "EHOSTUNREACH EHOSTDOWN")
    | _words("class", "builtins.TimeoutError builtins.ConnectionError socket.gaierror socket.herror")
    | _words("class", "ssl.SSLEOFError ssl.SSLZeroReturnError http.IncompleteRead urllib.ContentTooShortError")
    | _words("class", "requests.ConnectionError requests.Timeout requests.ChunkedEncodingError requests.RetryError")
    | _words("class", "urllib3.TimeoutError urllib3.ProtocolError urllib3.MaxRetryError urllib3.NewConnectionError")
    | _words("class", "httpx.TimeoutException httpx.NetworkError httpx.RemoteProtocolError")
    | _words("class", "httpcore.TimeoutException httpcore.NetworkError httpcore.RemoteProtocolError")
    | _words("class", "botocore.ConnectionError botocore.HTTPClientError botocore.ResponseStreamingError"),
    max_retries=5,
    base_seconds=2,
    cap_seconds=300,
    # One reset among good days is that day's; three in a row are a host that is down.
    ends_range_after=3,
)
BUSY = Verdict(
    "temporarily unavailable",
    "busy",
    _words("kind", "busy landing_in_progress")
    | _words("errno", "EAGAIN EBUSY EDEADLK")
    | _words("sql", "40001 40P01 55P03 53300")
    | _words("code", "SlowDown Throttling ThrottlingException ThrottledException TooManyRequestsException")
    | _words("code", "RequestThrottled RequestThrottledException RequestLimitExceeded BandwidthLimitExceeded")
    | _words("code", "ProvisionedThroughputExceededException ServiceUnavailable OperationAborted")
    | _words("code", "ConditionalRequestConflict PriorRequestNotComplete TransactionInProgressException")
    | _words("class", "builtins.BlockingIOError pipeline_assets.MayPass"),
    max_retries=3,
    base_seconds=1,
    factor=3,
    cap_seconds=30,
)
CONFLICT = Verdict("conflict", "conflict", _words("kind", "conflict"), max_retries=3, base_seconds=1, cap_seconds=30)
DENIED = Verdict(
    "access denied",
    "access_denied",
    frozenset({UNTRUSTED})
    | _words("kind", "access_denied")
    | _words("http", "401 403 407")
    | _words("sql", "28 42501")
    | _words("code", "AccessDenied AccessDeniedException AllAccessDisabled AuthFailure UnauthorizedOperation")
    | _words("code", "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken ExpiredTokenException InvalidToken")
    | _words("code", "InvalidClientTokenId UnrecognizedClientException RequestTimeTooSkewed")
    | _words("class", "botocore.NoCredentialsError botocore.PartialCredentialsError botocore.TokenRetrievalError"),
    ends_range_after=1,
)
BROKEN = Verdict("contract broken", "contract", _words("kind", "contract partition_mismatch"))
UNUSABLE = Verdict("unusable input", "landing", _words("kind", "landing landing_missing missing damaged"))
MISCONFIGURED = Verdict("misconfigured", "settings", _words("kind", "settings source definition"), ends_range_after=1)
REFUSED = Verdict(
    "storage refused",
    "storage_refused",
    _words("kind", "storage_refused") | _words("errno", "EROFS"),
    ends_range_after=1,
)
FULL = Verdict(
    "no space left",
    "storage_full",
    _words("kind", "storage_full")
    | _words("errno", "ENOSPC EDQUOT EFBIG")
    | _words("sql", "53100")
    | _words("http", "507")
    | _words("code", "QuotaExceededException ServiceQuotaExceededException"),
    severity=Severity.PAGE,
    ends_range_after=1,
)
VERDICTS = (THROTTLED, NETWORK, BUSY, CONFLICT, DENIED, BROKEN, UNUSABLE, MISCONFIGURED, REFUSED, FULL)
"""In no order: no symptom stands in two rows."""


def verdict_for(error: BaseException, verdicts: Sequence[Verdict] = VERDICTS) -> Verdict:
    """The row of the outermost error that has one, an error of the project before any other; of a group, the gravest.

    An error of no row gets `NOT_NAMED`.
    """
    found = links(error)
    for link in [*(each for each in found if isinstance(each, PipelineError)), *found]:
        if isinstance(link, BaseExceptionGroup):
            return min(
                (verdict_for(each, verdicts) for each in link.exceptions),
                key=lambda each: (each.may_retry, each.severity is not Severity.PAGE, each.max_retries),
            )
        for symptom in symptoms_of(link):
            for verdict in verdicts:
                if symptom in verdict.symptoms:
                    return verdict
    return NOT_NAMED


def kind_of(error: BaseException, verdict: Verdict) -> str:
    """The stable kind of errors.py if the error is one of the project's or was raised from one, else the verdict's."""
    return next((each.kind for each in links(error) if isinstance(each, PipelineError)), verdict.kind)


def verdict_named(name: str, verdicts: Sequence[Verdict] = VERDICTS) -> Verdict:
    """The row of that name; `NOT_NAMED` if there is none, or no longer."""
    return next((each for each in verdicts if each.name == name), NOT_NAMED)


def delay_seconds(
    verdict: Verdict, retry_number: int, jitter: float, retry_after_seconds: float | None = None
) -> float:
    """The wait before a retry: between half and all of an exponential backoff, and no less than the server asked for.

    Args:
        retry_number: from 1.
        jitter: 0 to 1, so that many who failed together do not come back together.
        retry_after_seconds: what the server asked for; the jitter is added to it.
    """
    # Further doublings would be above any cap, and overflow.
    backoff = min(verdict.base_seconds * verdict.factor ** min(retry_number - 1, 64), verdict.cap_seconds)
    wait = backoff * (0.5 + 0.5 * jitter)
    if retry_after_seconds is not None:
        wait = max(wait, retry_after_seconds + verdict.base_seconds * jitter)
    return min(wait, LONGEST_WAIT_SECONDS)
