"""The conformance kit passes our own IO manager, and fails ones that break a promise."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import ParquetIOManager
from pipeline_assets.testing import PROMISES
from pipeline_assets.testing import io_manager as kit

Promise = Callable[[dg.IOManager], None]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_our_io_manager_keeps(promise: Promise, tmp_path: Path) -> None:
    promise(ParquetIOManager(root=str(tmp_path)))


class Careless(dg.IOManager):
    """Appends, in place, and calls a day that it does not know empty."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        frames = obj if isinstance(obj, dict) else {context.asset_partition_keys[0]: obj}
        for key, frame in frames.items():
            with (self.root / key).open("ab") as file:
                for batch in frame if isinstance(frame, pa.RecordBatchReader) else frame.to_batches():
                    pickle.dump(batch, file)

    def load_input(self, context: dg.InputContext) -> pa.Table:
        path, batches = self.root / context.asset_partition_keys[0], []
        if path.exists():
            with path.open("rb") as file:
                while file.peek(1):
                    batches.append(pickle.load(file))  # noqa: S301 - it wrote it itself
        return pa.Table.from_batches(batches, kit._rows(kit.KEYS[0], 0).schema)


@pytest.mark.parametrize(
    ("promise", "said"),
    [
        (kit.writing_again_replaces, "should read as"),
        (kit.a_day_that_was_never_written_is_an_error, "never written"),
        (kit.a_failed_write_leaves_what_was_there, "should read as"),
    ],
)
def test_a_careless_io_manager_does_not_keep(promise: Promise, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        promise(Careless(tmp_path))
