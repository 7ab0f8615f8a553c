"""A code version changes with the code that a function uses, wherever in its package it is written."""

from __future__ import annotations

import functools
import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.rules.code_version import code_version

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = count()

ASSETS = '''
from __future__ import annotations
from decimal import Decimal
import math
from typing import TYPE_CHECKING
import PACKAGE.deep.more as more
from PACKAGE import LIMIT as most
from PACKAGE import sql
from PACKAGE.helpers import Shape, helper
if TYPE_CHECKING:
    from PACKAGE.helpers import Told

RATE = Decimal("1.5")
LOW, HIGH = 1, 9

def local(number):
    return number * RATE

def daily(day, told: Told, *, most=most):
    """What it does."""
    from .lazy import late

    unrelated = [LONELY for LONELY in range(HIGH)]
    return [helper(day), local(1), sql.QUERY, Shape(), more.VALUE, late(), below(), math.floor(most), unrelated]

def below():
    return [FAR, RATE]

def lonely(day):
    return LONELY

FAR = 3
LONELY = 4
'''
HELPERS = '''
import functools
from dataclasses import dataclass

STEP = 2

def helper(day):
    """Helps."""
    # A comment.
    return second(day)

@functools.cache
def second(day):
    return helper(day) if day > STEP else 0

@dataclass
class Base:
    size: int = 1

class Shape(Base):
    """A shape."""
    def area(self):
        return self.size * SCALE

class Told:
    told = 1

SCALE = 5

def unused():
    return 1
'''
FILES = {
    "__init__": "from .limits import LIMIT\n",
    "limits": "LIMIT = 10\n",
    "assets": ASSETS,
    "helpers": HELPERS,
    "sql": "from pathlib import Path\nQUERY = 'SELECT 1'\nOTHER = 'SELECT 2'\n",
    "deep/__init__": "",
    "deep/more": "VALUE = {'a': [1, 2]}\n",
    "lazy": "def late():\n    return 7\n",
}
USED = {
    "a helper": ("helpers", "return second(day)", "return second(day + 1)"),
    "a helper's helper": ("helpers", "else 0", "else 1"),
    "a decorator of a helper": ("helpers", "@functools.cache", "@functools.lru_cache"),
    "a constant of a helper": ("helpers", "STEP = 2", "STEP = 3"),
    "a method": ("helpers", "self.size * SCALE", "self.size + SCALE"),
    "a constant of a method": ("helpers", "SCALE = 5", "SCALE = 6"),
    "a base class": ("helpers", "size: int = 1", "size: int = 2"),
    "a constant of another module": ("sql", "SELECT 1", "SELECT 11"),
    "a constant of another package": ("deep/more", "[1, 2]", "[2, 1]"),
    "what is handed on by a package": ("limits", "10", "11"),
    "what the function imports itself": ("lazy", "7", "8"),
    "a helper of the same module": ("assets", "number * RATE", "number + RATE"),
    "a constant of the same module": ("assets", '"1.5"', '"1.6"'),
    "one of several that are bound together": ("assets", "1, 9", "1, 8"),
    "what stands below": ("assets", "FAR = 3", "FAR = 2"),
    "what a name of another package stands for": ("assets", "import math", "import cmath as math"),
}
UNUSED = {
    "a function that is not used": ("helpers", "def unused():\n    return 1", "def unused():\n    return 2"),
    "a constant that is not used": ("sql", "SELECT 2", "SELECT 22"),
    "a docstring of a helper": ("helpers", '"""Helps."""', '"""Helps more."""'),
    "a comment in a helper": ("helpers", "# A comment.", "# Another.\n"),
    "layout of a helper": ("helpers", "return second(day)", "return second(\n        day)"),
    "what only annotations speak of": ("helpers", "told = 1", "told = 2"),
    "what has the name of a local variable": ("assets", "LONELY = 4", "LONELY = 5"),
}


def package(folder: Path, edits: tuple[str, str, str] | None = None, files: Mapping[str, str] = FILES) -> Any:
    """Write a package, edited, and import its module `assets`."""
    name = f"package_{next(NUMBERS)}"
    for path, text in files.items():
        source = text
        if edits is not None and edits[0] == path:
            assert source.count(edits[1]) == 1
            source = source.replace(edits[1], edits[2])
        file = folder / name / f"{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source.replace("PACKAGE", name))
    importlib.invalidate_caches()
    return importlib.import_module(f"{name}.assets")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("edited", USED)
def test_what_is_used_counts_and_only_for_who_uses_it(edited: str, folder: Path) -> None:
    before, after = package(folder), package(folder, USED[edited])

    assert code_version(after.daily) != code_version(before.daily)
    assert code_version(after.lonely) == code_version(before.lonely)


@pytest.mark.parametrize("edited", UNUSED)
def test_what_is_not_used_or_no_code_does_not_count(edited: str, folder: Path) -> None:
    before, after = package(folder), package(folder, UNUSED[edited])

    assert code_version(after.daily) == code_version(before.daily)


