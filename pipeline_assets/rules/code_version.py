"""A version that changes with a function's code, and with nothing else: not with comments, layout or docstrings."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def code_version(function: Callable[..., object], *more: object) -> str:
    """12 hex digits over the function's own syntax tree and the repr of `more`.

    Functions that it calls are not followed: state the version by hand when what they do matters.
    """
    digest = hashlib.sha256()
    for part in (_code_of(function), *map(repr, more)):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _code_of(function: Callable[..., object]) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # defined where there is no source: a console, exec
        return repr((_byte_code(function.__code__, function.__doc__), function.__defaults__, function.__kwdefaults__))
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            statement.decorator_list = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _byte_code(code: CodeType, docstring: str | None = None) -> str:
    constants = [None if each == docstring else _constant(each) for each in code.co_consts]
    return repr((code.co_code, constants, code.co_names))


def _constant(value: object) -> str:
    """The repr, but the same in every process: no addresses, no order of hashes."""
    if isinstance(value, CodeType):
        return _byte_code(value)
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)
