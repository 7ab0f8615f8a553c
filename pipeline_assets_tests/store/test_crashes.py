"""A commit is on disk in the right order, and a reader sees whole ones, whoever was killed (P3).

The kill at every system call is counted in proofs/crash_points.py, kills at random moments in proofs/kills.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_assets.store.protocol import hive_path
from pipeline_assets_tests.proofs import kills
from pipeline_assets_tests.proofs.crash_points import SCENES, calls_of
from pipeline_assets_tests.support.commits import SALES
from pipeline_assets_tests.support.system_calls import needs_strace


@needs_strace
@pytest.mark.parametrize("scene", ["first commit", "overwrite"])
def test_bytes_and_names_are_on_disk_in_the_order_that_survives_a_power_cut(scene: str, tmp_path: Path) -> None:
    root, is_first = tmp_path / "lake", scene == "first commit"
    # A record need not survive: nothing judges by it, and one that cannot be read is none.
    calls = [call for call in calls_of(SCENES[scene], tmp_path) if "/_records" not in call.arguments]

    published = root / hive_path(SALES) / "data.parquet"
    (rename,) = (at for at, call in enumerate(calls) if call.name.startswith("rename") and call.of(published))
    writes = [at for at, call in enumerate(calls) if call.name.startswith(("write", "pwrite", "utimens"))]
    links = [at for at, call in enumerate(calls) if call.name.startswith("link")]
    folders_made = [
        (at, Path(call.arguments.split('"')[1])) for at, call in enumerate(calls) if call.name.startswith("mkdir")
    ]

    def synced(path: Path) -> list[int]:
        return [at for at, call in enumerate(calls) if call.name == "fsync" and call.of(path)]

    (staged,) = {Path(call.arguments.split("<")[1].split(">")[0]) for call in calls if call.name == "write"}
    assert any(max(writes) < at < rename for at in synced(staged))
    assert all(any(at > rename for at in synced(folder)) for folder in [published.parent, root / "sales", root])
    assert len(links) == (not is_first)
    assert all(any(link < at < rename for at in synced(root / "_history" / hive_path(SALES))) for link in links)
    assert bool(folders_made) == is_first
    assert all(any(at > made for at in synced(folder.parent)) for made, folder in folders_made if folder != root)


def test_readers_see_whole_commits_while_writers_are_killed_at_random(tmp_path: Path) -> None:
    assert kills.prove(("writers", "20260610"), tmp_path) == "some were killed while they staged"
