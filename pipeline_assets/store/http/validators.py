"""What a server says about the content of a URL without sending it: ETag, Last-Modified, length, checksums.

Belongs here: reading the headers, and telling whether two answers speak of the same content. RFC 9110 (validators,
ranges), RFC 9530 (Repr-Digest), RFC 3230 (Digest). Does not: requests, files.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}
"""Names in headers and in hashlib; the first that a server sends is the one that is checked."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Validators:
    """What one answer said of the whole content, whatever part of it the answer held."""

    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Hex digits by the algorithm's name in headers."""
    age_seconds: float | None = field(default=None, compare=False)
    """From Last-Modified to the answer, by the server's own clock."""

    @classmethod
    def of(cls, headers: Mapping[str, str], *, status: int) -> Validators:
        """Read the headers of a 200 or 206."""
        whole = status != HTTPStatus.PARTIAL_CONTENT
        part = None if whole else content_range(headers)
        return cls(
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
            size_bytes=_length(headers) if whole else part and part[1],
            checksums=dict(_checksums(headers, whole=whole)),
            age_seconds=_age_seconds(headers),
        )

    @property
    def text(self) -> str:
        """Write all but the age as text, to be compared."""
        return repr(asdict(self) | {"age_seconds": None})

    @property
    def since(self) -> str | None:
        """Give Last-Modified if a change after this answer must have changed it: it counts in whole seconds."""
        return None if self.age_seconds is not None and self.age_seconds < 1 else self.last_modified

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Give algorithm and hex digits of the checksum to verify with, if one was sent."""
        return next(((name, self.checksums[name]) for name in ALGORITHMS if name in self.checksums), None)

    @property
    def resume_condition(self) -> str | None:
        """Give what to say in If-Range; None when nothing proves that a rest belongs to the same content.

        A date proves it only if the server says that the content is older (RFC 9110, 8.8.2.2).
        """
        if self.etag is not None:
            return None if self.etag.startswith("W/") else self.etag
        return None if self.age_seconds is None else self.since

    @property
    def identity(self) -> str | None:
        """Identify the content, as far as this answer tells; None if it tells nothing.

        An S3 ETag is an MD5 of the content for some uploads only, so no ETag is ever compared with the bytes.
        """
        if self.checksum:
            return " ".join(self.checksum)
        if self.etag:
            return f"etag {_weak(self.etag)}"
        return f"modified {self.last_modified} {self.size_bytes}" if self.last_modified else None

    def with_rest(self, rest: Validators) -> Validators:
        """Join what this answer, which was cut off, and the one that goes on with it say."""
        checksums = {**rest.checksums, **self.checksums}
        return replace(self, size_bytes=self.size_bytes or rest.size_bytes, checksums=checksums)

    def same_content(self, before: Validators) -> bool:
        """True when this answer and an earlier one speak of the same content, by the best that both have."""
        if None not in (self.size_bytes, before.size_bytes) and self.size_bytes != before.size_bytes:
            return False
        for name in ALGORITHMS:
            if name in self.checksums and name in before.checksums:
                return self.checksums[name] == before.checksums[name]
        if self.etag and before.etag:
            return _weak(self.etag) == _weak(before.etag)
        return self.last_modified is not None and self.last_modified == before.since


def content_range(headers: Mapping[str, str]) -> tuple[int, int | None] | None:
    """First byte of a 206's body and size of the whole, if that is known; None without a readable Content-Range."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None
    return int(found[1]), None if found[3] == "*" else int(found[3])


def is_chunked(headers: Mapping[str, str]) -> bool:
    """True when the body tells its own end."""
    return "chunked" in headers.get("Transfer-Encoding", "").lower()


def server_time(headers: Mapping[str, str]) -> datetime | None:
    """Say when the answer was made, by the server's clock."""
    return _date(headers.get("Date"))


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() and not is_chunked(headers) else None


def _age_seconds(headers: Mapping[str, str]) -> float | None:
    sent, modified = server_time(headers), _date(headers.get("Last-Modified"))
    return (sent - modified).total_seconds() if sent and modified else None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def _checksums(headers: Mapping[str, str], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Checksums of the whole content, the most explicit header last, so that it counts."""
    if whole and "Content-MD5" in headers:  # in a 206 it is of the part
        yield "md5", _hex(headers["Content-MD5"])
    # What Cloud Storage unpacks on the way no longer has the checksum of what it stores.
    if headers.get("x-goog-stored-content-encoding", "identity") == headers.get("Content-Encoding", "identity"):
        yield from _listed(headers.get("x-goog-hash", ""))
    yield from _listed(headers.get("Digest", ""))
    yield from _listed(headers.get("Repr-Digest", ""))


def _listed(text: str) -> Iterator[tuple[str, str]]:
    for entry in text.split(","):
        name, _, value = entry.strip().partition("=")
        if name.lower() in ALGORITHMS:
            yield name.lower(), _hex(value)


def _hex(text: str) -> str:
    """A value that cannot be decoded stays as it is: it equals no checksum, and is seen in the error."""
    try:
        return base64.b64decode(text.strip().strip(":"), validate=True).hex()
    except ValueError:
        return text


def _weak(etag: str) -> str:
    return etag.removeprefix("W/")
