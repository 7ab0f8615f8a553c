"""`daily_asset`: a pure function of one day becomes a Dagster asset with atomic daily partitions.

The function is called once per day of whatever the run asks for: one partition, a range, a backfill. So a range run
leaves what runs of single days leave, and one day is in memory at a time.
"""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.daily_run import DailyRun, DailySpec
from pipeline_assets.orchestration.record import table_schema
from pipeline_assets.orchestration.upstream import Upstream
from pipeline_assets.rules.checks import Check
from pipeline_assets.rules.code_version import code_version as derived_code_version
from pipeline_assets.rules.contract import Contract
from pipeline_assets.rules.windows import Window

CONTRACT_CHECK = "contract"
ACCOUNTING_CHECK = "row_accounting"
_UPSTREAM = dg.PythonObjectDagsterType(Upstream)
"""Tells the IO manager to hand over the table instead of rows. One object: Dagster wants type names to be unique."""


def daily_asset(
    function: Callable[..., Any] | None = None,
    *,
    partitions_def: dg.TimeWindowPartitionsDefinition,
    contract: Contract | Mapping[str, Contract],
    ins: Mapping[str, Window] | None = None,
    params: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (),
    drops_rows: bool = False,
    dead_letter: str | None = None,
    io_manager_key: str = "io_manager",
    key_prefix: Sequence[str] = (),
    group_name: str | None = None,
    description: str | None = None,
    owners: Sequence[str] | None = None,
    kinds: set[str] | None = None,
    code_version: str | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
    retry_policy: dg.RetryPolicy | None = None,
) -> Any:
    """Make a daily-partitioned asset of a function `(day: date, <inputs>, <params>) -> frame`.

    Inputs come, and rows are returned, as the annotations say: pandas.DataFrame (Arrow-backed), pyarrow.Table, or
    pyarrow.RecordBatchReader for a day larger than memory. An input of several days has its day as column `dt`.
    A function that drops rows returns `Result(rows, accounting)`.

    Args:
        partitions_def: days, with their time zone.
        contract: of the table, named like the function; or of several tables, by name, the main one first.
        ins: window of days for every parameter that is an upstream table.
        params: values for further parameters; part of the code version.
        checks: run on the staged rows, before anyone can read them.
        drops_rows: the function returns its accounting, and every partition is checked against it.
        dead_letter: the table, among several, that holds the rejected rows.
        io_manager_key: a resource that is a ParquetIOManager.
        code_version: derived from the function's own source, its contract and its params unless stated.
        backfill_policy: a range in one run unless stated.

    Returns:
        dagster.AssetsDefinition, or a decorator that makes one.
    """
    if function is None:
        return lambda decorated: daily_asset(
            decorated,
            partitions_def=partitions_def,
            contract=contract,
            ins=ins,
            params=params,
            checks=checks,
            drops_rows=drops_rows,
            dead_letter=dead_letter,
            io_manager_key=io_manager_key,
            key_prefix=key_prefix,
            group_name=group_name,
            description=description,
            owners=owners,
            kinds=kinds,
            code_version=code_version,
            backfill_policy=backfill_policy,
            retry_policy=retry_policy,
        )
    name = function.__name__
    contracts = dict(contract) if isinstance(contract, Mapping) else {name: contract}
    keys = {table: dg.AssetKey([*key_prefix, table]) for table in contracts}
    version = code_version or derived_code_version(function, contracts, sorted((params or {}).items()))
    spec = DailySpec(
        function=function,
        contracts=contracts,
        asset_keys=keys,
        windows=dict(ins or {}),
        params=dict(params or {}),
        checks=tuple(checks),
        drops_rows=drops_rows,
        dead_letter=dead_letter,
        timezone=partitions_def.timezone,
        code_version=version,
    )
    text = description or (function.__doc__ or "").strip() or None

    @dg.multi_asset(
        name=name,
        ins={
            parameter: dg.AssetIn(
                key=dg.AssetKey([*key_prefix, parameter]),
                partition_mapping=_partition_mapping(window),
                dagster_type=_UPSTREAM,
            )
            for parameter, window in spec.windows.items()
        },
        outs={
            table: dg.AssetOut(
                key=keys[table],
                io_manager_key=io_manager_key,
                description=text,
                code_version=version,
                group_name=group_name,
                owners=owners,
                kinds=kinds,
                metadata={"dagster/column_schema": table_schema(contracts[table].schema, contracts[table])},
            )
            for table in contracts
        },
        check_specs=list(_check_specs(spec)),
        partitions_def=partitions_def,
        backfill_policy=backfill_policy or dg.BackfillPolicy.single_run(),
        required_resource_keys={io_manager_key},
        retry_policy=retry_policy,
    )
    def compute(context: dg.AssetExecutionContext, **inputs: Upstream) -> Iterator[Any]:
        manager = getattr(context.resources, io_manager_key)
        days = [date.fromisoformat(key) for key in context.partition_keys]
        yield from DailyRun(spec, context, manager.store(), inputs, days).execute()

    return compute


def _partition_mapping(window: Window) -> dg.TimeWindowPartitionMapping:
    with warnings.catch_warnings():
        # The parameter is marked beta. Without it Dagster refuses a window that reaches past the edges of the history.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.TimeWindowPartitionMapping(
            start_offset=window.first_offset,
            end_offset=window.last_offset,
            allow_nonexistent_upstream_partitions=True,
        )


def _check_specs(spec: DailySpec) -> Iterator[dg.AssetCheckSpec]:
    for key in spec.asset_keys.values():
        yield dg.AssetCheckSpec(
            CONTRACT_CHECK,
            asset=key,
            blocking=True,
            description="Columns, types, nulls, allowed values, key and day of the staged rows.",
        )
    main = next(iter(spec.asset_keys.values()))
    if spec.drops_rows:
        yield dg.AssetCheckSpec(
            ACCOUNTING_CHECK,
            asset=main,
            blocking=True,
            description="rows read = rows kept + duplicates + rejected, for every partition.",
        )
    for check in spec.checks:
        yield dg.AssetCheckSpec(check.name, asset=main, blocking=check.blocking, description=check.description)
