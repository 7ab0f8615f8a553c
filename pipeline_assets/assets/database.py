"""The DuckDB that the pipeline's SQL runs in: in this process, in memory, spilling to disk instead of growing."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

MEMORY_LIMIT = "384MB"
"""Enough for days of a million rows without spilling; DuckDB was seen to overshoot it by half."""


@contextmanager
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own, with its own settings and temporary tables, in the process's database."""
    connection = _database().cursor()
    try:
        yield connection
    finally:
        connection.close()


def single_row(connection: duckdb.DuckDBPyConnection, sql: str, parameters: object = None) -> tuple[Any, ...]:
    """The only row of a query, fetched to its end: DuckDB refuses further work while a result is unfinished."""
    (row,) = connection.execute(sql, parameters).fetchall()
    return tuple(row)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    import duckdb

    # Not its default, a folder .tmp wherever the process was started.
    spill = Path(tempfile.gettempdir()) / f"pipeline_assets-duckdb-{os.getpid()}"
    connection = duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(spill)})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    # An expression that stands twice would be computed once, outside of TRY: one bad row would fail its whole day.
    connection.execute("SET GLOBAL disabled_optimizers = 'common_subexpressions'")
    return connection
