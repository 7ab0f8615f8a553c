"""Lake and event log are held against each other: each flaw is found, named and mended if that needs no computing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.errors import PartitionDamaged
from pipeline_assets.orchestration.backfill.fsck import flaws_of
from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.orchestration.partition.frames import Result
from pipeline_assets.partition import Partition
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.store import FlawKind
from pipeline_assets.store.local.records import path_of as record_of
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, SHOP, Lake, day, key, numbers
from pipeline_assets_tests.support.commits import path_of

Found = set[tuple[str, str, int]]


@daily_asset(partitions_def=DAYS, contract={"kept": ROW, "bad": ROW}, drops_rows=True, dead_letter="bad")
def both(day: date) -> Result:
    return Result({"kept": numbers(1), "bad": numbers(2)}, Accounting(2, 1, 0, 1))


ASSETS: list[Any] = [*SHOP, both]


def found_in(lake: Lake, *, read: bool = True, mend: bool = False, left: bool = False) -> Found:
    """Kinds, tables and numbers of days of the flaws, of those that were not mended if `left`."""
    assets = dg.Definitions(ASSETS).resolve_asset_graph()
    flaws = flaws_of(lake.instance, assets, lake.store, read=read, mend=mend)
    return {
        (each.kind.value, each.partition.table, (each.partition.day - day(0)).days)
        for each in flaws
        if not (left and each.is_mended)
    }


def head_of(lake: Lake, table: str, number: int) -> Path:
    return path_of(lake.store, Partition(table, day(number)))


def change_in_place(lake: Lake) -> None:
    """So that only the bytes show it."""
    path = head_of(lake, "visits", 1)
    before, content = path.stat(), bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwrite(lake: Lake) -> None:
    shutil.copyfile(head_of(lake, "visits", 0), head_of(lake, "visits", 1))


def damage(lake: Lake) -> None:
    head_of(lake, "visits", 1).write_bytes(b"half a fi")


def remove(lake: Lake) -> None:
    shutil.rmtree(head_of(lake, "visits", 1).parent)


def move(lake: Lake) -> None:
    path = head_of(lake, "visits", 1)
    path.write_bytes(path.read_bytes())


def spoil_the_record(lake: Lake) -> None:
    record_of(lake.root, Partition("visits", day(1))).write_text('{"current": nothing}')


def tear(lake: Lake) -> None:
    record = record_of(lake.root, Partition("bad", day(1)))
    content = record.read_text()
    step = content.split('"step":"')[1].split('"')[0]
    record.write_text(content.replace(step, "another"))


def leave_behind(lake: Lake) -> None:
    folder = lake.root / "_staging" / "visits"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{key(1)}.0123.parquet").write_bytes(b"half")


def spoil_what_is_kept(lake: Lake) -> None:
    (kept,) = (lake.root / "_history" / "visits" / f"dt={key(1)}").iterdir()
    content = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(content[:-1])


def publish(lake: Lake) -> None:
    lake.put("visits", 1, numbers(7))


def wipe(lake: Lake) -> None:
    lake.instance.wipe_assets([key_of("visits")])


TROUBLES: list[tuple[Callable[[Lake], None], Found, Found]] = [
    (change_in_place, {("damaged", "visits", 1)}, {("damaged", "visits", 1)}),
    (overwrite, {("unrecorded", "visits", 1)}, {("unrecorded", "visits", 1)}),
    (damage, {("damaged", "visits", 1)}, {("damaged", "visits", 1)}),
    (remove, {("gone", "visits", 1)}, {("gone", "visits", 1)}),
    (move, {("moved", "visits", 1), ("log", "visits", 1)}, set()),
    (spoil_the_record, {("record", "visits", 1), ("log", "visits", 1)}, set()),
    (tear, {("torn", "bad", 1), ("log", "bad", 1)}, {("torn", "bad", 1)}),
    (leave_behind, {("leftover", "visits", 1)}, set()),
    (spoil_what_is_kept, {("kept", "visits", 1)}, {("kept", "visits", 1)}),
    (publish, {("log", "visits", 1)}, set()),
    (wipe, {("log", "visits", number) for number in range(3)}, set()),
]


@pytest.fixture
def whole(disk_lake: Lake) -> Lake:
    """Three days of four tables, one of them with a history."""
    disk_lake.put("visits", 1, pa.table({"user": ["a"], "seconds": [1]}))
    assert disk_lake.run(ASSETS, 0, 2).success
    assert found_in(disk_lake) == set()
    return disk_lake


@pytest.mark.parametrize(("trouble", "flaws", "left"), TROUBLES, ids=lambda each: getattr(each, "__name__", ""))
def test_every_flaw_is_found_and_mended_if_nothing_has_to_be_computed(
    whole: Lake, trouble: Callable[[Lake], None], flaws: Found, left: Found
) -> None:
    trouble(whole)

    assert found_in(whole) == flaws
    if trouble not in (change_in_place, spoil_what_is_kept):  # these show in the bytes alone
        assert found_in(whole, read=False) == flaws
    assert found_in(whole, mend=True, left=True) <= left
    assert found_in(whole) <= left


def test_a_kept_commit_that_was_damaged_is_not_restored(whole: Lake) -> None:
    spoil_what_is_kept(whole)
    (kept,) = whole.store.history(Partition("visits", day(1)))
    head = whole.digest("visits", 1)

    with pytest.raises(PartitionDamaged, match="was damaged"):
        whole.store.restore(Partition("visits", day(1)), kept.digest)
    assert whole.digest("visits", 1) == head


def test_kinds_of_flaws_are_all_tried() -> None:
    assert {kind for _, flaws, _ in TROUBLES for kind, _, _ in flaws} == {kind.value for kind in FlawKind}
