"""What an IO manager for daily partitions promises, each promise a function that fails with a sentence.

With pytest:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_io_manager_keeps(promise, tmp_path):
        promise(MyIOManager(root=str(tmp_path)))

Each promise wants an IO manager whose store is empty. Frames are pyarrow.Table; a range is returned as a mapping of
partition key to frame.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date

import dagster as dg
import pyarrow as pa

DAYS = dg.DailyPartitionsDefinition("2026-03-01", end_date="2026-04-01")
KEYS = ("2026-03-28", "2026-03-29", "2026-03-30")


def a_partition_comes_back_as_it_was_written(io_manager: dg.IOManager) -> None:
    """Rows, order, column types and nulls survive."""
    written = _rows(KEYS[0], 3)
    _write(io_manager, {KEYS[0]: written})
    _expect(io_manager, {KEYS[0]: written})


def writing_again_replaces(io_manager: dg.IOManager) -> None:
    """After a retry or a backfill there are the rows of the last write, and only those."""
    for number in (3, 3, 1):
        rows = _rows(KEYS[0], number)
        _write(io_manager, {KEYS[0]: rows})
        _expect(io_manager, {KEYS[0]: rows})


def a_write_touches_only_its_own_partition(io_manager: dg.IOManager) -> None:
    """The days before and after stay as they were."""
    days = {key: _rows(key, 2) for key in KEYS}
    for key, rows in days.items():
        _write(io_manager, {key: rows})
    _write(io_manager, {KEYS[1]: _rows(KEYS[1], 5)})
    _expect(io_manager, {**days, KEYS[1]: _rows(KEYS[1], 5)})


def a_range_leaves_what_single_days_leave(io_manager: dg.IOManager) -> None:
    """One run over a range, then runs of its days: each day reads the same."""
    days = {key: _rows(key, number) for number, key in enumerate(KEYS)}
    _write(io_manager, days)
    _expect(io_manager, days)
    for key, rows in days.items():
        _write(io_manager, {key: rows})
    _expect(io_manager, days)


def a_day_without_rows_is_a_day(io_manager: dg.IOManager) -> None:
    """An empty partition reads as a frame with columns and no rows, not as a missing one."""
    empty = _rows(KEYS[0], 0)
    _write(io_manager, {KEYS[0]: empty})
    _expect(io_manager, {KEYS[0]: empty})


def a_day_that_was_never_written_is_an_error(io_manager: dg.IOManager) -> None:
    """A day that was never written does not read as an empty frame: that would say "no rows today"."""
    _write(io_manager, {KEYS[0]: _rows(KEYS[0], 1)})
    if _read(io_manager, KEYS[1]) is not None:
        raise AssertionError(f"{KEYS[1]} was never written, and yet it reads as a frame")


def a_failed_write_leaves_what_was_there(io_manager: dg.IOManager) -> None:
    """A frame that breaks off in the middle replaces nothing."""
    before = _rows(KEYS[0], 3)
    _write(io_manager, {KEYS[0]: before})

    def batches() -> Iterator[pa.RecordBatch]:
        yield _rows(KEYS[0], 2).to_batches()[0]
        raise OSError("the source broke off")

    broken = pa.RecordBatchReader.from_batches(before.schema, batches())
    if _run(io_manager, [KEYS[0]], broken):
        raise AssertionError("a frame that broke off was written as if it were whole")
    _expect(io_manager, {KEYS[0]: before})


def _rows(key: str, number: int) -> pa.Table:
    columns = {
        "id": pa.array(range(number), pa.int64()),
        "name": pa.array([None if index == 1 else f"név {index}" for index in range(number)], pa.string()),
        "day": pa.array([date.fromisoformat(key)] * number, pa.date32()),
    }
    return pa.table(columns)


def _write(io_manager: dg.IOManager, days: Mapping[str, pa.Table]) -> None:
    keys = sorted(days)
    if not _run(io_manager, keys, days[keys[0]] if len(keys) == 1 else dict(days)):
        raise AssertionError(f"writing {', '.join(keys)} failed")


def _run(io_manager: dg.IOManager, keys: Sequence[str], returned: object) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies are beta

        @dg.asset(name="conformance", partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
        def written() -> object:
            return returned

    return _materialized(io_manager, [written], keys)


def _read(io_manager: dg.IOManager, key: str) -> pa.Table | None:
    """The rows of a day, or None when reading it fails."""
    seen: list[pa.Table] = []

    @dg.asset(name="reader", partitions_def=DAYS, ins={"conformance": dg.AssetIn()}, io_manager_key="unused")
    def reader(conformance: pa.Table) -> None:
        seen.append(conformance)

    upstream = dg.AssetSpec("conformance", partitions_def=DAYS).with_io_manager_key("io_manager")
    return seen[0] if _materialized(io_manager, [reader, upstream], [key]) else None


def _materialized(io_manager: dg.IOManager, assets: Sequence[object], keys: Sequence[str]) -> bool:
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    result = dg.materialize(
        assets,  # type: ignore[arg-type]  # specs and definitions
        resources={"io_manager": io_manager, "unused": dg.mem_io_manager},
        tags=tags,
        raise_on_error=False,
    )
    return result.success


def _expect(io_manager: dg.IOManager, days: Mapping[str, pa.Table]) -> None:
    for key, expected in days.items():
        found = _read(io_manager, key)
        if found is None or not found.cast(expected.schema).equals(expected):
            raise AssertionError(
                f"{key} should read as {expected.to_pylist()}, it reads as {found and found.to_pylist()}"
            )


PROMISES: tuple[Callable[[dg.IOManager], None], ...] = tuple(
    each for name, each in dict(vars()).items() if getattr(each, "__module__", "") == __name__ and name[0] != "_"
)
"""All that stands above under a public name."""
