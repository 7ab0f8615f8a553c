"""What cannot work is refused where it is defined, before anything runs."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import dagster as dg

from pipeline_assets.orchestration.frames import frame_kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_assets.orchestration.daily_run import DailySpec

_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")


def is_daily(partitions_def: dg.PartitionsDefinition | None) -> bool:
    """True for days from midnight to midnight, named YYYY-MM-DD."""
    return (
        isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
        and partitions_def.cron_schedule == "0 0 * * *"
        and partitions_def.fmt == "%Y-%m-%d"
    )


def described(partitions_def: dg.PartitionsDefinition | None) -> str:
    """What partitions there are instead."""
    if isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return f"cron {partitions_def.cron_schedule}, named {partitions_def.fmt}"
    return "none" if partitions_def is None else f"a {type(partitions_def).__name__}"


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
