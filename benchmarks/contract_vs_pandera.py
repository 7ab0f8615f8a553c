"""The events contract on 1,000,000 rows, through `rules.contract` and through pandera: why we wrote our own.

Same rules on both sides: columns and their order, types, nulls, four event types, the day's bounds, unique and
ascending ids. Ours conforms and audits the Arrow table that the step has anyway, whole or in batches. pandera knows
DataFrames but no Arrow tables; it is given the Arrow-backed DataFrame, made beforehand (the conversion is shown apart
and not counted). It is asked twice: in its own words (`unique=True`, `is_monotonic_increasing`), and with our way of
testing both at once as a custom check.

pandera sees one DataFrame, so a day larger than memory cannot be validated before it is published: uniqueness over
batches cannot be said. That is the reason, and what its import takes; with our order check its time alone would not be.
Its polars side is not measured: polars is no dependency here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.event_tables import DAY, EVENT_TYPES, event_rows
from benchmarks.measure import CannotRunError, Figure, Target, compared, interleaved
from pipeline_assets.assets.events import EVENTS
from pipeline_assets.errors import ContractBroken
from pipeline_assets.orchestration.partition.frames import to_pandas
from pipeline_assets.rules.calendar import day_bounds
from pipeline_assets.rules.contract import Audit

ROWS, BATCH_ROWS, ROUNDS = 1_000_000, 1 << 17, 9
CONTRACT = replace(
    EVENTS,
    columns=tuple(replace(each, one_of=EVENT_TYPES if each.name == "event_type" else ()) for each in EVENTS.columns),
)
TARGETS = (Target("time, our contract / pandera in its own words", 1, "x"),)


def run() -> list[Figure]:
    """Measure in memory."""
    rows = event_rows(ROWS, seed=1).select(CONTRACT.schema.names)
    frame, batches = to_pandas(rows), [pa.Table.from_batches([batch]) for batch in rows.to_batches(BATCH_ROWS)]
    own_words = _schema(unique=True, checks=[pandera.Check(lambda ids: ids.is_monotonic_increasing)])
    custom = _schema(unique=False, checks=[pandera.Check(_strictly_ascending)])
    _both_refuse(rows, own_words, custom)
    theirs, helped, ours, streamed, converted = interleaved(
        ROUNDS,
        lambda: own_words.validate(frame, lazy=True),
        lambda: custom.validate(frame, lazy=True),
        lambda: audit([rows]),
        lambda: audit(batches),
        lambda: to_pandas(rows),
    )
    print(
        compared(
            0.001,
            "ms",
            pandera_in_its_own_words=theirs,
            pandera_with_our_order_check=helped,
            our_contract=ours,
            our_contract_in_batches=streamed,
            conversion_to_pandas=converted,
        )
    )
    return [TARGETS[0].figure(ours.best / theirs.best)]


def audit(batches: Iterable[pa.Table]) -> None:
    """Our side.

    Raises:
        ContractBroken: the rows do not keep the contract.
    """
    verdict = Audit(CONTRACT, DAY, "UTC")
    for batch in batches:
        verdict.watch(CONTRACT.conform(batch))
    verdict.close()


def _schema(*, unique: bool, checks: list[pandera.Check]) -> pandera.DataFrameSchema:
    start, end = day_bounds(DAY, "UTC")
    rules: dict[str, dict[str, Any]] = {
        "event_id": {"unique": unique, "checks": checks},
        "event_type": {"checks": pandera.Check.isin(EVENT_TYPES)},
        "event_time": {"checks": pandera.Check.in_range(start, end, include_max=False)},
    }
    columns = {
        column.name: pandera.Column(pd.ArrowDtype(column.type), nullable=column.nullable, **rules.get(column.name, {}))
        for column in CONTRACT.columns
    }
    return pandera.DataFrameSchema(columns, strict=True, ordered=True)


def _strictly_ascending(ids: pd.Series[Any]) -> bool:
    values = pa.chunked_array(ids.array.__arrow_array__()).combine_chunks()
    return bool(pc.all(pc.less(values[:-1], values[1:])).as_py())


def _both_refuse(rows: pa.Table, *schemas: pandera.DataFrameSchema) -> None:
    """A benchmark of rules that let everything pass would be a fast one."""
    broken = pa.concat_tables([rows, rows.slice(rows.num_rows - 1)])
    for schema in schemas:
        try:
            schema.validate(to_pandas(broken), lazy=True)
        except pandera.errors.SchemaErrors:
            continue
        raise CannotRunError("pandera let a repeated id pass")
    try:
        audit([broken])
    except ContractBroken:
        return
    raise CannotRunError("our contract let a repeated id pass")
