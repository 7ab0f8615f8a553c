"""How a commit was made: with `partition` the ground floor, so that stores keep it and rules judge by it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """How a commit of a partition was made, as far as that was recorded. Moments are aware, UTC.

    Args:
        event_id: of its copy in Dagster's event log, which grows with time; 0 if it has none.
        digest: of the commit; None when whoever made it did not say.
        unchanged: the commit before it had the same digest.
        inputs: digests of what it was made from, by upstream table and day; a table that is not in it was not recorded.
        recorded_at: after the commit.
        began_at: before any input was read.
        code_version: that it was made by; None when it was not recorded, as are the others.
        size_bytes: of the commit's file.
        seconds: that it took.
        run_id: empty if no run made it.
        rows_read: from its inputs, as are the two that follow; None of a table that drops no rows.
    """

    event_id: int = 0
    digest: str | None = None
    unchanged: bool = False
    inputs: Mapping[str, Mapping[date, str]] = field(default_factory=dict)
    recorded_at: datetime = NEVER
    began_at: datetime = NEVER
    code_version: str | None = None
    rows: int | None = None
    size_bytes: int | None = None
    seconds: float | None = None
    run_id: str = ""
    rows_read: int | None = None
    rows_duplicate: int | None = None
    rows_rejected: int | None = None
