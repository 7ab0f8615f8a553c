"""Fixtures of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.orchestration.process import open_instance
from pipeline_assets_tests.mishaps.world import Shop, kept_in, needed, open_shop, prepare
from pipeline_assets_tests.support.session import made_once


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that lives in memory as long as the test."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that another process can open."""
    (tmp_path / "home").mkdir()
    with kept_in(tmp_path / "home") as instance:
        yield instance


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """A copy of a shop in which nothing is left to do."""
    shutil.copytree(made_once("mishaps_shop", open_shop), tmp_path, dirs_exist_ok=True)
    prepare(tmp_path, monkeypatch)
    with open_instance(tmp_path / "home") as instance:
        made = Shop(tmp_path, instance, monkeypatch, capsys)
        needed(made.settle() == [], "what is computed is requested")
        needed(not made.failures, made.failures)
        yield made
