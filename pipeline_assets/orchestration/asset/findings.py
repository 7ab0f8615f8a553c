"""What the checks found on the days of one step, summed up for Dagster: one result per check and run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.asset.audit import INPUTS_CHECK
from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.retry.attempts import Noted
from pipeline_assets.rules.checks import Finding


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings of the days of one step, by table and check."""

    spec: DailySpec
    _found: dict[tuple[str, str], dict[date, Finding]] = field(default_factory=dict)

    def add(self, table: str, check: str, day: date, finding: Finding) -> None:
        """Keep what a check found, in the place of what it found on that day before."""
        self._found.setdefault((table, check), {})[day] = finding

    def noted(self) -> Iterator[Noted]:
        """Give all that was found so far, for whoever goes on with the step."""
        for (table, check), findings in self._found.items():
            for day, finding in findings.items():
                yield table, check, day, finding

    def results(self) -> Iterator[dg.AssetCheckResult]:
        """Give one per check that looked at a day at least; it names the days that failed and shows the first."""
        warnings = {INPUTS_CHECK, *(each.name for each in self.spec.checks if not each.blocking)}
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
                asset_key=self.spec.asset_keys[table],
                check_name=name,
                passed=not failed,
                severity=dg.AssetCheckSeverity.WARN if name in warnings else dg.AssetCheckSeverity.ERROR,
                description=shown.message + more if alone else f"{len(findings)} days passed",
                metadata=metadata,
            )


def _summed(findings: Iterable[Finding]) -> dict[str, int | float]:
    total: dict[str, int | float] = {}
    for finding in findings:
        for name, number in finding.numbers.items():
            if isinstance(number, int | float):
                total[name] = total.get(name, 0) + number
    return total
