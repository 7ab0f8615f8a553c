"""What the author of a daily asset stated, and what of it cannot work."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.history.graph import described, is_daily
from pipeline_assets.orchestration.partition.frames import frame_kinds
from pipeline_assets.partition import Partition
from pipeline_assets.rules.checks import Check
from pipeline_assets.rules.contract import Contract
from pipeline_assets.rules.windows import Window

ALERT_METADATA = "pipeline/alert"
"""Of an asset check, anybody's: true if people are told when it warns."""


@dataclass(frozen=True, slots=True)
class DailySpec:
    """What the author of a daily asset stated. The first contract is the main table's."""

    function: Callable[..., Any]
    contracts: Mapping[str, Contract]
    asset_keys: Mapping[str, dg.AssetKey]
    windows: Mapping[str, Window]
    deps: Sequence[str]
    """Upstream assets that the function reads by itself."""
    params: Mapping[str, Any]
    checks: tuple[Check, ...]
    drops_rows: bool
    dead_letter: str | None
    timezone: str
    code_version: str

    @property
    def main(self) -> str:
        """Name of the main table."""
        return next(iter(self.contracts))

    @property
    def reads_windows(self) -> bool:
        """True if an input is of several days, some of which may be missing."""
        return not all(window.is_single_day for window in self.windows.values())

    def partition(self, table: str, day: date) -> Partition:
        """Where the store keeps that day of the table."""
        return Partition(self.asset_keys[table].to_user_string(), day)


_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")


def problems_of(spec: DailySpec, partitions_def: dg.PartitionsDefinition, *, states_version: bool) -> Iterator[str]:
    """What is wrong with the definition of a daily asset.

    Args:
        states_version: the code version was not derived from the params.
    """
    if not is_daily(partitions_def):
        yield (
            f"its partitions ({described(partitions_def)}) are not days from midnight to midnight named YYYY-MM-DD; "
            "use a dg.DailyPartitionsDefinition without offsets"
        )
    given = [*spec.windows, *spec.params]
    try:
        inspect.signature(spec.function).bind(None, **dict.fromkeys(given))
    except TypeError as error:
        yield f"its function takes the day, its ins and its params ({', '.join(given) or 'none'}): {error}"
    kinds = frame_kinds(spec.function)
    for name in spec.windows:
        if name in kinds and kinds[name] is None:
            yield (
                f"its input {name} is annotated {spec.function.__annotations__[name]}; an input is a pandas.DataFrame, "
                "pyarrow.Table or pyarrow.RecordBatchReader"
            )
    if spec.dead_letter is not None and spec.dead_letter not in spec.contracts:
        yield f"its dead_letter {spec.dead_letter} is none of its tables: {', '.join(spec.contracts)}"
    known = {"day", *spec.contracts, *spec.windows, *spec.params}
    for check in spec.checks:
        unknown = [name for name in inspect.signature(check.function).parameters if name not in known]
        if unknown:
            yield f"its check {check.name} asks for {', '.join(unknown)}; there are {', '.join(sorted(known))}"
    for name, value in spec.params.items():
        if not states_version and _ADDRESS.search(repr(value)):
            yield (
                f"its param {name} is {value!r}, a text that is another one in every process, and params are part of "
                "the code version: give it a repr, or state code_version"
            )
