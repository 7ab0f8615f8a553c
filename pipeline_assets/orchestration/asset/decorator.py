"""`daily_asset`: a pure function of one day becomes a Dagster asset with atomic daily partitions.

The function is called once per day of whatever the run asks for: one partition, a range, a backfill. So a range run
leaves what runs of single days leave, and one day is in memory at a time.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Generic, ParamSpec, Required, TypedDict, TypeVar, Unpack, overload

import dagster as dg

from pipeline_assets.orchestration.asset.audit import ACCOUNTING_CHECK, CONTRACT_CHECK, INPUTS_CHECK
from pipeline_assets.orchestration.asset.due import due_metadata, freshness_policy
from pipeline_assets.orchestration.asset.run import DailyRun
from pipeline_assets.orchestration.asset.spec import ALERT_METADATA, DailySpec, problems_of
from pipeline_assets.orchestration.partition.io_manager import ParquetIOManager
from pipeline_assets.orchestration.partition.materialization import table_schema
from pipeline_assets.orchestration.partition.upstream import Upstream
from pipeline_assets.orchestration.retry.layers import classified
from pipeline_assets.orchestration.retry.step import begin, step_of
from pipeline_assets.rules.checks import Check
from pipeline_assets.rules.code_version import code_version as derived_code_version
from pipeline_assets.rules.contract import Contract
from pipeline_assets.rules.due import Due
from pipeline_assets.rules.windows import Window

P = ParamSpec("P")
R = TypeVar("R")
_UPSTREAM = dg.PythonObjectDagsterType(Upstream)
"""Tells the IO manager to hand over the table instead of rows. One object: Dagster wants type names to be unique."""


class Defaults(TypedDict, total=False):
    """What a project may state once for all its daily assets; `daily_asset` says what it means."""

    io_manager_key: str
    key_prefix: Sequence[str]
    group_name: str | None
    owners: Sequence[str] | None
    kinds: set[str] | None
    backfill_policy: dg.BackfillPolicy | None
    retry_policy: dg.RetryPolicy | None


class Options(Defaults, total=False):
    """What an author may state of a daily asset of the project's days."""

    contract: Required[Contract | Mapping[str, Contract]]
    ins: Mapping[str, Window]
    deps: Mapping[str, Window]
    params: Mapping[str, Any]
    checks: Sequence[Check]
    drops_rows: bool
    dead_letter: str | None
    description: str | None
    code_version: str | None
    due: Due | None


class OptionsWithDays(Options):
    """What an author may state of a daily asset that has days of its own."""

    partitions_def: Required[dg.TimeWindowPartitionsDefinition]


