"""Every call of an asset's function leaves a line: table, day, process, moment. `COUNTED` names the file.

Python imports a module of this name from its path when it starts: so it is in whatever process a command starts.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

CALLS = "COUNTED"
COUNTED = "pipeline_assets.orchestration.asset.day"


def count(module: Any) -> None:
    """Wrap what calls the functions. A line is one short write, whole among those of other processes."""
    compute = module.DayCommit.compute

    def counted(commit: Any) -> Any:
        if CALLS in os.environ:  # else it is the process of the tests themselves
            with open(os.environ[CALLS], "ab", buffering=0) as file:  # noqa: PTH123 - a kill loses nothing of it
                file.write(f"{commit.spec.main} {commit.day} {os.getpid()} {time.monotonic_ns()}\n".encode())
        return compute(commit)

    module.DayCommit.compute = counted


class Finder(importlib.abc.MetaPathFinder):
    """Wraps the class when its module is imported, which most commands never do."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that others find, with a loader that counts."""
        if name != COUNTED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                count(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if __name__ == "sitecustomize" and CALLS in os.environ:
    sys.meta_path.insert(0, Finder())
