"""Homes of Dagster in which nothing has happened: making the tables of one takes five times as long as copying them."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline_assets.orchestration.process import open_instance
from pipeline_assets_tests.support.session import made_once


def new_home(folder: Path) -> Path:
    """Make the folder a home of Dagster; it may hold other things already."""
    shutil.copytree(made_once("home", _make), folder, dirs_exist_ok=True)
    return folder


def _make(folder: Path) -> None:
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with open_instance(folder) as instance:
        instance.all_asset_keys()  # opens the event log, whose tables are made by then
