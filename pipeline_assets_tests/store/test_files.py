"""What is asked of the file system: an answer, or an error, but no error that reads like an answer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.errors import StorageRefused
from pipeline_assets.store import Seen
from pipeline_assets.store.comparison import open_lake
from pipeline_assets.store.files import day_of, locked, names_in, replace_file
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.support.commits import SALES, commit_rows, publish_table


def test_names_in_a_folder_are_sorted_and_a_folder_that_is_missing_has_none(tmp_path: Path) -> None:
    for name in ("b", ".hidden", "a"):
        (tmp_path / name).touch()

    assert names_in(tmp_path) == [".hidden", "a", "b"]
    assert names_in(tmp_path / "missing") == []


def unlistable(folder: Path) -> Path:
    """A folder that nobody can list, root included: a link that leads to itself."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(folder.name)
    return folder


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="symbolic link"):
        names_in(unlistable(tmp_path / "loop"))


ASKED: dict[str, Callable[[LocalStore], object]] = {
    "_history/sales/dt=2026-06-10": lambda store: store.history(SALES),
    "_staging/sales": lambda store: store.sweep("sales"),
    "sales": lambda store: store.heads("sales"),
}


@pytest.mark.parametrize("place", ASKED)
def test_a_store_never_calls_a_folder_empty_that_it_could_not_list(tmp_path: Path, place: str) -> None:
    unlistable(tmp_path / place)

    with pytest.raises(StorageRefused, match="symbolic link"):
        ASKED[place](LocalStore(tmp_path))


def refused_below(folder: Path) -> Callable[[str | Path], Any]:
    """Lists any folder but this one: what permissions do to everybody but root, who runs tests in containers."""
    real = os.scandir

    def scandir(path: str | Path) -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "refused", str(path))
        return real(path)

    return scandir


def test_a_lake_is_not_compared_without_the_tables_that_could_not_be_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    publish_table(store, SALES, commit_rows(0), seen=Seen(None, None))
    (tmp_path / "finance").mkdir()
    monkeypatch.setattr("os.scandir", refused_below(tmp_path / "finance"))

    with pytest.raises(StorageRefused, match="finance"):
        open_lake(tmp_path)


@pytest.mark.parametrize("name", ["dt=2026-6-1", "dt=20260601", "dt=2026-02-30", "day=2026-06-01", "2026-06-01", "dt="])
def test_a_folder_is_of_a_day_if_it_is_named_as_we_name_it(name: str) -> None:
    assert day_of(name) is None
    assert day_of("dt=2026-06-01") == date(2026, 6, 1)


def test_a_file_is_replaced_whole_or_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    replace_file(path, b"one")
    replace_file(path, b"two", durable=True)
    assert (path.read_bytes(), names_in(tmp_path)) == (b"two", ["page.html"])

    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(path, b"three")
    assert names_in(tmp_path) == ["page.html"]


def test_what_is_held_alone_is_held_by_nobody_else_and_what_is_shared_by_those_who_share_it(tmp_path: Path) -> None:
    slept: list[float] = []
    with locked(tmp_path, shared=True) as first, locked(tmp_path, shared=True) as second, locked(tmp_path) as alone:
        assert (first, second, alone) == (True, True, False)
    with locked(tmp_path) as alone, locked(tmp_path, shared=True, wait_seconds=0.001, sleep=slept.append) as second:
        assert (alone, second, bool(slept)) == (True, False, True)
    with locked(tmp_path) as again:
        assert again
