"""Fixtures of the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_assets_tests.store.http_zone import Zone, landing_zone
from pipeline_assets_tests.support.misbehaving_server import MisbehavingServer, misbehaving_server


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as running_server:
        yield running_server


@pytest.fixture
def zone(server: MisbehavingServer, tmp_path: Path) -> Zone:
    """Makes landing zones at the server, all with one cache."""
    return lambda **options: landing_zone(server.url, tmp_path, **options)
