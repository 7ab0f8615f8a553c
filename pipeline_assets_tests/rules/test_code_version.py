"""A code version changes with the code of a function and with nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pipeline_assets.rules.code_version import code_version

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = count()

PLAIN = """
def daily(day, events):
    total = 1 + sum(events)
    return [day, total]
"""
SAME_CODE = {
    "comments": """
        # About it.
        def daily(day, events):
            # Add.
            total = 1 + sum(events)  # one more
            return [day, total]
        """,
    "a docstring": '''
        def daily(day, events):
            """What it does."""
            total = 1 + sum(events)
            return [day, total]
        ''',
    "another layout": """
        def daily(
            day,
            events,
        ):

            total = (1
                     + sum( events ))
            return [day,
                    total]
        """,
    "a decorator": """
        import functools
        def told(function):
            @functools.wraps(function)
            def telling(*args):
                return function(*args)
            return telling
        @told
        def daily(day, events):
            total = 1 + sum(events)
            return [day, total]
        """,
    "indentation": """
        if True:
            def daily(day, events):
                total = 1 + sum(events)
                return [day, total]
        """,
}
OTHER_CODE = {
    "a constant": PLAIN.replace("1 +", "2 +"),
    "an operator": PLAIN.replace("1 +", "1 -"),
    "the order of statements": PLAIN.replace(
        "total = 1 + sum(events)\n", "total = 1\n    total = total + sum(events)\n"
    ),
    "a default": PLAIN.replace("(day, events)", "(day, events=())"),
    "a name": PLAIN.replace("total", "whole"),
    "a string": PLAIN.replace("[day, total]", "['day', total]"),
}


def defined_in_a_file(source: str, folder: Path) -> Callable[..., object]:
    path = folder / f"module_{next(NUMBERS)}.py"
    lines = source.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    path.write_text("\n".join(line[indent:] for line in lines) + "\n")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., object] = module.daily
    return function


def defined_without_source(source: str) -> Callable[..., object]:
    names: dict[str, Callable[..., object]] = {}
    exec(source, names)  # noqa: S102 - the case that is tested
    return names["daily"]


@pytest.mark.parametrize("difference", SAME_CODE)
def test_what_is_no_code_does_not_change_the_version(difference: str, tmp_path: Path) -> None:
    plain, other = (defined_in_a_file(source, tmp_path) for source in (PLAIN, SAME_CODE[difference]))

    assert code_version(other) == code_version(plain)


@pytest.mark.parametrize("difference", OTHER_CODE)
def test_what_is_code_changes_the_version(difference: str, tmp_path: Path) -> None:
    plain, other = (defined_in_a_file(source, tmp_path) for source in (PLAIN, OTHER_CODE[difference]))

    assert code_version(other) != code_version(plain)


def test_docstrings_within_do_not_count_and_decorators_within_do(tmp_path: Path) -> None:
    source = """
        import functools
        def daily(day):
            class Row:
                value = 1
            @functools.lru_cache
            def inner():
                return Row
            return inner
        """
    documented = source.replace("class Row:", 'class Row:\n                """A row."""')
    undecorated = source.replace("            @functools.lru_cache\n", "")
    plain, same, other = (defined_in_a_file(each, tmp_path) for each in (source, documented, undecorated))

    assert code_version(same) == code_version(plain)
    assert code_version(other) != code_version(plain)


def test_a_function_of_nothing_but_a_docstring_is_one_that_does_nothing(tmp_path: Path) -> None:
    documented, empty = (
        defined_in_a_file(f"def daily():\n    {body}", tmp_path) for body in ('"""Nothing."""', "pass")
    )

    assert code_version(documented) == code_version(empty)


def test_whatever_else_is_given_counts() -> None:
    function = defined_without_source(PLAIN)
    versions = {code_version(function, *more) for more in [(), (1,), (2,), (1, 2), (12,), ("1",), ("", "")]}

    assert len(versions) == 7


def test_a_version_is_twelve_hex_digits(tmp_path: Path) -> None:
    for function in (defined_in_a_file(PLAIN, tmp_path), defined_without_source(PLAIN)):
        assert len(code_version(function)) == 12
        int(code_version(function), 16)


@pytest.mark.parametrize("difference", ["comments", "a docstring", "another layout"])
def test_a_function_without_source_keeps_its_version_too(difference: str) -> None:
    lines = SAME_CODE[difference].splitlines()
    other = defined_without_source("\n".join(line[8:] for line in lines))

    assert code_version(other) == code_version(defined_without_source(PLAIN))


LOOP = """
def daily(days, events):
    found = []
    for day in days:
        first, last = day, events
        if day and first < last:
            found.append((first, last, day))
    return found, days
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("first, last = day, events", "first, last = (day,\n            events)"),
        ("if day and first < last:", "if (day and\n            first < last):"),
        ("(first, last, day)", "(\n                first,\n                last,\n                day\n            )"),
        ("    return", "    pass\n    return"),
    ],
    ids=["an assignment", "a condition", "a call", "a statement that does nothing"],
)
def test_loops_and_branches_without_source_do_not_depend_on_the_layout(old: str, new: str) -> None:
    assert old in LOOP

    assert code_version(defined_without_source(LOOP.replace(old, new))) == code_version(defined_without_source(LOOP))


def test_where_a_jump_leads_counts_without_source() -> None:
    nested = LOOP.replace("            found.append", "            pass\n        found.append")

    assert code_version(defined_without_source(nested)) != code_version(defined_without_source(LOOP))


@pytest.mark.parametrize("difference", sorted(OTHER_CODE.keys() - {"a name"}))
def test_code_counts_without_source_too(difference: str) -> None:
    other = defined_without_source(OTHER_CODE[difference])

    assert code_version(other) != code_version(defined_without_source(PLAIN))


def test_lambdas_within_a_call_have_versions_of_their_own() -> None:
    versions = {code_version(function) for function in (lambda day: [day, 1], lambda day: [day, 2])}

    assert len(versions) == 2


@pytest.mark.parametrize("with_source", [True, False])
def test_a_version_is_the_same_in_every_process(with_source: bool, tmp_path: Path) -> None:  # noqa: FBT001
    # Constants that show an address, or an order that follows from the hashes of strings.
    source = "def daily(day):\n    return [(lambda n: n + 1)(n) for n in day if n in {'a', 'b', 'c', 'd', 'e'}]\n"
    (tmp_path / "daily_module.py").write_text(source)
    define = "from daily_module import daily" if with_source else f"exec({source!r})"
    program = f"{define}\nfrom pipeline_assets.rules.code_version import code_version\nprint(code_version(daily))"
    versions = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(versions) == 1
