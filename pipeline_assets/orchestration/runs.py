"""Running ranges in this process: which days, as which Dagster runs, on which instance."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from pipeline_assets.errors import SettingsError
from pipeline_assets.rules.reach import Table, days_to_compute, ranges_of
from pipeline_assets.rules.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from pipeline_assets.store import LocalStore

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One Dagster run: a range of days of some assets."""

    keys: tuple[dg.AssetKey, ...]
    first: date
    last: date


@contextmanager
def open_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that the dagster.yaml in `folder` describes.

    A lock is held while it is opened: two processes that make the same SQLite files at once break them.
    """
    lock = folder / ".data" / "dagster.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        instance = dg.DagsterInstance.from_config(str(folder))
        instance.get_run_records(limit=1)
        instance.fetch_materializations(dg.AssetKey("none"), limit=1)
        instance.all_instigator_state()
    with instance:
        yield instance


def selected_keys(defs: dg.Definitions, selection: str | None) -> list[dg.AssetKey]:
    """Assets of a selection in Dagster's syntax ("events", "events+", "a,b"), upstream first; all when None.

    Raises:
        SettingsError: it names no asset.
    """
    graph = defs.resolve_asset_graph()
    order = [key for level in graph.toposorted_asset_keys_by_level for key in sorted(level)]
    if selection is None:
        return order
    try:
        chosen = dg.AssetSelection.from_coercible(selection.split(",")).resolve(graph)
    except (dg.DagsterInvalidSubsetError, dg.DagsterInvalidDefinitionError, ValueError) as error:
        msg = f"--select {selection}: {error}. Assets: {', '.join(key.to_user_string() for key in order)}."
        raise SettingsError(msg) from error
    if not chosen:
        msg = f"--select {selection} selects nothing. Assets: {', '.join(key.to_user_string() for key in order)}."
        raise SettingsError(msg)
    return [key for key in order if key in chosen]


def plan_range(
    defs: dg.Definitions, keys: Sequence[dg.AssetKey], asked: Sequence[date], store: LocalStore
) -> list[PlannedRun]:
    """The runs that compute `asked` days of the assets, and those existing days that read what is computed anew."""
    graph = defs.resolve_asset_graph()
    tables = [
        Table(
            key.to_user_string(),
            {
                parent.to_user_string(): _window(graph.get_partition_mapping(key, parent))
                for parent in graph.get(key).parent_keys
                if parent in set(keys)
            },
        )
        for key in keys
    ]
    days = days_to_compute(tables, asked, {table.name: store.days(table.name) for table in tables})
    runs: list[PlannedRun] = []
    for key in keys:
        for first, last in ranges_of(days[key.to_user_string()]):
            previous = runs[-1] if runs else None
            if previous and (previous.first, previous.last) == (first, last):
                runs[-1] = PlannedRun((*previous.keys, key), first, last)
            else:
                runs.append(PlannedRun((key,), first, last))
    return runs


def execute(defs: dg.Definitions, run: PlannedRun, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Execute one run in this process; it is seen in the UI like any other. A failure is in the result, not raised."""
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=list(run.keys),
        tags={
            RANGE_START: run.first.isoformat(),
            RANGE_END: run.last.isoformat(),
            "pipeline/launched_by": "cli",
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )


def failures_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """What failed, in the words of the steps."""
    messages = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            messages.append(described or (data.error.message.strip() if data.error else "failed"))
    return messages


def warnings_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """Checks that failed without stopping anything."""
    return [
        f"{evaluation.asset_key.to_user_string()}, {evaluation.check_name}: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.WARN
    ]


def _window(mapping: dg.PartitionMapping) -> Window:
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return Window(mapping.start_offset, mapping.end_offset)
    return Window(0, 0)


def records_of(instance: dg.DagsterInstance, key: dg.AssetKey, days: Sequence[date]) -> dict[date, dict[str, str]]:
    """The newest record of each day as text by metadata key, with the id of the run that wrote it."""
    found: dict[date, dict[str, str]] = {}
    for day in days:
        filtered = dg.AssetRecordsFilter(key, asset_partitions=[day.isoformat()])
        for record in instance.fetch_materializations(filtered, limit=1).records:
            materialization = record.asset_materialization
            if materialization is not None:
                texts = {name: str(value.value) for name, value in materialization.metadata.items()}
                texts.pop("dagster/column_schema", None)
                found[day] = {**texts, "run": record.run_id}
    return found
