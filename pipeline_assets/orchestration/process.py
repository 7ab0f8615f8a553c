"""Running ranges in this process: which days, as which Dagster runs, on which instance."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.history.failures import INTERRUPTS, message_of
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.history.tags import LAUNCHED_BY_TAG, RANGE_END, RANGE_START
from pipeline_assets.partition import ranges_of
from pipeline_assets.rules.graph import Table, days_to_compute
from pipeline_assets.store import Store
from pipeline_assets.store.files import locked


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One Dagster run: a range of days of some assets."""

    keys: tuple[dg.AssetKey, ...]
    first: date
    last: date


@contextmanager
def open_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that the dagster.yaml in `folder` describes.

    The folder is locked while it is opened: two processes that make the same SQLite files at once break them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait_seconds=math.inf):
        instance = dg.DagsterInstance.from_config(str(folder))
        instance.get_run_records(limit=1)
        instance.fetch_materializations(dg.AssetKey("none"), limit=1)
        instance.all_instigator_state()
    with instance:
        yield instance


def selected_keys(defs: dg.Definitions, selection: str | None) -> list[dg.AssetKey]:
    """Assets of a selection in Dagster's syntax ("events", "events+", "a,b"), upstream first.

    None selects all but those with an automation condition, which Dagster requests when it is time. Tables that one
    function makes are selected together.

    Raises:
        UsageError: it names no asset.
    """
    graph = defs.resolve_asset_graph()
    order = [
        key
        for level in graph.toposorted_asset_keys_by_level
        for key in sorted(level)
        if key in graph.materializable_asset_keys
    ]
    if selection is None:
        return [key for key in order if graph.get(key).automation_condition is None]
    known = f"Assets: {', '.join(key.to_user_string() for key in order)}."
    try:
        wanted = dg.AssetSelection.from_coercible(selection.split(","))
        chosen = wanted.required_multi_asset_neighbors().resolve(graph)
    except (dg.DagsterError, ValueError) as error:
        raise UsageError(f"--select {selection} names no asset. {known}") from error
    if not chosen:
        raise UsageError(f"--select {selection} selects nothing. {known}")
    return [key for key in order if key in chosen]


def plan_range(
    defs: dg.Definitions, keys: Sequence[dg.AssetKey], asked: Sequence[date], store: Store
) -> list[PlannedRun]:
    """The runs that compute `asked` days of the assets, and those existing days that read what is computed anew."""
    graph = daily_graph(defs.resolve_asset_graph())
    names = {key.to_user_string(): key for key in keys}
    # Tables that one function makes are computed together, so a day of one is a day of all of them.
    steps = list(dict.fromkeys(tuple(names[each] for each in graph.steps[name] if each in names) for name in names))
    tables = [
        Table(name, {each: window for each, window in graph.tables[name].reads.items() if each in names})
        for name in names
    ]
    existing = {
        key.to_user_string(): {day for each in step for day in store.heads(each.to_user_string())}
        for step in steps
        for key in step
    }
    days = days_to_compute(tables, asked, existing)
    runs: list[PlannedRun] = []
    for step in steps:
        for first, last in ranges_of(days[step[0].to_user_string()]):
            previous = runs[-1] if runs else None
            if previous and (previous.first, previous.last) == (first, last):
                runs[-1] = PlannedRun((*previous.keys, *step), first, last)
            else:
                runs.append(PlannedRun(step, first, last))
    return runs


def execute(
    defs: dg.Definitions, run: PlannedRun, instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    """Execute one run in this process; it is seen in the UI like any other. A failure is in the result, not raised."""
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=list(run.keys),
        tags={
            RANGE_START: run.first.isoformat(),
            RANGE_END: run.last.isoformat(),
            LAUNCHED_BY_TAG: "cli",
            **(tags or {}),
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """True when somebody stopped it; Dagster has recorded it as failed."""
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error is not None and error.cls_name in INTERRUPTS for error in errors)


def failures_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """What failed, in the words of the steps; of the run, if it failed before any step could."""
    messages = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            messages.append(described or f"{event.step_key}: {message_of(data.error) if data.error else 'failed'}")
    of_run: list[Any] = [event.job_failure_data for event in result.all_events if event.is_run_failure]
    return messages or [message_of(data.error) for data in of_run if data is not None and data.error is not None]


def warnings_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """Checks that failed without stopping anything."""
    return [
        f"{evaluation.asset_key.to_user_string()}, {evaluation.check_name}: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.WARN
    ]
