"""What is held against the rows of one day before anyone can read them: contract, books, and the author's checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import ContractBroken, PartitionMismatch
from pipeline_assets.orchestration.findings import ACCOUNTING_CHECK, CONTRACT_CHECK, INPUTS_CHECK, Findings
from pipeline_assets.orchestration.frames import FrameKind, Result, frame_kinds
from pipeline_assets.orchestration.staging import StagedRows, located
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding
from pipeline_assets.rules.reach import ranges_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pipeline_assets.orchestration.daily_run import DailySpec
    from pipeline_assets.orchestration.upstream import Inputs

Frames = Callable[[FrameKind], Any]
"""Gives the rows of a table in a form."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Of the days of one step; what it finds is kept in `findings`."""

    spec: DailySpec
    findings: Findings

    def note_missing_inputs(self, day: date, inputs: Mapping[str, Inputs]) -> None:
        """Days of the windows that should have been there."""
        if all(window.is_single_day for window in self.spec.windows.values()):
            return
        missing = {name: each.missing for name, each in inputs.items() if each.missing}
        listed = "; ".join(f"{name} of {_folded(days)}" for name, days in missing.items())
        message = f"{self.spec.partition(self.spec.main, day)} was made without " + (listed or "gaps")
        self.findings.note(self.spec.main, INPUTS_CHECK, day, Finding(not missing, message))

    def within_contract(self, table: str, day: date, step: Callable[[], None]) -> None:
        """Do something with the rows of a table that must keep its contract.

        Raises:
            ContractBroken, PartitionMismatch: they do not; it says where.
        """
        try:
            step()
        except (ContractBroken, PartitionMismatch) as error:
            placed = located(error, self.spec.partition(table, day))
            self.findings.note(table, CONTRACT_CHECK, day, Finding(passed=False, message=str(placed)))
            raise placed from error

    def note_kept(self, table: str, day: date) -> None:
        """The contract, by every row."""
        self.findings.note(table, CONTRACT_CHECK, day, Finding(passed=True, message="every row keeps it"))

    def account(self, day: date, result: Result | None, staged: Mapping[str, StagedRows]) -> Accounting | None:
        """The day's books, held against the rows that were really staged; None if the asset drops none.

        Raises:
            ContractBroken: they do not balance.
        """
        spec = self.spec
        if not spec.drops_rows:
            return None
        partition = spec.partition(spec.main, day)
        if result is None:
            msg = f"{partition}: the asset drops rows, so its function returns Result(rows, accounting)"
            raise ContractBroken(msg)
        books = result.accounting() if callable(result.accounting) else result.accounting
        kept = staged[spec.main].rows
        rejected = staged[spec.dead_letter].rows if spec.dead_letter else books.rejected
        message = self.note_books(day, books, kept, rejected)
        if books.unaccounted or books.kept != kept or books.rejected != rejected:
            raise ContractBroken(f"{message}. Rows must not vanish: the partition was not published.")
        return books

    def note_books(self, day: date, books: Accounting, kept: int, rejected: int) -> str:
        """Say whether they are balanced and tell of as many rows as there are."""
        numbers = {
            "read": books.read,
            "kept": kept,
            "duplicates": books.duplicates,
            "rejected": rejected,
            "unaccounted": books.read - kept - books.duplicates - rejected,
        }
        balanced = books.unaccounted == 0 and books.kept == kept and books.rejected == rejected
        partition = self.spec.partition(self.spec.main, day)
        message = f"{partition}: {books}; staged: {kept} kept, {rejected} rejected"
        self.findings.note(self.spec.main, ACCOUNTING_CHECK, day, Finding(balanced, message, numbers))
        return message

    def check(self, day: date, rows: Mapping[str, Frames], read: Callable[[str, FrameKind], Any]) -> None:
        """Run the author's checks.

        Args:
            rows: of the tables, by name.
            read: gives an input.

        Raises:
            ContractBroken: one of them fails and is blocking.
        """
        spec, blocked = self.spec, []
        for check in spec.checks:
            kinds = frame_kinds(check.function)
            arguments: dict[str, Any] = {}
            for name, kind in kinds.items():
                wanted = kind or FrameKind.TABLE
                if name in rows:
                    arguments[name] = rows[name](wanted)
                elif name in spec.windows:
                    arguments[name] = read(name, wanted)
                elif name in spec.params:
                    arguments[name] = spec.params[name]
                elif name == "day":
                    arguments[name] = day
            finding = check.function(**arguments)
            if not isinstance(finding, Finding):
                msg = f"check {check.name} returned a {type(finding).__name__}; a check returns a Finding"
                raise TypeError(msg)
            self.findings.note(spec.main, check.name, day, finding)
            if check.blocking and not finding.passed:
                blocked.append(f"{check.name}: {finding.message}")
        if blocked:
            msg = f"{spec.partition(spec.main, day)}: {'; '.join(blocked)}. The partition was not published."
            raise ContractBroken(msg)


def _folded(days: Sequence[date]) -> str:
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges_of(days))
