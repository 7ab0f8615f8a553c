"""How a commit was made: with `partition` the ground floor, so that stores keep it and rules judge by it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

FILE_KIND = "file1:"
"""Leads digests of a file's bytes. Records of before there were others have such digests, with nothing before them."""
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """How a commit of a partition was made, as far as that was recorded. Moments are aware, UTC.

    Args:
        event_id: of its copy in Dagster's event log, which grows with time; 0 if it has none.
        digest: of the commit's rows and schema, led by the name of how it was made ("rows1:"), or of its file
            ("file1:", or nothing before it); None when whoever made it did not say.
        unchanged: the commit before it had the same digest.
        inputs: digests of what it was made from, by upstream table and day; a table that is not in it was not recorded.
        recorded_at: after the commit.
        began_at: before any input was read.
        key: columns that tell a row; empty if there are none, None if that was not recorded.
        code_version: that it was made by; None when it was not recorded, as are the others.
        size_bytes: of the commit's file.
        seconds: that it took.
        run_id: empty if no run made it.
        rows_read: from its inputs, as are the two that follow; None of a table that drops no rows.
        write_id: names the one publish that this record is of; empty if it was made before there were any.
        follows: write id of the record that it took the place of; empty if there was none.
        step: names the step that made it, the same for all tables of one day that are made together; empty if that was
            not recorded.
        version: of the head that it speaks of.
        record_version: of the record itself, as the store has it: another one after each publish.
        file: xxh3_128 of the bytes of the commit's file, 32 hex digits.
        changed_at: when the first commit of these rows came.
        first_at: when the partition's first commit came.
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
    write_id: str = ""
    follows: str = ""
    step: str = ""
    version: str | None = None
    record_version: str | None = None
    file: str | None = None
    changed_at: datetime = NEVER
    first_at: datetime = NEVER
    key: tuple[str, ...] | None = None

    def is_of(self, digest: str) -> bool:
        """Whether a digest of either kind is this commit's."""
        told = digest.removeprefix(FILE_KIND)
        return told == self.file or (self.digest is not None and told == self.digest.removeprefix(FILE_KIND))

    def restored(self, now: datetime) -> "Record":
        """The record of the same rows, chosen by a person now: who judges asks only what changed since."""
        return replace(self, inputs={}, code_version=None, step="", began_at=now)


def kind_of(digest: str | None) -> str:
    """The way a digest was made; digests of different kinds tell nothing of each other."""
    kind, separator, _ = (digest or "").partition(":")
    return kind if separator else FILE_KIND.removesuffix(":")
