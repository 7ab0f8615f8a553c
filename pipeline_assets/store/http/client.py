"""One request for the landing file of a day, and which of the project's errors an answer, or none, is.

Belongs here: the session, credentials, time-outs, Retry-After, and words for people. Does not: what is done with a
body; waiting and trying again, which is for whoever calls the landing zone, by the error that is raised.

Errors never carry a token, nor user, password or query of a URL. `requests` puts the URL into its own messages, so
those are read for the cause and then let go. (urllib3 logs paths with their queries when its DEBUG logging is on.)
"""

import math
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http import HTTPStatus
from http.client import IncompleteRead

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipeline_assets.errors import (
    AccessDenied,
    LandingError,
    LandingMissing,
    LandingUnavailable,
    PipelineError,
    SettingsError,
)
from pipeline_assets.store.http.day_url import DayUrl
from pipeline_assets.store.http.validators import server_time
from pipeline_assets.store.landing import RetryAfter

_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}
_MISSING = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True)
class HttpClient:
    """Sends the requests of a landing zone. Proxies, certificates and .netrc are those of the environment.

    Args:
        url: of each day.
        retry_after: seconds that a Retry-After header asks for at a given time, None if it cannot be read.
        token: sent as a bearer token to the host of the URL alone, whatever that redirects to.
        connect_seconds: for one connection.
        read_seconds: without a single byte, before the headers or between two pieces of the body.
        now: the clock, for servers that do not tell theirs.

    Raises:
        SettingsError: the token is none, or it or a password would be sent where others can read it.
    """

    url: DayUrl
    retry_after: RetryAfter
    token: str | None = field(default=None, repr=False)
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _session: requests.Session = field(default_factory=requests.Session, init=False)

    def __post_init__(self) -> None:
        self._session.headers["User-Agent"] = "pipeline-assets"
        if (self.token or self.url.has_password) and not self.url.is_private:
            raise SettingsError(
                f"{self.url.shown_template}: a token or password would be sent over plain http, where others can read "
                "it. Use https in PIPELINE_LANDING; plain http is for servers of this machine."
            )
        if self.token and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise SettingsError(
                "PIPELINE_LANDING_TOKEN holds a space, a line end or another character that no token has"
            )

    @contextmanager
    def answer(
        self,
        method: str,
        day: date,
        headers: Mapping[str, str],
        *,
        expected: Collection[int],
        longest_seconds: float = math.inf,
    ) -> Iterator[requests.Response]:
        """Send a request and give the answer with its body unread; redirects are followed.

        Args:
            longest_seconds: to wait for a connection, or for the headers, if that is less than the client's own.

        Raises:
            AccessDenied, LandingMissing, LandingUnavailable, LandingError: no answer, or a status that is not expected.
        """
        connect, read = min(self.connect_seconds, longest_seconds), min(self.read_seconds, longest_seconds)
        try:
            response = self._session.request(
                method,
                self.url.of(day),
                # As it is stored: a body that is packed on the way has no length, and no rest that could be asked for.
                headers={"Accept-Encoding": "identity", **headers},
                auth=self._authorized if self.token else None,
                timeout=(connect, read),
                stream=True,
            )
        except requests.RequestException as error:
            raise self._unanswered(day, _cause(error, connect, read), error) from None
        with response:
            if response.status_code not in expected:
                raise self._refusal(day, response)
            if method == "HEAD" or response.status_code == HTTPStatus.NOT_MODIFIED:
                _ = response.content  # nothing; and the connection is kept for the next day
            yield response

    def body(self, response: requests.Response, chunk_bytes: int) -> Iterator[bytes]:
        """Give the body as it was sent, piece by piece, each as soon as it is here.

        Raises:
            BodyCutOff: it was cut off; the words say how.
        """
        while True:
            try:
                chunk = response.raw.read1(chunk_bytes, decode_content=False)
            except (HTTPError, OSError) as error:
                raise BodyCutOff(_cause(error, self.connect_seconds, self.read_seconds)) from None
            if not chunk:
                return
            yield chunk

    def about(self, day: date) -> str:
        """Name the day and its URL, for the beginning of a message."""
        return f"{day}: {self.url.shown(day)}"

    def _authorized(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """As `auth`, not as a header, which .netrc would replace. On a redirect to another host requests drops it."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request

    def _refusal(self, day: date, response: requests.Response) -> PipelineError:
        status = response.status_code
        said = f"{self.about(day)} answered {status}{f' {response.reason}' if response.reason else ''}"
        if status in _DENIED:
            how = "the token in PIPELINE_LANDING_TOKEN is not accepted" if self.token else "it wants credentials"
            return AccessDenied(f"{said}: {how}. Check PIPELINE_LANDING_TOKEN and what it may read.")
        if status in _MISSING:
            return LandingMissing(
                f"{said}: the day has no landing file. Deliver it, an empty one if nothing happened that day; or check "
                "PIPELINE_LANDING. A day without an answer is not taken for a day without events."
            )
        if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # A date to wait for is by the server's clock, so its distance is too.
            header, now = response.headers.get("Retry-After"), server_time(response.headers) or self.now()
            seconds = None if header is None else self.retry_after(header, now)
            asked = "" if seconds is None else f" and asked to wait {seconds:g} s"
            return LandingUnavailable(
                f"{said}{asked}. Nothing of the day was changed; run it again later.", retry_after_seconds=seconds
            )
        return LandingError(f"{said}, which is no landing file. Check PIPELINE_LANDING.")

    def _unanswered(self, day: date, cause: str, error: requests.RequestException) -> PipelineError:
        said = f"{self.about(day)} gave no answer: {cause}"
        if _found(error, ssl.SSLCertVerificationError) is not None:
            return LandingError(f"{said}. Certificates are always checked; REQUESTS_CA_BUNDLE names further ones.")
        if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
            return LandingUnavailable(f"{said}. Nothing of the day was changed; run it again later.")
        return LandingError(f"{said}. Check PIPELINE_LANDING.")


class BodyCutOff(Exception):
    """A body that was cut off. Never leaves the store."""


def _found(
    error: BaseException, kind: type[BaseException], *, without: type[BaseException] | tuple[()] = ()
) -> BaseException | None:
    """The error itself or the nearest behind it that is of a kind."""
    each: BaseException | None = error
    while each is not None and (not isinstance(each, kind) or isinstance(each, without)):
        each = each.__cause__ or each.__context__
    return each


def _cause(error: Exception, connect_seconds: float, read_seconds: float) -> str:
    """What happened, in words that hold nothing of the URL."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {connect_seconds:g} s"
    if isinstance(error, requests.ReadTimeout) or _found(error, ReadTimeoutError):
        return f"silent for {read_seconds:g} s"
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if _found(error, IncompleteRead):
        return "the connection was closed before the end"
    system = _found(error, OSError, without=requests.RequestException)
    return str(getattr(system, "strerror", None) or type(system or error).__name__)
