"""A lake and a home that were made before the lake had records of its own kind: they are taken over as they are.

`before/made_by_8a7fd0e.tar.xz` was made by that commit: `pipeline run` over three days of small landing files.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.partition import Partition
from pipeline_assets_tests.mishaps.world import Shop, needed, prepare

MADE = Path(__file__).parent / "before" / "made_by_8a7fd0e.tar.xz"
TABLES = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")
FIRST, SECOND, LAST = "2026-03-01", "2026-03-02", "2026-03-03"


@pytest.fixture
def taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """The lake and the home, in the hands of the present code."""
    with tarfile.open(MADE) as made:
        made.extractall(tmp_path, filter="data")
    prepare(tmp_path, monkeypatch)
    monkeypatch.setenv("PIPELINE_START", FIRST)
    with open_instance(tmp_path / "home") as instance:
        yield Shop(tmp_path, instance, monkeypatch, capsys)


def files_of(shop: Shop) -> dict[str, tuple[int, int]]:
    """Inodes and times of all files that readers see."""
    files = (each for table in TABLES for each in (shop.folder / "lake" / table).rglob("*.parquet"))
    return {str(each): (each.stat().st_ino, each.stat().st_mtime_ns) for each in files}


@pytest.mark.parametrize("mode", ["incremental", "missing", "failed"])
def test_nothing_is_to_be_computed(taken_over: Shop, mode: str) -> None:
    assert taken_over.planned("--mode", mode) == {}
    assert taken_over.settle() == []
    assert taken_over.failures == []


def test_nothing_is_to_be_computed_when_a_day_was_made_again_with_the_same_rows(taken_over: Shop) -> None:
    before = files_of(taken_over)
    needed(len(before) == len(TABLES) * 3)
    for select in ("raw_events,rejected_events", "events", "daily_sales"):
        taken_over.output("run", "--select", select, "--from", SECOND, "--to", SECOND)
        assert taken_over.planned() == {}
        assert taken_over.settle() == []

    head = taken_over.lake.store.head(Partition("events", date.fromisoformat(SECOND)))
    assert head is not None
    assert head.digest.startswith("rows1:")
    assert files_of(taken_over) == before


def test_a_change_is_followed_and_what_did_not_change_stays(taken_over: Shop) -> None:
    with (taken_over.folder / "landing" / f"dt={LAST}" / "a.csv").open("a") as file:
        file.write(f"late,u1,purchase,7.00,{LAST}T10:00:00Z\n")
    before = files_of(taken_over)

    taken_over.settle()

    changed = {path.split("/lake/")[1] for path, stamp in files_of(taken_over).items() if before[path] != stamp}
    assert changed <= {f"{table}/dt={LAST}/data.parquet" for table in TABLES}
    assert {f"raw_events/dt={LAST}/data.parquet", f"daily_sales/dt={LAST}/data.parquet"} <= changed
    assert taken_over.planned() == {}


@pytest.mark.parametrize("lost", ["home", "_records"])
def test_it_is_taken_over_also_if_one_of_both_is_lost(taken_over: Shop, lost: str) -> None:
    """What the event log tells of the bytes counts where the lake has no record, and the other way round."""
    if lost == "home":
        for table in TABLES:
            taken_over.wipe(table)
    else:
        shutil.rmtree(taken_over.folder / "lake" / "_records")

    assert taken_over.planned() == {}
    assert taken_over.settle() == []
