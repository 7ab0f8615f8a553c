"""Which changes are news. Pure: given a change and the reports of its day, whether it must be reported.

What S3 promises is at least one event per change, in any order. So a change is news unless a report says the same of
that object, or something later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landing_trigger.events import REMOVED, Change


def why_known(change: Change, reports: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a change need not be reported; None if it must be.

    Only the newest report of the object counts: one that was written, replaced and then written back as it was has
    changed three times.

    Args:
        change: what happened.
        reports: metadata of the reports of its day, newest first.
    """
    of_object = [each for each in reports if (each.get("s3_bucket"), each.get("s3_key")) == (change.bucket, change.key)]
    if not of_object:
        return None
    newest = max(of_object, key=lambda each: _order(each.get("sequencer", "")))
    if change.sequencer and _order(change.sequencer) <= _order(newest.get("sequencer", "")):
        return f"sequencer {newest['sequencer']} was reported, which is the same event or a later one"
    if _content(change.metadata()) == _content(newest) is not None:
        return "the newest report of this object says the same"
    return None


def _content(report: Mapping[str, Any]) -> str | None:
    """What an object holds after an event: its ETag, "" when it is gone, None when the event does not tell."""
    return "" if str(report.get("event_name")).startswith(REMOVED) else report.get("etag")


def _order(sequencer: str) -> tuple[int, str]:
    """Of hexadecimal numbers: S3 has the shorter of two padded with zeros on the left, and the texts compared."""
    digits = sequencer.upper().lstrip("0")
    return len(digits), digits
