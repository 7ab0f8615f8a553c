"""The promises P1, P2 and P3, kept by the reference pipeline over days of the demo shop."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets_tests.orchestration import shop
from pipeline_assets_tests.orchestration.lake import sha256, stamps, tables_of
from pipeline_assets_tests.support.properties import examples

pytestmark = pytest.mark.xdist_group("promises")

KILLS = 15
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.land(tmp_path_factory.mktemp("landing"), seed=1)


@pytest.fixture(scope="module")
def whole(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of all days as one run leaves it. Tests only read it."""
    lake = tmp_path_factory.mktemp("whole")
    shop.run(landing, lake)
    return lake


@pytest.fixture(scope="module")
def few(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of a few days as one run leaves it. Tests only read it."""
    lake = tmp_path_factory.mktemp("few")
    shop.run(landing, lake, shop.FEW_DAYS)
    return lake


# P1: idempotent to the byte.


def test_a_second_run_touches_nothing(landing: Path, whole: Path) -> None:
    files, touched = sha256(whole), stamps(whole)
    shop.run(landing, whole)
    assert sha256(whole) == files
    assert {name: stamp for name, stamp in stamps(whole).items() if not name.startswith("_staging")} == {
        name: stamp for name, stamp in touched.items() if not name.startswith("_staging")
    }
    assert not list((whole / "_staging").rglob("*.parquet"))


def test_another_order_and_other_chunks_end_in_the_same_bytes(landing: Path, whole: Path, tmp_path: Path) -> None:
    days = shop.DAYS
    for chunk in (days[5:7], days[0:1], days[1:3], days[7:8], days[3:5]):
        shop.run(landing, tmp_path, chunk)
    assert tables_of(sha256(tmp_path)) == tables_of(sha256(whole))


@pytest.mark.slow(7)
def test_another_process_with_another_hash_seed_and_zone_ends_in_the_same_bytes(
    landing: Path, few: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline_assets_tests.orchestration import shop;"
        "shop.run(Path(sys.argv[1]), Path(sys.argv[2]), shop.FEW_DAYS)"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "TZ": "Pacific/Apia",
        "LANG": "C",
        "PYTHONPATH": str(shop.PROJECT),
    }
    subprocess.run(
        [sys.executable, "-c", code, str(landing), str(tmp_path / "lake")], cwd=tmp_path, env=environment, check=True
    )
    assert tables_of(sha256(tmp_path / "lake")) == tables_of(sha256(few))


# P2: range-invariant.


@st.composite
def splits(draw: st.DrawFn, days: Sequence[date]) -> list[list[date]]:
    """The days as chunks of neighbours, in any order of chunks."""
    cuts = [0, *sorted(draw(st.sets(st.integers(1, len(days) - 1)))), len(days)]
    chunks = [list(days[first:last]) for first, last in pairwise(cuts)]
    return draw(st.permutations(chunks))


@contextmanager
def lake_with(tables: Sequence[str], source: Path) -> Iterator[Path]:
    """A new lake that has these tables of another one."""
    with tempfile.TemporaryDirectory() as folder:
        for table in tables:
            shutil.copytree(source / table, Path(folder) / table)
        yield Path(folder)


MADE_FROM = {
    "raw_events": [],
    "events": ["raw_events"],
    "daily_sales": ["events"],
    "user_features": ["events"],
    "user_segments": ["user_features"],
}


@examples(10)
@given(asset=st.sampled_from(sorted(MADE_FROM)), chunks=splits(shop.DAYS))
def test_any_split_of_a_range_of_one_asset_leaves_what_one_run_leaves(
    landing: Path, whole: Path, asset: str, chunks: list[list[date]]
) -> None:
    with lake_with(MADE_FROM[asset], whole) as lake:
        for chunk in chunks:
            shop.run(landing, lake, chunk, select=asset)
        assert sha256(lake / asset) == sha256(whole / asset)


@examples(4)
@given(chunks=splits(shop.FEW_DAYS))
def test_any_split_of_a_range_of_the_pipeline_leaves_what_one_run_leaves(
    landing: Path, few: Path, chunks: list[list[date]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for chunk in chunks:
            shop.run(landing, Path(folder), chunk)
        assert tables_of(sha256(Path(folder))) == tables_of(sha256(few))


# P3: atomic.

READER = """
import hashlib, json, random, sys, threading
from pathlib import Path
lake, seen, stop = Path(sys.argv[1]), {}, threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
paths = sorted(lake.glob("*/dt=*/data.parquet"))
chooser = random.Random(int(sys.argv[2]))
print("reading", flush=True)
while not stop.wait(0.002):
    path = chooser.choice(paths)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    seen.setdefault(str(path.relative_to(lake)), {}).setdefault(digest, 0)
    seen[str(path.relative_to(lake))][digest] += 1
print(json.dumps(seen))
"""


@contextmanager
def reading(lake: Path, readers: int) -> Iterator[list[dict[str, dict[str, int]]]]:
    """Processes that read the partitions of a lake all the while; on leaving, how often each saw which bytes."""
    found: list[dict[str, dict[str, int]]] = []
    processes = [
        subprocess.Popen([sys.executable, "-c", READER, str(lake), str(seed)], stdin=PIPE, stdout=PIPE, text=True)
        for seed in range(readers)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
        yield found
        for process in processes:
            found.append(json.loads(process.communicate()[0]))
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()


class Recomputing:
    """The process of `recompute`."""

    def __init__(self, lake: Path) -> None:
        module = "pipeline_assets_tests.orchestration.recompute"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(lake)], cwd=shop.PROJECT, stdin=PIPE, stdout=PIPE, text=True
        )

    def run(self, landing: Path, seconds: float) -> int:
        """How a run ends that is killed after so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{landing} {seconds}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.mark.slow(25)
def test_whoever_is_killed_readers_see_whole_commits_and_a_rerun_ends_in_the_same_bytes(
    landing: Path, few: Path, tmp_path: Path
) -> None:
    other = shop.land(tmp_path / "landing", seed=2)
    other_lake, lake = tmp_path / "other", tmp_path / "lake"
    shop.run(other, other_lake, shop.FEW_DAYS)
    ends = [tables_of(sha256(few)), tables_of(sha256(other_lake))]
    known = {name: {end[name] for end in ends} for name in ends[0]}
    assert ends[0].keys() == ends[1].keys()
    shutil.copytree(few, lake)
    moment = random.Random(3)
    victims = Recomputing(lake)
    try:
        with reading(lake, readers=2) as found:
            began = time.monotonic()
            assert victims.run(other, PATIENCE_SECONDS) == 0
            takes_seconds = time.monotonic() - began
            ended: list[int] = []
            while ended.count(signal.SIGKILL) < KILLS:
                assert len(ended) < 3 * KILLS, f"too few runs were killed before they ended: {ended}"
                began = time.monotonic()
                ended.append(victims.run([landing, other][len(ended) % 2], moment.uniform(0, takes_seconds)))
                if ended[-1] == 0:  # the machine has become faster
                    takes_seconds = min(takes_seconds, time.monotonic() - began)
    finally:
        victims.process.kill()
        victims.process.communicate()
    shop.run(landing, lake, shop.FEW_DAYS)
    files = sha256(lake)
    assert tables_of(files) == ends[0]
    assert [name for name in files if name.startswith("_staging")] == []
    everything = set().union(*known.values())
    assert {digest for name, digest in files.items() if name.startswith("_history")} <= everything
    for seen in found:
        assert sum(sum(counts.values()) for counts in seen.values()) > 100
        assert {name: set(counts) - known[name] for name, counts in seen.items() if set(counts) - known[name]} == {}
        assert any(len(counts) == 2 for counts in seen.values())
