"""What the rows of one day are checked against before anyone can read them: inputs, accounting and the author's checks.

Each function says what it found. Whether that keeps the day from being published is decided in `day`.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.partition.frames import FrameKind, frame_kinds
from pipeline_assets.orchestration.partition.upstream import Inputs
from pipeline_assets.partition import Partition, days_in_words
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Check, Finding

CONTRACT_CHECK = "contract"
ACCOUNTING_CHECK = "row_accounting"
INPUTS_CHECK = "inputs_complete"

Found = tuple[str, str, Finding]
"""Table, check, and what was found for one day."""
Frames = Callable[[str, FrameKind], Any]
"""Gives the rows of a table or an input, by name, in a form."""

CONTRACT_KEPT = Finding(passed=True, message="every row keeps it")


def inputs_complete(partition: Partition, inputs: Mapping[str, Inputs]) -> Finding:
    """Tell whether all days of the windows that should have been there were."""
    missing = {name: each.missing for name, each in inputs.items() if each.missing}
    listed = "; ".join(f"{name} of {days_in_words(days)}" for name, days in missing.items())
    return Finding(not missing, f"{partition} was made without " + (listed or "gaps"))


def row_accounting(partition: Partition, books: Accounting, kept: int, rejected: int) -> Finding:
    """Tell whether the books balance and tell of as many rows as there are."""
    numbers = {
        "read": books.read,
        "kept": kept,
        "duplicates": books.duplicates,
        "rejected": rejected,
        "unaccounted": books.read - kept - books.duplicates - rejected,
    }
    balanced = books.unaccounted == 0 and books.kept == kept and books.rejected == rejected
    return _plain(Finding(balanced, f"{partition}: {books}; staged: {kept} kept, {rejected} rejected", numbers))


def author_checks(spec: DailySpec, day: date, frames: Frames) -> Iterator[tuple[Check, Finding]]:
    """Run the author's checks, one after the other.

    Raises:
        TypeError: a check returned something else than a Finding.
    """
    tables, values = {*spec.contracts, *spec.windows}, {"day": day, **spec.params}
    for check in spec.checks:
        arguments = {
            name: frames(name, kind or FrameKind.TABLE) if name in tables else values[name]
            for name, kind in frame_kinds(check.function).items()
        }
        finding = check.function(**arguments)
        if not isinstance(finding, Finding):
            raise TypeError(f"check {check.name} returned a {type(finding).__name__}; a check returns a Finding")
        yield check, _plain(finding)


def _plain(finding: Finding) -> Finding:
    """Give it as Dagster takes it: numbers of numpy and Arrow are none to it."""
    numbers = {name: _plain_number(number) for name, number in finding.numbers.items()}
    return Finding(bool(finding.passed), str(finding.message), numbers)


def _plain_number(number: Any) -> int | float | str:
    plain = number.item() if hasattr(number, "item") else number.as_py() if hasattr(number, "as_py") else number
    return plain if isinstance(plain, int | float | str) else str(plain)
