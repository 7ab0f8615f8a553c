"""The Lambda function's folder on the path, as Lambda has it, and one webserver for the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from pipeline_assets_tests.deploy.aws.dagster_webserver_process import FUNCTION, Dagster, webserver_running

sys.path.insert(0, str(FUNCTION))


@pytest.fixture(scope="session")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:
    """A webserver of a Dagster that defines the asset `landing` and nothing else. Tests take days of their own."""
    with webserver_running(tmp_path_factory.mktemp("dagster")) as running:
        yield running
