"""Messages that are still to be delivered, and when each is tried again. What becomes a message is not decided here."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline_assets.rules.alerts import Alert, Severity

FIRST_DELAY_SECONDS = 15
"""One tick; it doubles with every attempt."""
LONGEST_DELAY_SECONDS = 900
"""Also for what a server asks for: a broken clock there must not silence alerts for a week."""
GIVE_UP_SECONDS = 3 * 86400
"""After so long a message is history, and stands in the log."""
MESSAGES_KEPT = 100


@dataclass(frozen=True, slots=True)
class Message:
    """An alert that was not delivered yet.

    Args:
        id: the same for the same alert, so that a receiver can tell a repetition.
        attempts: deliveries that failed.
        not_before: when the next one may be tried.
    """

    id: str
    alert: Alert
    queued: datetime
    not_before: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Outbox:
    """Undelivered messages, oldest first, and the moment before which the receiver wants none."""

    messages: Sequence[Message] = ()
    closed_until: datetime | None = None


def id_of(key: str) -> str:
    """What receivers see of a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def put(outbox: Outbox, alert: Alert, *, now: datetime) -> tuple[Outbox, list[Message]]:
    """The outbox with one more alert, and the messages that had to go for it: the least loud, then the oldest."""
    message = Message(id_of(alert.key), alert, now, now)
    if any(each.id == message.id for each in outbox.messages):
        return outbox, []
    messages = [*outbox.messages, message]
    by_worth = sorted(messages, key=lambda each: (_loudness(each), each.queued))
    dropped = by_worth[: max(len(messages) - MESSAGES_KEPT, 0)]
    return replace(outbox, messages=tuple(each for each in messages if each not in dropped)), dropped


def ready(outbox: Outbox, *, now: datetime) -> list[Message]:
    """What may be tried now: those that failed least often first, so that one bad message holds up no other."""
    if outbox.closed_until is not None and now < outbox.closed_until:
        return []
    messages = [each for each in outbox.messages if each.not_before <= now]
    return sorted(messages, key=lambda each: (each.attempts, -_loudness(each), each.queued))


def without(outbox: Outbox, message: Message) -> Outbox:
    """The outbox once a message was delivered, or will never be."""
    return Outbox(tuple(each for each in outbox.messages if each.id != message.id))


def postponed(
    outbox: Outbox, message: Message, *, now: datetime, retry_after_seconds: float | None = None
) -> tuple[Outbox, bool]:
    """The outbox after a delivery failed, and whether the message was given up.

    Args:
        retry_after_seconds: what the receiver asked for; it holds for all messages.
    """
    if now - message.queued >= timedelta(seconds=GIVE_UP_SECONDS):
        return without(outbox, message), True
    doubled = FIRST_DELAY_SECONDS * 2 ** min(message.attempts, 16)
    delay = timedelta(seconds=min(doubled, LONGEST_DELAY_SECONDS))
    later = replace(message, attempts=message.attempts + 1, not_before=now + delay)
    closed_until = None
    if retry_after_seconds is not None:
        closed_until = now + timedelta(seconds=min(max(retry_after_seconds, 0), LONGEST_DELAY_SECONDS))
    messages = tuple(later if each.id == message.id else each for each in outbox.messages)
    return Outbox(messages, closed_until), False


def _loudness(message: Message) -> int:
    return list(Severity).index(message.alert.severity)
