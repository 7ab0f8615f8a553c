"""What became of the days of one step. Each is on its own: a failed one neither undoes nor hides the others."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import dagster as dg

from pipeline_assets.errors import (
    LandingInProgress,
    PartitionConflict,
    PipelineError,
    SourceError,
    StorageFull,
    StorageRefused,
    StoreBusy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

HOPELESS = (StorageFull, StorageRefused, SourceError)
"""What would fail every further day the same way: the rest of the range is not attempted."""
MAY_PASS_NEXT_TIME = (PartitionConflict, StoreBusy, LandingInProgress)
DESCRIBED_DAYS = 20
"""Failed days whose reasons are told; the others are named in the metadata, with their reasons in the log."""
Made = TypeVar("Made")


@dataclass(slots=True)
class Outcome(Generic[Made]):
    """Days of a table that were committed, with what was made of them, and days that failed, with the reason."""

    table: str
    days: Sequence[date]
    log: dg.DagsterLogManager
    committed: dict[date, Made] = field(default_factory=dict)
    failed: dict[date, Exception] = field(default_factory=dict)

    def attempt(self, day: date, commit: Callable[[], Made]) -> None:
        """Commit a day; an error is logged and kept."""
        try:
            self.committed[day] = commit()
        except Exception as error:  # noqa: BLE001 - any failure is this day's alone; all are raised at the end
            detail = "" if isinstance(error, PipelineError) else "".join(traceback.format_exception(error))
            self.log.error(f"{self.table} {day} failed: {error}\n{detail}".rstrip())  # noqa: TRY400 - for bugs only
            if self.failed:  # a traceback holds on to the rows of its day; the first one is shown to the user
                error.__cause__ = error.__context__ = error.__traceback__ = None
            self.failed[day] = error

    @property
    def is_hopeless(self) -> bool:
        """True when further days need not be attempted."""
        return any(isinstance(error, HOPELESS) for error in self.failed.values())

    @property
    def is_complete(self) -> bool:
        """True when every day was committed: not when one failed, nor when the run was interrupted."""
        return len(self.committed) == len(self.days)

    def failure(self) -> dg.Failure:
        """Names the failed days; its cause is the first error. Retried only if every error may pass next time."""
        not_attempted = len(self.days) - len(self.committed) - len(self.failed)
        tail = f" {not_attempted} further days were not attempted." if not_attempted else ""
        lines = [f"  {day}: {type(error).__name__}: {error}" for day, error in self.failed.items()]
        if len(lines) > DESCRIBED_DAYS:
            lines[DESCRIBED_DAYS:] = [f"  and {len(lines) - DESCRIBED_DAYS} more, up to {max(self.failed)}"]
        described = "\n".join(lines)
        first_day, first = next(iter(self.failed.items()))
        failure = dg.Failure(
            description=(
                f"{self.table}: {len(self.failed)} of {len(self.days)} days failed; "
                f"{len(self.committed)} were committed and recorded.{tail}\n{described}"
            ),
            metadata={
                "failed_days": [day.isoformat() for day in self.failed],
                "committed_days": [day.isoformat() for day in self.committed],
                "kind": getattr(first, "kind", "bug"),
                "first_failed_day": first_day.isoformat(),
            },
            allow_retries=all(isinstance(error, MAY_PASS_NEXT_TIME) for error in self.failed.values()),
        )
        failure.__cause__ = first
        return failure


@contextmanager
def as_failure() -> Iterator[None]:
    """Errors of the project that concern the whole step: told as they are, retried only if they may pass next time."""
    try:
        yield
    except PipelineError as error:
        raise dg.Failure(
            str(error), metadata={"kind": error.kind}, allow_retries=isinstance(error, MAY_PASS_NEXT_TIME)
        ) from error
