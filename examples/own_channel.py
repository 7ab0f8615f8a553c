"""A channel of your own: every alert is a line of JSON in a file, for whatever reads log files.

Copy this file to a module of your own, and add `AlertFile(Path("/var/log/pipeline_alerts.jsonl"))` to the `channels` of
`alerts_sensor` in `pipeline_assets/definitions.py`. Each channel gets every message; one that is down is tried again,
and holds up no other.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline_assets import Answer, Message, PostOutcome


@dataclass(frozen=True)
class AlertFile:
    """A `pipeline_assets.Channel`.

    Args:
        path: of the file; it is made with the first alert.
        name: undelivered messages are kept under it.
    """

    path: Path
    name: str = "alert file"

    def deliver(self, message: Message, *, now: datetime) -> Answer:
        """Append one line. The `id` is the same if the line has to be written again after a crash."""
        alert = message.alert
        line = {
            "id": message.id,
            "at": now.isoformat(),
            "severity": alert.severity.value,
            "title": alert.title,
            "days": [day.isoformat() for day in alert.days],
            "owners": list(alert.owners),
            "reason": alert.reason,
        }
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            return Answer(PostOutcome.TRY_AGAIN, f"{self.path} cannot be written: {error.strerror}")
        return Answer(PostOutcome.DELIVERED, f"written to {self.path}")
