"""What the checks of one step found, day by day, and the one result per check that Dagster takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipeline_assets.rules.checks import Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import date

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
