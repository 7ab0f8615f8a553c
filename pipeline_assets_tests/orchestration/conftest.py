"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from pipeline_assets_tests.orchestration.lake import Lake
from pipeline_assets_tests.orchestration.past import Past


@pytest.fixture
def lake() -> Iterator[Lake]:
    """An empty lake and an instance, which live in memory as long as the test."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Lake(f"memory://{uuid4().hex}", instance)


@pytest.fixture
def disk_lake(tmp_path: Path) -> Iterator[Lake]:
    """An empty lake on the disk, for tests that look at its files."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Lake(tmp_path / "lake", instance)


@pytest.fixture
def past() -> Iterator[Past]:
    """An instance that nothing has happened in, and a pen."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Past(instance)
