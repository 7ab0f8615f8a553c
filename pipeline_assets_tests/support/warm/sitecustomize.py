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
    "pandas",
    "duckdb",
    "pipeline_assets.orchestration",
    "pipeline_assets.assets.pipeline",
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
