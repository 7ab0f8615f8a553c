"""Settings of all tests."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from types import ModuleType

import alembic.util
import pytest

from pipeline_assets_tests.support.properties import register_profiles
from pipeline_assets_tests.support.session import SESSION, start_session

register_profiles()

# What a script starts with `&` ignores Ctrl-C, and so would all that the tests start and interrupt. Dagster puts the
# disposition of SIGINT on SIGTERM, too; then the processes that copy a step's output do not end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each new instance stamps its databases with the newest migration, and alembic reads some ninety scripts to find it:
# most of what an instance in memory costs. `env.py`, which does the stamping, is run each time.
_load = alembic.util.load_python_file
_load_once = functools.cache(_load)


def _load_script(dir_: str | os.PathLike[str], filename: str | os.PathLike[str]) -> ModuleType:
    return _load(dir_, filename) if filename == "env.py" else _load_once(str(dir_), str(filename))


alembic.util.load_python_file = _load_script

_GUARDIANS: list[subprocess.Popen[bytes]] = []


def pytest_configure() -> None:
    """Have all that this session starts ended with it. Workers of a session are part of it."""
    if SESSION not in os.environ:
        _GUARDIANS.append(start_session())


def pytest_unconfigure() -> None:
    """End what is still running now, not some time after the last line."""
    for guardian in _GUARDIANS:
        guardian.communicate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, as the marker `slow` says: else one of them is begun last, and all wait for it."""
    items.sort(key=lambda item: -_seconds(item))


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("slow")
    return float(marker.args[0]) if marker and marker.args else 0.0
