"""Dagster with nothing of this project: the IO manager that ours is measured against, and how both are run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq


class PlainIOManager(dg.IOManager):
    """One file per asset and partition by `write_table` with its defaults.

    Args:
        fsync: make sure that each file is on the disk.
    """

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self.folder = folder
        self.fsync = fsync

    def handle_output(self, context: dg.OutputContext, obj: pa.Table | Mapping[str, pa.Table]) -> None:
        """Write a table; a range comes as a table per partition key."""
        keys = context.asset_partition_keys
        tables = obj if isinstance(obj, Mapping) else {keys[0]: obj}
        for key in keys:
            write_plain(self._path(context.asset_key, key), tables[key], fsync=self.fsync)

    def load_input(self, context: dg.InputContext) -> dict[str, pa.Table]:
        """A table per partition key."""
        return {key: pq.read_table(self._path(context.asset_key, key)) for key in context.asset_partition_keys}

    def _path(self, asset: dg.AssetKey, key: str) -> Path:
        folder = self.folder / asset.to_user_string()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{key}.parquet"


def write_plain(path: Path, table: pa.Table, *, fsync: bool = True) -> None:
    """`write_table` with its defaults."""
    pq.write_table(table, path)
    if fsync:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def materialize(assets: Sequence[dg.AssetsDefinition], manager: object, key: str) -> None:
    """Materialize one partition in this process, without printing the log."""
    dg.materialize(
        assets,
        resources={"io_manager": manager},
        partition_key=key,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
