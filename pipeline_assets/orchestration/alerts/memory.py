"""What the sensor `alerts` knows from one tick to the next, and where that is stored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import AliasChoices, BeforeValidator, Field, ValidationError

from pipeline_assets.codec import codec, unreadable
from pipeline_assets.orchestration.alerts.ended_runs import SeenRuns
from pipeline_assets.orchestration.alerts.webhook import WEBHOOK
from pipeline_assets.rules.alerts import Alert
from pipeline_assets.rules.outbox import Outbox, id_of
from pipeline_assets.rules.troubles import Trouble

SEEN_SECONDS = 45 * 86400
"""How long a key is known after it was last gathered: a miss that is made good a month later was told, and so is that.
"""
SEEN_KEPT = 5000
FRESHENED_SECONDS = 86400
"""The time of a key is renewed once a day, so that a tick in which nothing happened stores nothing."""


def _by_channel(stored: Any) -> Any:
    """One outbox alone was the webhook's, before there were other channels."""
    return {WEBHOOK: stored} if isinstance(stored, dict) and "messages" in stored else stored


Outboxes = Annotated[
    Mapping[str, Outbox], Field(validation_alias=AliasChoices("outboxes", "outbox")), BeforeValidator(_by_channel)
]


@dataclass(frozen=True, slots=True)
class AlertState:
    """All that the sensor `alerts` knows from one tick to the next.

    Args:
        outboxes: by the name of the channel.
        seen: ids of gathered alerts that were told, with the time when they were last gathered.
        format: of the text; a text without one is of format 1.
    """

    looked_at: SeenRuns
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    outboxes: Outboxes = field(default_factory=dict)
    seen: Mapping[str, datetime] = field(default_factory=dict)
    format: Literal[1] = 1


class AlertMemory:
    """A state in the instance's key-value storage, which takes effect at once.

    The sensor's cursor would not do: it is stored when a tick has ended well, which is after the messages were posted,
    and not at all when the tick failed.
    """

    def __init__(self, instance: dg.DagsterInstance, repository_name: str | None) -> None:
        self._storage = instance.daemon_cursor_storage
        self._slot = f"pipeline_assets/alerts/{repository_name or ''}"
        self._text = self._storage.get_cursor_values({self._slot}).get(self._slot)

    def load(self, *, now: datetime) -> tuple[AlertState, str | None]:
        """Give what was stored, or a new state; and why what was stored cannot be used, if so."""
        beginning = AlertState(SeenRuns.first(now))
        if self._text is None:
            return beginning, None
        try:
            return codec(AlertState).validate_json(self._text), None
        except ValidationError as error:
            what = "what was stored cannot be read and is begun anew, undelivered messages are lost"
            return beginning, f"{what}: {unreadable(error)}"

    def store(self, state: AlertState) -> None:
        """Keep a state, if it differs from what is stored."""
        text = codec(AlertState).dump_json(state).decode()
        if text != self._text:
            self._storage.set_cursor_values({self._slot: text})
            self._text = text


class SentKeys:
    """Knows the keys that were told, of which only ids are kept.

    Args:
        seen: by id.
    """

    def __init__(self, seen: Mapping[str, datetime]) -> None:
        self._seen = seen

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and id_of(key) in self._seen


def unseen(
    seen: Mapping[str, datetime], alerts: Iterable[Alert], *, now: datetime
) -> tuple[list[Alert], dict[str, datetime]]:
    """Alerts whose keys are new, and the keys that are known now: the newest, of the last days."""
    known, fresh = dict(seen), []
    for alert in alerts:
        key = id_of(alert.key)
        if key not in known:
            fresh.append(alert)
        if key not in known or now - known[key] >= timedelta(seconds=FRESHENED_SECONDS):
            known[key] = now
    kept = sorted(key for key, at in known.items() if now - at < timedelta(seconds=SEEN_SECONDS))
    newest = sorted(kept, key=lambda key: known[key])[-SEEN_KEPT:]
    return fresh, {key: known[key] for key in newest}
