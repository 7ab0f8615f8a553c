"""A way to people: what the sensor asks of it, and what it is answered. When a message is sent is not decided here."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from pipeline_assets.rules.outbox import Message


class PostOutcome(Enum):
    """What became of a delivery."""

    DELIVERED = "delivered"
    TRY_AGAIN = "try again"
    REFUSED = "refused"  # the same message would be refused again


@dataclass(frozen=True, slots=True)
class Answer:
    """Says what came of a message, the reason in a sentence, and how long the receiver asked to wait."""

    outcome: PostOutcome
    reason: str
    retry_after_seconds: float | None = None


class Channel(Protocol):
    """Takes messages to people: a webhook, mail, a file."""

    @property
    def name(self) -> str:
        """Tells it from other channels, from one process to the next: undelivered messages are kept under it."""

    def deliver(self, message: Message, *, now: datetime) -> Answer:
        """Send one message within ten seconds. A message may come again, with the same `id`, after a crash."""
