"""A lake and a Dagster instance of their own, as the tests of this folder use them, and small assets to run there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.orchestration.history.tags import RANGE_END, RANGE_START
from pipeline_assets.orchestration.retry.step import RetryRules
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.retry import VERDICTS
from pipeline_assets.rules.windows import trailing
from pipeline_assets.store import Store
from pipeline_assets.store.parquet import PartitionWriter, read_table
from pipeline_assets_tests.support.commits import days_of

DAYS = dg.DailyPartitionsDefinition("2024-02-27")
FIRST = date(2024, 2, 27)
"""The history begins two days before a leap day."""
RECORDS = "_records"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
VISITS = Contract((Column("user", pa.string()), Column("seconds", pa.int64())), key=("user",))
TOTALS = Contract((Column("user", pa.string()), Column("seconds", pa.int64(), description="Sum.")), key=("user",))
ROW = Contract((Column("n", pa.int64()),))
Asset = dg.AssetsDefinition
HASTY = tuple(
    replace(each, base_seconds=each.base_seconds / 100, cap_seconds=each.cap_seconds / 100) for each in VERDICTS
)
"""The verdict table with a hundredth of its waits."""


class Impatient(ParquetIOManager):
    """Waits as the table says, only shorter, and the full backoff every time."""

    def retrying(self) -> RetryRules:
        return RetryRules(HASTY, jitter=lambda: 1.0)


def day(number: int) -> date:
    """The day of that number, the history's first being 0."""
    return FIRST + timedelta(days=number)


def key(number: int) -> str:
    """Its partition key."""
    return day(number).isoformat()


@dataclass
class Lake:
    """Runs assets over days, and says what that left."""

    uri: Path | str
    instance: dg.DagsterInstance

    @property
    def root(self) -> Path:
        """Of a lake on the disk."""
        assert isinstance(self.uri, Path), "this test looks at files: it takes `disk_lake`"
        return self.uri

    @property
    def manager(self) -> ParquetIOManager:
        return Impatient(root=str(self.uri))

    @property
    def store(self) -> Store:
        return self.manager.store()

    def run(
        self,
        assets: Sequence[Asset] | Asset,
        first: int = 0,
        last: int | None = None,
        *,
        select: Sequence[str] | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """One run of the days `first` to `last` as range tags; a failure is in the result, not raised."""
        tags = {RANGE_START: key(first), RANGE_END: key(first if last is None else last)}
        return self._materialize(assets, select, resources, tags=tags)

    def run_key(
        self, assets: Sequence[Asset] | Asset, number: int, *, select: Sequence[str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """One run of one partition, by its key."""
        return self._materialize(assets, select, None, partition_key=key(number))

    def _materialize(
        self,
        assets: Sequence[Asset] | Asset,
        select: Sequence[str] | None,
        resources: Mapping[str, Any] | None,
        **how: Any,
    ) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            list(assets) if isinstance(assets, Sequence) else [assets],
            instance=self.instance,
            resources={"io_manager": self.manager} if resources is None else resources,
            selection=None if select is None else list(select),
            run_config=QUIET,
            raise_on_error=False,
            **how,
        )

    def rows(self, table: str, number: int) -> list[dict[str, Any]]:
        """Rows of the head."""
        pinned = self.store.open(Partition(table, day(number)))
        assert pinned is not None, f"{table} has no day {number}"
        with pinned.file as file:
            rows: list[dict[str, Any]] = read_table(file).to_pylist()
        return rows

    def put(self, table: str, number: int, rows: pa.Table) -> str:
        """Publish rows from outside of Dagster, over whatever is there; its digest."""
        partition = Partition(table, day(number))
        seen = self.store.look([partition])[partition]
        with self.store.stage(partition) as staged:
            writer = PartitionWriter(staged, rows.schema)
            writer.write(rows)
            writer.close()
            return self.store.publish(staged, Record(digest=writer.digest), seen=seen).commit.digest

    def days(self, table: str) -> list[int]:
        """Numbers of the days that have a commit."""
        return [(each - FIRST).days for each in days_of(self.store, table)]

    def digest(self, table: str, number: int) -> str | None:
        """Digest of the head."""
        head = self.store.head(Partition(table, day(number)))
        return None if head is None else head.digest

    def recorded(self, table: str) -> dict[int, list[dict[str, Any]]]:
        """Metadata of every materialization, the newest first, by day."""
        asset_key = dg.AssetKey(table.split("/"))
        found: dict[int, list[dict[str, Any]]] = {}
        for record in self.instance.fetch_materializations(asset_key, limit=1000).records:
            made = record.asset_materialization
            assert made is not None
            assert made.partition is not None
            assert record.run_id, "recorded outside of a run"
            number = (date.fromisoformat(made.partition) - FIRST).days
            found.setdefault(number, []).append({name: value.value for name, value in made.metadata.items()})
        return found

    def log(self, result: dg.ExecuteInProcessResult) -> str:
        """What the run logged, with the text of errors."""
        return "\n".join(entry.user_message for entry in self.instance.all_logs(result.run_id))


def sha256(root: Path) -> dict[str, str]:
    """Of every file below a lake's folder, by path; but for records, which tell when a partition was made again."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and RECORDS not in path.parts
    }


def tables_of(files: Mapping[str, str]) -> dict[str, str]:
    """Those of them that readers see: without history and staging."""
    return {name: digest for name, digest in files.items() if not name.startswith("_")}


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and mtime of every file and folder of a lake, but for records: a write of any kind shows in them."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if RECORDS not in path.parts
    }


def open_files(root: Path) -> list[str]:
    """Files of the lake that this process has open."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    found = []
    for descriptor in descriptors.iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the one that lists the folder
            continue
    return [path for path in found if path.startswith(str(root))]


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    texts, error = [], data.error
    while error is not None:
        texts.append(error.message)
        error = error.cause
    return "\n".join(texts)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Asset check evaluations as table.check."""
    return {
        f"{each.asset_key.to_user_string()}.{each.check_name}": each for each in result.get_asset_check_evaluations()
    }


def numbers(*values: int) -> pa.Table:
    """Rows of the contract ROW."""
    return pa.table({"n": pa.array(values, pa.int64())})


@daily_asset(partitions_def=DAYS, contract=VISITS)
def visits(day: date) -> pa.Table:
    """Visits of a day: other users and durations every day, some days none."""
    count = day.toordinal() % 5
    return pa.table(
        {
            "user": pa.array([f"u{number}" for number in range(count)], pa.string()),
            "seconds": pa.array([day.day * 10 + number for number in range(count)], pa.int64()),
        }
    )


@daily_asset(partitions_def=DAYS, contract=TOTALS, ins={"visits": trailing(days=3)})
def totals(day: date, visits: pa.Table) -> pa.Table:
    """Seconds per user over three days."""
    return visits.group_by("user").aggregate([("seconds", "sum")]).rename_columns(["user", "seconds"])


SHOP = [visits, totals]