def test_a_decorator_sees_what_is_not_defined_yet(folder: Path) -> None:
    source = (
        "from pipeline_assets.rules.code_version import code_version\nversions = []\n"
        "def told(function):\n    versions.append(code_version(function))\n    return function\n"
        "@told\ndef daily(day):\n    return helper(day)\n"
        "def helper(day):\n    return 1\n"
    )
    before = package(folder, None, {"__init__": "", "assets": source})
    after = package(folder, ("assets", "return 1", "return 2"), {"__init__": "", "assets": source})

    assert after.versions != before.versions


def test_the_content_of_a_file_counts_that_a_constant_holds(folder: Path) -> None:
    (folder / "query.sql").write_text("SELECT 1")
    source = (
        "from pathlib import Path\nQUERY = (Path(__file__).parents[1] / 'query.sql').read_text()\n"
        "def daily(day):\n    return QUERY\n"
    )
    files = {"__init__": "", "assets": source}
    before, same = package(folder, None, files), package(folder, None, files)
    (folder / "query.sql").write_text("SELECT 2")
    after = package(folder, None, files)

    assert code_version(same.daily) == code_version(before.daily)
    assert code_version(after.daily) != code_version(before.daily)


def _made(number: int) -> Callable[[], int]:
    def helper() -> int:
        return number

    def daily() -> int:
        return helper()

    return daily


def test_values_of_enclosing_functions_count() -> None:
    assert code_version(_made(1)) == code_version(_made(1))
    assert code_version(_made(1)) != code_version(_made(2))


def test_arguments_of_a_partial_function_count(folder: Path) -> None:
    module = package(folder)
    versions = {
        code_version(function)
        for function in (
            module.daily,
            functools.partial(module.daily, most=1),
            functools.partial(module.daily, most=2),
            functools.partial(module.daily, 2),
            functools.partial(module.lonely, 2),
        )
    }

    assert len(versions) == 5


def test_code_that_is_given_besides_counts_with_what_it_uses(folder: Path) -> None:
    before, same, after = package(folder), package(folder), package(folder, ("helpers", "SCALE = 5", "SCALE = 6"))

    assert code_version(same.lonely, same.Shape) == code_version(before.lonely, before.Shape)
    assert code_version(after.lonely, after.Shape) != code_version(before.lonely, before.Shape)


def test_modules_beside_a_module_of_no_package_are_followed(folder: Path) -> None:
    versions = []
    for number in (1, 1, 2):
        name = f"single_{next(NUMBERS)}"
        (folder / f"{name}_helpers.py").write_text(f"def helper():\n    return {number}\n")
        (folder / f"{name}.py").write_text(
            f"import {name}_helpers as helpers\ndef daily():\n    return helpers.helper()\n"
        )
        importlib.invalidate_caches()
        versions.append(code_version(importlib.import_module(name).daily))

    assert versions[0] == versions[1]
    assert versions[0] != versions[2]


def test_a_version_is_the_same_in_every_version_of_python(folder: Path) -> None:
    """Found with 3.11, 3.12 and 3.13; whoever runs another one sees here whether it holds."""
    assert code_version(package(folder).daily) == "40794a6c5191"


@pytest.mark.slow(5)
def test_an_edit_of_the_framework_outdates_nothing_and_one_of_an_asset_only_what_uses_it(tmp_path: Path) -> None:
    program = (
        "from pipeline_assets.assets import daily_sales, events, raw_events, user_features, user_segments\n"
        "from pipeline_assets.rules.code_version import code_version\n"
        "for each in (raw_events, events, daily_sales, user_features, user_segments):\n"
        "    table = getattr(each, each.__name__.rpartition('.')[2])\n"
        "    print(code_version(getattr(table, 'function', table)))\n"
    )

    def versions(copy: Path) -> list[str]:
        command = [sys.executable, "-c", program]
        environment = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    shutil.copytree(ROOT / "pipeline_assets", tmp_path / "one" / "pipeline_assets")
    shutil.copytree(ROOT / "pipeline_assets", tmp_path / "two" / "pipeline_assets")
    edited = tmp_path / "two" / "pipeline_assets"
    for path, code, other in (
        ("rules/calendar.py", "local = zone(timezone)", "local = UTC"),
        ("rules/accounting.py", "rejected: int = 0", "rejected: int = 1"),
        ("orchestration/partition/frames.py", "class Result:", "class Result:\n    EDITED = True\n"),
    ):
        text = (edited / path).read_text()
        assert text.count(code) == 1
        (edited / path).write_text(text.replace(code, other))
    segments = (edited / "assets/user_segments.py").read_text()
    assert "HIGH_VALUE_SPEND = 500\n" in segments
    (edited / "assets/user_segments.py").write_text(segments.replace("SPEND = 500\n", "SPEND = 501\n"))
    before, after = versions(tmp_path / "one"), versions(tmp_path / "two")

    assert len(set(before)) == 5
    assert after[:4] == before[:4]
    assert after[4] != before[4]
