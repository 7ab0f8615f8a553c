"""Brings the local copy of a day's landing file up to date: not at all if it is, and from where it was cut off if not.

Belongs here: conditional requests, ranges, and that what came is whole. Does not: what other answers mean
(client.py), where bytes lie (cache.py).
"""

from datetime import date
from http import HTTPStatus

import requests

from pipeline_assets.errors import LandingError, LandingUnavailable
from pipeline_assets.store.http.cache import Copy, DayCache
from pipeline_assets.store.http.client import BodyCutOff, HttpClient
from pipeline_assets.store.http.validators import Validators, content_range, is_chunked

CHUNK_BYTES = 1 << 18
_EXPECTED = {
    HTTPStatus.OK,
    HTTPStatus.PARTIAL_CONTENT,
    HTTPStatus.NOT_MODIFIED,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}


class _CutOff(Exception):
    """What came is not whole. `from_start`: what was begun is of no use, and was dropped."""

    def __init__(self, message: str, *, from_start: bool = False) -> None:
        super().__init__(message)
        self.from_start = from_start


def bring_up_to_date(day: date, client: HttpClient, cache: DayCache, *, resumes: int) -> Copy:
    """The day's file as the server has it. The cache is locked by the caller.

    Args:
        resumes: how many cuts are mended at once, each only after more bytes than ever before had come.

    Raises:
        LandingUnavailable: it was cut off. What came is kept, and the next call resumes it, if the server lets it.
        AccessDenied, LandingMissing, LandingError: as the server answered.
    """
    furthest = _reached(cache)
    for attempt in range(resumes + 1):
        try:
            return _fetch(day, client, cache)
        except _CutOff as cut:
            reached = _reached(cache)
            if attempt == resumes or not (cut.from_start or reached > furthest):
                raise LandingUnavailable(
                    f"{client.about(day)} {cut}. Nothing of the day was changed; run it again later"
                    f"{f', and it is resumed at byte {reached:,}' if reached else ''}."
                ) from None
            furthest = max(furthest, reached)
    raise AssertionError  # the last attempt returned or raised


def _fetch(day: date, client: HttpClient, cache: DayCache) -> Copy:
    """One request for what is missing."""
    copy, begun = cache.copy(), cache.begun()
    at = 0 if begun is None else _resume_at(*begun)
    headers = _conditions(copy)
    if begun is not None and at:
        headers |= {"Range": f"bytes={at}-", "If-Range": begun[0].resume_condition or ""}
    with client.answer("GET", day, headers, expected=_EXPECTED) as response:
        seen = Validators.of(response.headers, status=response.status_code)
        if response.status_code == HTTPStatus.OK:
            _check_end_is_told(day, client, response, seen)
            cache.begin(seen)
            return _receive(client, cache, response, seen, at=0)
        if response.status_code == HTTPStatus.NOT_MODIFIED and copy is not None:
            if copy.validators.etag is None and seen.last_modified not in {None, copy.validators.last_modified}:
                cache.forget_copy()  # "not modified since" is true of an older file as well
                raise _CutOff("was put back to an older file", from_start=True)
            cache.drop()
            return copy
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and begun is not None and at:
            part = content_range(response.headers)
            if part is not None and part[0] == at and _continues(begun[0], seen):
                return _receive(client, cache, response, begun[0].with_rest(seen), at=at)
    if not at:
        raise LandingError(
            f"{client.about(day)} answered {response.status_code} to a request for the whole file. Check that the "
            "server hands out files as they are."
        )
    cache.drop()
    raise _CutOff(f"cannot be resumed at byte {at:,}: it answered {response.status_code}", from_start=True)


def _receive(
    client: HttpClient, cache: DayCache, response: requests.Response, expected: Validators, *, at: int
) -> Copy:
    """Take the body, whose first byte is this one of the file, and look whether the file then is whole."""
    size_bytes, how = at, "the connection was closed before the end"
    with cache.writing(at) as file:
        try:
            for chunk in client.body(response, CHUNK_BYTES):
                file.write(chunk)
                file.flush()
                size_bytes += len(chunk)
            whole = size_bytes == (size_bytes if expected.size_bytes is None else expected.size_bytes)
        except BodyCutOff as interrupted:
            whole, how = False, str(interrupted)
    if not whole:
        if expected.resume_condition is None or response.headers.get("Accept-Ranges", "").lower() == "none":
            cache.drop()
        of = "" if expected.size_bytes is None else f" of {expected.size_bytes:,}"
        raise _CutOff(f"was cut off after {size_bytes:,}{of} bytes: {how}")
    algorithm, promised = expected.checksum or (None, "")
    content, found = cache.digests(algorithm)
    if algorithm is not None and found != promised:
        cache.drop()
        raise _CutOff(f"came with {size_bytes:,} bytes whose {algorithm} is {found}, and promised {promised}")
    return cache.keep(expected, content)


def _check_end_is_told(day: date, client: HttpClient, response: requests.Response, seen: Validators) -> None:
    if seen.size_bytes is None and seen.checksum is None and not is_chunked(response.headers):
        raise LandingError(
            f"{client.about(day)} was sent without length or checksum, so that nobody can tell whether all of it came. "
            "Let the server send Content-Length, or chunks."
        )


def _conditions(copy: Copy | None) -> dict[str, str]:
    if copy is None:
        return {}
    said = copy.validators
    if said.etag:
        return {"If-None-Match": said.etag}
    return {"If-Modified-Since": said.since} if said.since else {}


def _resume_at(begun: Validators, size_bytes: int) -> int:
    """The byte to ask for next; 0 when what was begun is of no use."""
    if begun.resume_condition is None:
        return 0
    # One that came whole, and whose process was killed before it knew, is asked for its last byte once more.
    return size_bytes if begun.size_bytes is None else max(min(size_bytes, begun.size_bytes - 1), 0)


def _continues(begun: Validators, rest: Validators) -> bool:
    """True unless the rest says that it is of other content. A 206 may leave out what If-Range has settled."""
    if rest.etag is None and rest.last_modified is None:
        return rest.size_bytes in {None, begun.size_bytes}
    return begun.same_content(rest)


def _reached(cache: DayCache) -> int:
    begun = cache.begun()
    return begun[1] if begun else 0
