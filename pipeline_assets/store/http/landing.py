"""A landing zone on an HTTP server: one file a day, at a URL that is made from the day.

Belongs here: what the pipeline asks of a landing zone, answered by a server and a cache. Does not: requests
(client.py), downloads (download.py), the copies on disk (cache.py), templates (day_url.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from http import HTTPStatus
from pathlib import Path

import requests
import xxhash

from pipeline_assets.errors import LandingInProgress, LandingMissing
from pipeline_assets.store.http.cache import Copy, DayCache, fingerprint_of
from pipeline_assets.store.http.client import HttpClient
from pipeline_assets.store.http.download import bring_up_to_date
from pipeline_assets.store.http.validators import Validators
from pipeline_assets.store.landing import LandingFile, LastChange, Look, opener_of

RESUMES = 5
"""Enough for a bad line; a server that cuts off more often has a trouble that waiting mends better."""
LOCK_WAIT_SECONDS = 300.0
"""For the download of another process; its copy is then taken from the disk."""
LOOK_SECONDS = 10.0
"""A look waits no longer for anything: it is made in a sensor's tick, for many days in a row."""
SETTLE_SECONDS = 5.0
"""A file that the server calls younger than this may still be being written to its disk."""

_NO_HEAD = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}


class HttpLanding:
    """Landing files by arrival day on an HTTP server: a `Landing`.

    Args:
        client: see `HttpClient`.
        cache: folder for local copies, made when it is missing; it may be deleted at any time.
        resumes: cuts of one download that are mended at once.
        lock_wait_seconds: how long to wait for another process that downloads the same.
        settle_seconds: see SETTLE_SECONDS.
    """

    seconds_between_looks = 60
    """Each look is a request for every day of the look-back."""

    def __init__(
        self,
        client: HttpClient,
        *,
        cache: Path,
        resumes: int = RESUMES,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._client = client
        self._url = client.url
        self._cache = cache / xxhash.xxh3_64_hexdigest(self._url.identity.encode())
        self._resumes = resumes
        self._lock_wait_seconds = lock_wait_seconds
        self._settle_seconds = settle_seconds

    def __repr__(self) -> str:
        return f"HttpLanding({self._url.shown_template})"

    def days(self) -> list[date] | None:
        """None: a URL cannot be listed. So PIPELINE_START says where the history begins."""
        return None

    def last_change(self, day: date) -> LastChange | None:  # noqa: ARG002 - other zones need the day
        """None: a server is asked for a day by `look`."""
        return None

    def files(self, day: date) -> list[LandingFile]:
        """Give the day's file, downloaded, or found unchanged since it was.

        Raises:
            LandingMissing: 404 or 410. A day without events needs an empty file: a wrong URL is no empty history.
            LandingUnavailable: no answer, or not the whole of it; it may come next time.
            AccessDenied: 401, 403 or 407.
            LandingError: another answer, which will be the same next time.
        """
        return self._files(day, self._lock_wait_seconds)

    def _files(self, day: date, lock_wait_seconds: float) -> list[LandingFile]:
        cache = self._day_cache(day)
        with cache.locked(lock_wait_seconds):
            copy = bring_up_to_date(day, self._client, cache, resumes=self._resumes)
        return [LandingFile(self._name(day), copy.size_bytes, copy.stamp, opener_of(cache.path))]

    def unfinished(self, day: date) -> list[str]:  # noqa: ARG002 - other zones need the day
        """Give no names: what is being uploaded cannot be seen from here."""
        return []

    def check_complete(self, day: date, files: Sequence[LandingFile]) -> None:
        """Make sure that the copies are those that were listed. No server is asked: a copy is one whole answer."""
        if files:
            self._listed(day, files)

    def fingerprint(self, day: date, files: Sequence[LandingFile]) -> str:
        """Give what `look` says of the same content, 32 hex digits; of no files, what a folder without files has."""
        return self._listed(day, files).fingerprint if files else xxhash.xxh3_128_hexdigest(b"")

    def look(self, day: date, before: Look | None = None) -> Look:  # noqa: ARG002 - the headers tell more
        """Ask for the headers of the day's file, in one request.

        The file is downloaded where they cannot tell: they changed and the length did not, which may be the same file
        delivered again; and each time if the server sends neither ETag, Last-Modified nor checksum.
        """
        try:
            return self._looked(day)
        except LandingMissing:
            return Look("", None, settled=True)

    def _looked(self, day: date) -> Look:
        cache = self._day_cache(day)
        copy = cache.copy()
        seen = self._headers(day, copy)
        stamp = fingerprint_of(self._name(day), seen.text)
        if seen.age_seconds is not None and seen.age_seconds < self._settle_seconds:
            return Look(stamp, None, settled=False)
        if copy is not None and seen.same_content(copy.validators):
            return Look(stamp, copy.fingerprint, settled=True)
        if seen.identity is None:
            fingerprint = self._downloaded_fingerprint(day)
            return Look(fingerprint, fingerprint, settled=True)
        if copy is not None and seen.size_bytes == copy.size_bytes:
            return Look(stamp, self._downloaded_fingerprint(day), settled=True)
        if copy is not None and copy.validators.etag is None and seen.last_modified == copy.validators.last_modified:
            cache.forget_copy()  # another length under the same date: a conditional request would not be sent it
        return Look(stamp, fingerprint_of(self._url.file_name(day), seen.identity), settled=True)

    def _headers(self, day: date, copy: Copy | None) -> Validators:
        """What the server says of the day's file now; what it said of the copy, if nothing changed since."""
        # By ETag alone: "not modified since" is true of a file that was put back to an older one as well.
        conditions = {"If-None-Match": copy.validators.etag} if copy is not None and copy.validators.etag else {}
        usual = {HTTPStatus.OK, HTTPStatus.NOT_MODIFIED} if conditions else {HTTPStatus.OK}
        ask = partial(self._client.answer, day=day, headers=conditions, longest_seconds=LOOK_SECONDS)
        with ask("HEAD", expected=usual | _NO_HEAD) as response:
            if response.status_code not in _NO_HEAD:
                return _said(response, copy)
        with ask("GET", expected=usual) as response:
            return _said(response, copy)

    def _downloaded_fingerprint(self, day: date) -> str:
        return self.fingerprint(day, self._files(day, min(self._lock_wait_seconds, LOOK_SECONDS)))

    def _listed(self, day: date, files: Sequence[LandingFile]) -> Copy:
        copy = self._day_cache(day).copy()
        if copy is None or [copy.stamp] != [file.stamp for file in files]:
            raise LandingInProgress(
                f"{self._name(day)}: the local copy was replaced or removed while it was read. Nothing of {day} was "
                "published; run the day again."
            )
        return copy

    def _name(self, day: date) -> str:
        return f"dt={day.isoformat()}/{self._url.file_name(day)}"

    def _day_cache(self, day: date) -> DayCache:
        return DayCache(self._cache / f"dt={day.isoformat()}", self._url.file_name(day))


def _said(response: requests.Response, copy: Copy | None) -> Validators:
    if response.status_code == HTTPStatus.NOT_MODIFIED and copy is not None:
        return replace(copy.validators, age_seconds=None)
    return Validators.of(response.headers, status=response.status_code)
