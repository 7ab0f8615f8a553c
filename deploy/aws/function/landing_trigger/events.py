"""What S3 said happened, whichever services carried it here.

Belongs here: the shapes of events, and which objects are landing files. Does not: what Dagster knows already.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import unquote_plus

CREATED = ("ObjectCreated", "Object Created")
REMOVED = ("ObjectRemoved", "LifecycleExpiration", "Object Deleted")
_HIDDEN = re.compile(r"[._].*|.*\.(tmp|temp|part|partial|inprogress|filepart|crdownload)|.*~", re.IGNORECASE)
_DAY_IS_COMPLETE = "_SUCCESS"
"""These two are copied from pipeline_assets/store/landing.py; a test holds them together."""
_SHOWN = 300
"""Characters of an event that an error quotes."""

_log = logging.getLogger(__name__)


class Malformed(ValueError):
    """An event that cannot be read. It fails, so that it ends in the dead-letter queue and not in nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """One object of the landing zone was written or removed.

    `etag` is empty for a removal. `sequencer` orders the events of one key; it is empty where a store gives none.
    """

    day: str
    bucket: str
    key: str
    event_name: str
    event_time: str
    etag: str
    sequencer: str
    version_id: str
    size_bytes: int | None

    def __str__(self) -> str:
        return f"{self.event_name} s3://{self.bucket}/{self.key} (etag {self.etag or '-'}, {self.sequencer or '-'})"

    def metadata(self) -> dict[str, Any]:
        """What the report says, and what later events are compared with."""
        said = {
            "s3_bucket": self.bucket,
            "s3_key": self.key,
            "etag": self.etag,
            "sequencer": self.sequencer,
            "event_name": self.event_name,
            "event_time": self.event_time,
            "version_id": self.version_id,
            "size_bytes": self.size_bytes,
        }
        return {name: value for name, value in said.items() if value not in ("", None)}


def unwrapped(message: object) -> list[object] | None:
    """What a service put into an envelope; None if this is no envelope but an event.

    Knows SQS, SNS (to Lambda, and to SQS), S3 notifications, and the test message that S3 sends when one is set up.

    Raises:
        Malformed: it is neither, or what is inside is not JSON.
    """
    match message:
        case {"Event": "s3:TestEvent"}:
            _log.info("ignored: the test message of S3")
            return []
        case {"body": str(inner)} | {"Sns": {"Message": str(inner)}} | {"Type": "Notification", "Message": str(inner)}:
            try:
                return [json.loads(inner)]
            except ValueError as error:
                raise Malformed(f"a message that is not JSON ({error}): {inner[:_SHOWN]!r}") from error
        case {"Records": [*records]}:
            return records
        case {"detail-type": str()} | {"eventName": str()}:
            return None
        case _:
            raise Malformed(f"neither an S3 event nor an envelope of SQS, SNS or EventBridge: {_shown(message)}")


def change_in(event: Any, prefix: str) -> Change | None:
    """What changed below `prefix`; None for what is no change of a landing file, which is logged.

    Raises:
        Malformed: fields are missing, or the key has no place in the landing zone, where it would never be read.
    """
    decode: Callable[[str], str]
    try:
        if "detail-type" in event:  # EventBridge, which sends keys as they are
            name, happened, place = event["detail-type"], event.get("time"), event["detail"]
            etag_field, version_field, decode = "etag", "version-id", str
        else:
            name, happened, place = event["eventName"].removeprefix("s3:"), event.get("eventTime"), event["s3"]
            etag_field, version_field, decode = "eTag", "versionId", _decoded
        if not name.startswith(CREATED + REMOVED):
            _log.info("ignored: %r changes no bytes", name)
            return None
        bucket, found = place["bucket"]["name"], place["object"]
        key, size_bytes = decode(found["key"]), found.get("size")
        etag, sequencer, version_id = (found.get(field) or "" for field in (etag_field, "sequencer", version_field))
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise Malformed(f"an S3 event that cannot be read ({error!r}): {_shown(event)}") from error
    texts = (bucket, key, etag, sequencer, version_id)
    if not all(isinstance(text, str) for text in texts) or not isinstance(size_bytes, int | None):
        raise Malformed(f"an S3 event with a field of another type than S3 gives it: {_shown(event)}")
    day = day_of(key, prefix)
    if day is None:
        _log.info("ignored: %r is not a landing file below %r", key, prefix)
        return None
    if name.startswith(REMOVED):
        etag, size_bytes = "", None  # a delete marker has an ETag too, which says nothing
    elif not etag and not sequencer:
        raise Malformed(f"neither etag nor sequencer for {key!r}: it cannot be told from a repetition")
    return Change(day, bucket, key, name, str(happened or ""), etag.strip('"'), sequencer, version_id, size_bytes)


def day_of(key: str, prefix: str) -> str | None:
    """The arrival day of a landing file; None outside the prefix and for names that a landing zone leaves out.

    Raises:
        Malformed: a file below the prefix whose folder is not `dt=YYYY-MM-DD`, or that lies deeper.
    """
    folder, _, name = key.removeprefix(prefix).partition("/")
    if not key.startswith(prefix) or key.endswith("/") or key == prefix:
        return None
    if name != _DAY_IS_COMPLETE and any(_HIDDEN.fullmatch(part) for part in (folder, *name.split("/"))):
        return None
    text = folder.removeprefix("dt=")
    if folder == text or not _is_date(text) or not name or "/" in name:
        raise Malformed(f"{key!r} would never be read: landing files are {prefix}dt=YYYY-MM-DD/name, with a real date")
    return text


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _decoded(key: str) -> str:
    return unquote_plus(key, errors="strict")


def _shown(event: object) -> str:
    return repr(event)[:_SHOWN]
