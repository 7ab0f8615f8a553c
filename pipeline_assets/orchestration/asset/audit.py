"""What is held against the rows of one day before anyone can read them: contract, books, and the author's checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.errors import ContractBroken, PartitionMismatch
from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.partition.frames import FrameKind, Result, frame_kinds
from pipeline_assets.orchestration.partition.staging import StagedRows, located
from pipeline_assets.orchestration.partition.upstream import Inputs
from pipeline_assets.partition import days_in_words
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding

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
        listed = "; ".join(f"{name} of {days_in_words(days)}" for name, days in missing.items())
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


CONTRACT_CHECK = "contract"


ACCOUNTING_CHECK = "row_accounting"


INPUTS_CHECK = "inputs_complete"


@dataclass(slots=True)
class Findings:
    """Findings of all days of a step.

    Args:
        asset_keys: by table.
        warnings: names of checks that do not stop a publish.
    """

    asset_keys: Mapping[str, dg.AssetKey]
    warnings: Collection[str]
    _found: dict[tuple[str, str], dict[date, Finding]] = field(default_factory=dict)

    def note(self, table: str, check: str, day: date, finding: Finding) -> None:
        """Keep what a check found."""
        numbers = {name: _plain(number) for name, number in finding.numbers.items()}
        plain = Finding(bool(finding.passed), str(finding.message), numbers)
        self._found.setdefault((table, check), {})[day] = plain

    def noted(self) -> Iterator[tuple[str, str, date, Finding]]:
        """Everything so far: table, check, day, finding."""
        for (table, check), findings in self._found.items():
            for day, finding in findings.items():
                yield table, check, day, finding

    def results(self) -> Iterator[dg.AssetCheckResult]:
        """One per check that looked at a day at least; it names the days that failed, and shows the first of them."""
        for (table, name), findings in self._found.items():
            failed = {day: finding for day, finding in findings.items() if not finding.passed}
            shown = next(iter((failed or findings).values()))
            alone = bool(failed) or len(findings) == 1
            more = f" (and {len(failed) - 1} more days)" if len(failed) > 1 else ""
            metadata: dict[str, Any] = {
                "days_checked": len(findings),
                **({"days_failed": [day.isoformat() for day in failed]} if failed else {}),
                **(shown.numbers if alone else _summed(findings.values())),
            }
            yield dg.AssetCheckResult(
                asset_key=self.asset_keys[table],
                check_name=name,
                passed=not failed,
                severity=dg.AssetCheckSeverity.WARN if name in self.warnings else dg.AssetCheckSeverity.ERROR,
                description=shown.message + more if alone else f"{len(findings)} days passed",
                metadata=metadata,
            )


def _plain(number: Any) -> int | float | str:
    """As Dagster takes it: numbers of numpy and Arrow are none to it."""
    plain = number.item() if hasattr(number, "item") else number.as_py() if hasattr(number, "as_py") else number
    return plain if isinstance(plain, int | float | str) else str(plain)


def _summed(findings: Iterable[Finding]) -> dict[str, int | float]:
    total: dict[str, int | float] = {}
    for finding in findings:
        for name, number in finding.numbers.items():
            if isinstance(number, int | float):
                total[name] = total.get(name, 0) + number
    return total
