"""One operator, branch, number or result of a rule is changed; the tests of that rule are run on it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline_assets_tests.proofs.subject import Case, Subject

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "pipeline_assets" / "rules"
TESTS = ROOT / "pipeline_assets_tests" / "rules"
ALSO: Mapping[str, tuple[str, ...]] = {
    "backfill.py": ("test_backfill_model.py",),
    "code_version.py": ("test_code_version_of_what_is_used.py",),
    "source_code.py": ("test_code_version.py", "test_code_version_of_what_is_used.py"),
    "symptoms.py": ("test_retry.py",),
    "troubles.py": ("test_alerts.py",),
}
"""Tests of a rule besides those that bear its name."""
OTHER: Mapping[type[ast.AST], Any] = {
    one: other
    for pair in (
        (ast.Lt, ast.LtE),
        (ast.Gt, ast.GtE),
        (ast.Eq, ast.NotEq),
        (ast.Is, ast.IsNot),
        (ast.In, ast.NotIn),
        (ast.And, ast.Or),
        (ast.Add, ast.Sub),
        (ast.Mult, ast.FloorDiv),
        (ast.BitAnd, ast.BitOr),
    )
    for one, other in (pair, reversed(pair))
}
"""Operators, and what each becomes."""
PASSED, FAILED = 0, 1
"""Exit statuses of pytest."""
ANSWER_SECONDS = 120
"""Tests of a rule take seconds; a mutant that goes round in circles takes for ever, which they notice, too."""


def tests_of(module: str) -> list[Path]:
    """Test files of a rule; none for one that is only tested through others."""
    names = (f"test_{module}", *ALSO.get(module, ()))
    return [TESTS / name for name in names if (TESTS / name).exists()]


class Mutations(ast.NodeTransformer):
    """Visits the places of a module that can be changed, in their order, and changes the chosen one.

    Annotations, decorators and texts are left alone: what a mutant of them would show is not what a rule decides.

    Attributes:
        kinds: of every place that was visited.
    """

    def __init__(self, chosen: int | None = None) -> None:
        self.kinds: list[str] = []
        self._chosen = chosen

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Go into the children but for those that are left alone, then look at the node itself."""
        for field, value in ast.iter_fields(node):
            if field not in {"annotation", "returns", "decorator_list"}:
                setattr(node, field, self._inside(value))
        changed = _changed(node)
        if changed is None:
            return node
        self.kinds.append(type(node).__name__)
        return changed if len(self.kinds) - 1 == self._chosen else node

    def _inside(self, value: object) -> object:
        if isinstance(value, list):
            return [self._inside(each) for each in value]
        return self.visit(value) if isinstance(value, ast.AST) else value


def _changed(node: ast.AST) -> ast.AST | None:  # noqa: C901, PLR0911 - a table
    """Another node in place of this one; None where there is nothing to change."""
    match node:
        case ast.Compare(left, [operator, *more], comparators):
            return ast.Compare(left, [OTHER[type(operator)](), *more], comparators)
        case ast.BoolOp(operator, values):
            return ast.BoolOp(OTHER[type(operator)](), values)
        case ast.BinOp(left, operator, right) if type(operator) in OTHER:
            return ast.BinOp(left, OTHER[type(operator)](), right)
        case ast.UnaryOp(ast.Not(), operand):
            return operand
        case ast.Constant(bool() as value):
            return ast.Constant(not value)
        case ast.Constant(int() as value):
            return ast.Constant(value + 1)
        case ast.If(test, body, orelse):
            return ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test, body, orelse):
            return ast.IfExp(test, orelse, body)
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            return ast.Return(ast.Constant(None))
        case ast.Break():
            return ast.Continue()
    return None


def mutations_of(module: str) -> list[Case]:
    """One for each place of the module."""
    mutations = Mutations()
    mutations.visit(ast.parse(source_of(module)))
    return [(module, kind, f"{number}") for number, kind in enumerate(mutations.kinds)]


def cases() -> list[Case]:
    """Of every rule that has tests."""
    modules = sorted(path.name for path in RULES.glob("*.py") if tests_of(path.name))
    return [case for module in modules for case in mutations_of(module)]


@lru_cache
def source_of(module: str) -> str:
    """Its text, as it is."""
    return (RULES / module).read_text()


def prove(case: Case, folder: Path) -> str:
    """Run the tests of the rule in a copy of the package that has the change, when they pass in one that has none."""
    module, kind, number = case
    mutations = Mutations(int(number))
    mutant = ast.unparse(ast.fix_missing_locations(mutations.visit(ast.parse(source_of(module)))))
    assert mutations.kinds[int(number)] == kind
    assert mutant != ast.unparse(ast.parse(source_of(module)))
    assert status_unchanged(module) == PASSED, f"the tests of the rule as it is do not pass: {module}"
    status = status_of(module, mutant, folder)
    if status == PASSED:
        return "survived"
    if status is None:
        return "noticed: it does not end"
    return "noticed" if status == FAILED else "noticed: it cannot be loaded"


@lru_cache
def status_unchanged(module: str) -> int | None:
    """Of the tests of a rule on the rule as it is, run as a mutant's are."""
    with TemporaryDirectory(prefix="unchanged-") as folder:
        return status_of(module, source_of(module), Path(folder))


def status_of(module: str, source: str, folder: Path) -> int | None:
    """What pytest ends with where a rule has another source; None if it does not end."""
    shutil.copytree(ROOT / "pipeline_assets", folder / "pipeline_assets", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pipeline_assets" / "rules" / module).write_text(source)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    command += ["-o", f"pythonpath={folder}", *map(str, tests_of(module))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return ended.returncode


SUBJECT = Subject(
    "mutants",
    "Of changes of one operator, branch, number or result in the rules, one at each place, the tests of the rule "
    "notice at least four in five.",
    cases,
    prove,
    sampled=6,
    tolerated="survived",
    tolerated_share=0.2,
)
