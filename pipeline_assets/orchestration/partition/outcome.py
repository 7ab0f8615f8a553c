"""What became of the days of one step. Each is on its own: a failed one neither undoes nor hides the others."""

import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, TypeVar

import dagster as dg

from pipeline_assets.errors import PipelineError
from pipeline_assets.orchestration.retry.layers import StepFailure, raised_for
from pipeline_assets.orchestration.retry.step import Failure, Step

DESCRIBED_DAYS = 20
"""Failed days whose reasons are told; the others are named in the metadata, with their reasons in the log."""
Committed = TypeVar("Committed")


@dataclass(slots=True)
class Outcome(Generic[Committed]):
    """Days of a table that were committed, with what was made of them, and days that failed, with the verdict.

    Args:
        recorded: days that an earlier attempt committed.
        failed: at first, days that an earlier attempt gave up.
        piecewise: the step can be run again for some of its days alone.
    """

    table: str
    days: Sequence[date]
    step: Step
    recorded: Collection[date] = ()
    failed: dict[date, Failure] = field(default_factory=dict)
    piecewise: bool = False
    committed: dict[date, Committed] = field(default_factory=dict)
    _in_a_row: list[Failure] = field(default_factory=list)
    """The latest failures of one verdict, with no committed day between them."""

    def attempt(self, day: date, commit: Callable[[], Committed]) -> None:
        """Commit a day; an error is logged, classified and kept."""
        try:
            self.committed[day] = commit()
        except Exception as error:  # noqa: BLE001 - any failure is this day's alone; all are raised at the end
            detail = "" if isinstance(error, PipelineError) else "".join(traceback.format_exception(error))
            self.step.log.error(f"{self.table} {day} failed: {error}\n{detail}".rstrip())  # noqa: TRY400 - for bugs only
            failed = self.step.classify(error)
            if any(each.error for each in self.failed.values()):
                # A traceback holds on to the rows of its day; the first one is shown to the user.
                error.__cause__ = error.__context__ = error.__traceback__ = None
            if self._in_a_row and self._in_a_row[-1].verdict != failed.verdict:
                self._in_a_row.clear()
            self._in_a_row.append(failed)
            self.failed[day] = failed
        else:
            self._in_a_row.clear()

    @property
    def is_hopeless(self) -> bool:
        """True when the latest days failed of something that further days would meet as well."""
        enough = self._in_a_row[-1].verdict.ends_range_after if self._in_a_row else None
        return enough is not None and len(self._in_a_row) >= enough

    @property
    def is_complete(self) -> bool:
        """True when every day was committed: not when one failed, nor when the run was interrupted."""
        return len(self.committed) + len(self.recorded) == len(self.days)

    @property
    def given_up(self) -> dict[date, Failure]:
        """List the failed days that no further attempt is for."""
        return {day: failed for day, failed in self.failed.items() if not self.step.may_retry(failed)}

    def failure(self) -> dg.RetryRequested | dg.Failure:
        """Give what to raise: a request of another attempt, or what the step failed of. It names the failed days."""
        committed = [day for day in self.days if day in self.recorded or day in self.committed]
        not_attempted = [day for day in self.days if day not in self.failed and day not in committed]
        tail = f" {len(not_attempted)} further days were not attempted." if not_attempted else ""
        lines = [f"  {day}: {failed.told}" for day, failed in self.failed.items()]
        if len(lines) > DESCRIBED_DAYS:
            lines[DESCRIBED_DAYS:] = [f"  and {len(lines) - DESCRIBED_DAYS} more, up to {max(self.failed)}"]
        described = "\n".join(lines)
        first_day = min(self.failed)
        others = f" and {len(self.failed) - 1} more days" if len(self.failed) > 1 else ""
        return raised_for(
            self.step,
            StepFailure(
                subject=f"{self.table} {first_day}{others}",
                told=(
                    f"{self.table}: {len(self.failed)} of {len(self.days)} days failed; "
                    f"{len(committed)} were committed and recorded.{tail}\n{described}"
                ),
                failed=list(self.failed.items()),
                metadata={
                    "failed_days": [day.isoformat() for day in self.failed],
                    "committed_days": [day.isoformat() for day in committed],
                    "first_failed_day": first_day.isoformat(),
                },
                days_not_attempted=not_attempted,
                piecewise=self.piecewise,
            ),
        )
