"""Runs that a code server starts are forked from a process that has imported everything already.

Python imports a module of this name from its path when it starts. Dagster's code servers start each run in a new
interpreter, which takes three seconds of a processor to import what the one before it had imported.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.context import BaseContext

IMPORTED = [
    "dagster._grpc.server",
    "dagster._core.execution.api",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.instance.runs.run_domain",
    "dagster._core.launcher.default_run_launcher",
    "dagster._core.run_coordinator.queued_run_coordinator",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.sqlite_storage",
    "upath.implementations.local",
    "pandas",
    "pyarrow.pandas_compat",
    "duckdb",
    "pipeline_assets.assets.pipeline",
    "pipeline_assets.orchestration.alerts.sensor",
    "pipeline_assets.orchestration.backfill.safety_net",
    "pipeline_assets.orchestration.changes.upstream_sensor",
    "pipeline_assets.orchestration.sla.sensor",
]
"""Not the definitions: each run loads its own, of the settings and files that there are then."""

_get_context = multiprocessing.get_context


def warm_context(method: str | None = None) -> BaseContext:
    """A context that forks where a new interpreter was asked for."""
    if method != "spawn":
        return _get_context(method)
    context = _get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


if __name__ == "sitecustomize" and {"api", "grpc"} <= set(sys.orig_argv):
    multiprocessing.get_context = warm_context  # type: ignore[assignment]