@dataclass(frozen=True, slots=True)
class DailyAsset(Generic[P, R]):
    """A daily asset that leaves its days, and what else the project has for all, to the project.

    Called, it is the function alone, as a test calls it.
    """

    function: Callable[P, R]
    options: Mapping[str, Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute one day."""
        return self.function(*args, **kwargs)

    def with_defaults(
        self, partitions_def: dg.TimeWindowPartitionsDefinition, **defaults: Unpack[Defaults]
    ) -> dg.AssetsDefinition:
        """Make the asset; what its author stated goes before the defaults.

        Raises:
            dagster.DagsterInvalidDefinitionError: the options do not fit each other; the message says which.
        """
        return _asset_of(self.function, **{"partitions_def": partitions_def, **defaults, **self.options})


@overload
def daily_asset(function: Callable[..., Any], **options: Unpack[OptionsWithDays]) -> dg.AssetsDefinition: ...
@overload
def daily_asset(**options: Unpack[OptionsWithDays]) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]: ...
@overload
def daily_asset(function: Callable[P, R], **options: Unpack[Options]) -> DailyAsset[P, R]: ...
@overload
def daily_asset(**options: Unpack[Options]) -> Callable[[Callable[P, R]], DailyAsset[P, R]]: ...
def daily_asset(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a daily-partitioned asset of a function `(day: date, <inputs>, <params>) -> frame`.

    Inputs come, and rows are returned, as the annotations say: pandas.DataFrame (Arrow-backed), pyarrow.Table, or
    pyarrow.RecordBatchReader for a day larger than memory. An input of several days has its day as column `dt`.
    A function that drops rows returns `Result(rows, accounting)`. The asset's runs are counted in a pool that has the
    asset's name, for a limit of runs per table.

    Args:
        function: left out, it is a decorator.
        partitions_def: days, with their time zone. Left out, the result is a `DailyAsset`, which gets the project's
            days when it stands in a file of `pipeline_assets/assets`.
        contract: of the table, named like the function; or of several tables, by name, the main one first.
        ins: window of days for every parameter that is an upstream table; its key has the same `key_prefix`.
        deps: window of days for every upstream asset that the function reads by itself, such as files; it returns
            `Result(..., made_from=)` with the digest of what it read of each. Keys have the same `key_prefix`.
        params: values for further parameters; part of the code version.
        checks: run on the staged rows, before anyone can read them.
        drops_rows: the function returns its accounting, and every partition is checked against it.
        dead_letter: the table, among several, that holds the rejected rows.
        io_manager_key: a resource that is a ParquetIOManager; "io_manager" unless stated.
        code_version: derived from the code of the function and of what it uses, its contract and its params unless
            stated.
        backfill_policy: a range in one run unless stated.
        due: when the partition of a day must be there, `by("06:00")`; of all tables that the function makes.
        retry_policy: as in dagster.asset, but only for what Dagster itself raises: what the function, its inputs or
            the store raise is tried again as the verdict table says (`rules.retry`), whatever the policy.
        **options: as above; key_prefix, group_name, owners and kinds as in dagster.asset.

    Raises:
        dagster.DagsterInvalidDefinitionError: the arguments do not fit each other; the message says which.
    """
    if function is None:
        return partial(daily_asset, **options)
    return _asset_of(function, **options) if "partitions_def" in options else DailyAsset(function, options)


def _asset_of(
    function: Callable[..., Any],
    *,
    partitions_def: dg.TimeWindowPartitionsDefinition,
    contract: Contract | Mapping[str, Contract],
    ins: Mapping[str, Window] | None = None,
    deps: Mapping[str, Window] | None = None,
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
    due: Due | None = None,
) -> dg.AssetsDefinition:
    name = function.__name__
    contracts = dict(contract) if isinstance(contract, Mapping) else {name: contract}
    keys = {table: dg.AssetKey([*key_prefix, table]) for table in contracts}
    version = code_version or derived_code_version(function, contracts, sorted((params or {}).items()))
    spec = DailySpec(
        function=function,
        contracts=contracts,
        asset_keys=keys,
        windows=dict(ins or {}),
        deps=tuple(deps or {}),
        params=dict(params or {}),
        checks=tuple(checks),
        drops_rows=drops_rows,
        dead_letter=dead_letter,
        timezone=getattr(partitions_def, "timezone", "UTC"),
        code_version=version,
    )
    for problem in problems_of(spec, partitions_def, states_version=code_version is not None):
        raise dg.DagsterInvalidDefinitionError(f"daily_asset {name}: {problem}.")
    text = description or inspect.getdoc(function)
    if due is not None and not isinstance(due, Due):
        raise dg.DagsterInvalidDefinitionError(
            f"daily_asset {name}: its due is {due!r}; write by('06:00'), from pipeline_assets.rules.due."
        )
    promised = due.in_zone(spec.timezone) if due else None

    @dg.multi_asset(
        name="__".join([*key_prefix, name]),
        ins={
            parameter: dg.AssetIn(
                key=dg.AssetKey([*key_prefix, parameter]),
                partition_mapping=_partition_mapping(window),
                dagster_type=_UPSTREAM,
            )
            for parameter, window in spec.windows.items()
        },
        deps=[
            dg.AssetDep(dg.AssetKey([*key_prefix, upstream]), partition_mapping=_partition_mapping(window))
            for upstream, window in (deps or {}).items()
        ],
        outs={
            table: dg.AssetOut(
                key=keys[table],
                io_manager_key=io_manager_key,
                description=text,
                code_version=version,
                group_name=group_name,
                owners=owners,
                kinds=kinds,
                metadata={
                    "dagster/column_schema": table_schema(contracts[table].schema, contracts[table]),
                    **(due_metadata(promised) if promised else {}),
                },
                freshness_policy=freshness_policy(promised) if promised else None,
            )
            for table in contracts
        },
        check_specs=list(_check_specs(spec)),
        partitions_def=partitions_def,
        backfill_policy=backfill_policy or dg.BackfillPolicy.single_run(),
        required_resource_keys={io_manager_key},
        retry_policy=retry_policy,
        pool="/".join([*key_prefix, name]),
    )
    def compute(context: dg.AssetExecutionContext, **inputs: Upstream) -> Iterator[Any]:
        manager = getattr(context.resources, io_manager_key)
        if not isinstance(manager, ParquetIOManager):
            raise dg.Failure(
                f"{name}: the resource {io_manager_key!r} is a {type(manager).__name__}. A daily_asset writes through "
                f"a ParquetIOManager: Definitions(resources={{{io_manager_key!r}: ParquetIOManager(root=...)}}).",
                allow_retries=False,
            )
        days = [date.fromisoformat(key) for key in context.partition_keys]
        ended = partitions_def.get_last_partition_key()
        history = (partitions_def.start.date(), date.fromisoformat(ended) if ended else max(days))
        retrying = manager.retrying()
        with classified(context, retrying, days=days):
            step = step_of(context, retrying)
            begin(step, context)
            yield from DailyRun(spec, context, step, manager.store(), inputs, days, history).execute()

    return compute


def _partition_mapping(window: Window) -> dg.TimeWindowPartitionMapping:
    with warnings.catch_warnings():
        # The parameter is marked beta. Without it Dagster refuses a window that reaches past the edges of the history.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.TimeWindowPartitionMapping(
            start_offset=window.first_offset, end_offset=window.last_offset, allow_nonexistent_upstream_partitions=True
        )


def _check_specs(spec: DailySpec) -> Iterator[dg.AssetCheckSpec]:
    for key in spec.asset_keys.values():
        text = "Columns, types, nulls, allowed values, key and day of the staged rows."
        yield dg.AssetCheckSpec(CONTRACT_CHECK, asset=key, blocking=True, description=text)
    main = spec.asset_keys[spec.main]
    if spec.drops_rows:
        text = "rows read = rows kept + duplicates + rejected, for every partition."
        yield dg.AssetCheckSpec(ACCOUNTING_CHECK, asset=main, blocking=True, description=text)
    if spec.reads_windows:
        text = "Every day of the windows that lies in the history, and is over, had been computed."
        yield dg.AssetCheckSpec(INPUTS_CHECK, asset=main, description=text)
    for check in spec.checks:
        yield dg.AssetCheckSpec(
            check.name,
            asset=main,
            blocking=check.blocking,
            description=check.description,
            metadata={ALERT_METADATA: True} if check.alert else None,
        )
