"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets_tests.orchestration.lake import Lake
from pipeline_assets_tests.orchestration.past import Past


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """An empty lake, and an instance that lives in memory as long as the test."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Lake(tmp_path / "lake", instance)


@pytest.fixture
def past() -> Iterator[Past]:
    """An instance that nothing has happened in, and a pen."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Past(instance)
