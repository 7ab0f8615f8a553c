"""A commit is on disk in the right order, and a reader sees whole ones, whoever was killed (P3).

The kill at every system call is counted in proofs/crash_points.py, kills at random moments in proofs/kills.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_assets.store.local.records import path_of
from pipeline_assets.store.protocol import hive_path
from pipeline_assets_tests.proofs import kills
from pipeline_assets_tests.proofs.crash_points import SCENES, calls_of
from pipeline_assets_tests.support.commits import SALES
from pipeline_assets_tests.support.system_calls import needs_strace


@needs_strace
@pytest.mark.parametrize("scene", ["first commit", "overwrite"])
def test_bytes_and_names_are_on_disk_in_the_order_that_survives_a_power_cut(scene: str, tmp_path: Path) -> None:
    root, is_first = tmp_path / "lake", scene == "first commit"
    calls = calls_of(SCENES[scene], tmp_path)
    published, recorded = root / hive_path(SALES) / "data.parquet", path_of(root, SALES)

    def done(names: tuple[str, ...], path: Path) -> list[int]:
        return [at for at, call in enumerate(calls) if call.name.startswith(names) and call.of(path)]

    (data,), (record,) = (done(("rename",), each) for each in (published, recorded))
    for renamed, at in ((published, data), (recorded, record)):
        aside = Path(calls[at].arguments.split('"')[1])
        assert done(("write", "pwrite", "utimens"), aside) < done(("fsync",), aside) < [at]
        assert any(synced > at for synced in done(("fsync",), renamed.parent))
    assert any(record < at < data for at in done(("fsync",), recorded.parent))
    links = [at for at, call in enumerate(calls) if call.name.startswith("link")]
    assert len(links) == (not is_first)
    assert all(any(link < at < data for at in done(("fsync",), root / "_history" / hive_path(SALES))) for link in links)
    made = [(at, Path(call.arguments.split('"')[1])) for at, call in enumerate(calls) if call.name.startswith("mkdir")]
    assert bool(made) == is_first
    kept = [(at, folder) for at, folder in made if "_staging" not in folder.parts and folder != root]
    assert all(any(at < synced < data for synced in done(("fsync",), folder.parent)) for at, folder in kept)


def test_readers_see_whole_commits_while_writers_are_killed_at_random(tmp_path: Path) -> None:
    assert kills.prove(("writers", "20260610"), tmp_path) == "some were killed while they staged"
