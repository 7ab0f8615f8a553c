"""Pages beside the tables: replaced whole or not at all."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from pipeline_assets.errors import StorageRefused
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.protocol import PAGES, page_path
from pipeline_assets_tests.support.commits import days_of

DAY = date(2026, 11, 20)


def page_file(root: Path) -> Path:
    return root / PAGES / page_path("sla", DAY)


def write_page(root: Path, name: str, day: date, page: str) -> Path:
    return Path(LocalStore(root).write_page(name, day, page))


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_page_lies_at_a_stable_place_that_no_table_can_have(tmp_path: Path) -> None:
    written = write_page(tmp_path, "sla", DAY, "<p>é</p>")

    assert written == page_file(tmp_path) == tmp_path / "_reports/sla/dt=2026-11-20/sla.html"
    assert written.read_bytes() == "<p>é</p>".encode()
    assert days_of(LocalStore(tmp_path), "sla") == []


def test_a_page_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for text in ("a long first page", "second"):
        written = write_page(tmp_path, "sla", DAY, text)

    assert written.read_text() == "second"
    assert files(tmp_path) == ["_reports/sla/dt=2026-11-20/sla.html"]


def test_who_reads_a_page_while_it_is_replaced_has_the_one_he_opened(tmp_path: Path) -> None:
    with write_page(tmp_path, "sla", DAY, "first").open() as reader:
        write_page(tmp_path, "sla", DAY, "second")

        assert reader.read() == "first"


def test_a_page_that_cannot_be_finished_leaves_the_one_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page(tmp_path, "sla", DAY, "first")

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageRefused, match=r"the page sla of 2026-11-20: .*Input/output error"):
        write_page(tmp_path, "sla", DAY, "second")

    assert files(tmp_path) == ["_reports/sla/dt=2026-11-20/sla.html"]
    assert page_file(tmp_path).read_text() == "first"


def test_a_store_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")

    with pytest.raises(StorageRefused, match="PIPELINE_STORE"):
        write_page(tmp_path / "lake", "sla", DAY, "page")
