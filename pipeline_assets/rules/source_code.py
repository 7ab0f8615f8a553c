"""Source of functions and modules as trees: what they define, what they import, which names they use.

Trees are told as text without anything that is not code: comments, layout, docstrings, line numbers, and what one
Python version adds to a tree and another does not.
"""

import ast
import importlib.util
import inspect
import linecache
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

_DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NO_CODE = frozenset({"ctx", "kind", "type_comment"})
_OWN = __name__.partition(".")[0]
_INSTALLED = "site-packages"
Chain = tuple[str, ...]
"""A name and the attributes asked of it."""


@dataclass(frozen=True, slots=True)
class Module:
    """One file of code.

    Args:
        name: dotted.
        package: that relative imports begin at.
        file: path.
        definitions: statements of the module's level, by the names that they bind.
        imports: dotted paths, by the names that they are bound to.
        bound: what its names are bound to, if it is not among the loaded modules.
    """

    name: str
    package: str
    file: str
    source: str
    tree: ast.Module
    definitions: Mapping[str, Sequence[ast.stmt]]
    imports: Mapping[str, str]
    bound: Mapping[str, Any] | None = None

    def values(self) -> Mapping[str, Any]:
        """Give what the module's names are bound to so far."""
        loaded = sys.modules.get(self.name)
        return self.bound if self.bound is not None else vars(loaded) if loaded else {}


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of a module's source.

    Args:
        text: of the node, normalized, without decorators; empty of a whole module.
        is_ambiguous: others begin on the same line.
    """

    module: Module
    node: ast.AST
    text: str = ""
    is_ambiguous: bool = False

    def imports(self) -> Mapping[str, str]:
        """Give dotted paths by the names that they are bound to, here or in the module."""
        own = _imports_of(ast.walk(self.node), self.module.package) if "Import" in self.text else {}
        return {**self.module.imports, **own}


def is_own(dotted: str) -> bool:
    """True for what belongs to this project's own package."""
    return dotted.partition(".")[0] == _OWN


def place_of(part: Any) -> Place | None:
    """Where a function or class is written; None if there is no source."""
    try:
        lines, line = inspect.findsource(part)
    except (OSError, TypeError):
        return None
    bound = getattr(part, "__globals__", None)
    spec = (bound or {}).get("__spec__")
    name = str(getattr(spec, "name", None) or part.__module__)  # a module that is run is called __main__ besides
    package = (bound or {}).get("__package__") or name.rpartition(".")[0]
    module = _module("".join(lines), name, package, inspect.getsourcefile(part) or "")
    if module is None:
        return None
    # Mostly it stands at the module's level.
    found = _at(module.tree.body, line, part.__name__) or _at(ast.walk(module.tree), line, part.__name__)
    if not found:
        return None
    text = normalized(found[0], without_decorators=True)
    return Place(replace(module, bound=bound), found[0], text, is_ambiguous=len(found) > 1)


def _at(nodes: Iterable[ast.AST], line: int, name: str) -> list[ast.AST]:
    wanted = ast.Lambda if name == "<lambda>" else _DEFINED
    return [
        node
        for node in nodes
        if isinstance(node, wanted)
        and getattr(node, "name", name) == name
        and _first_line(node) - 1 <= line <= node.lineno - 1
    ]


def module_of(name: str, home: Module) -> Module | None:
    """A module that is followed from another one; None if it is not, if there is none, or no source of it.

    From a module of a package, modules of that package are; of this project's own package those of the same layer. From
    a module that lies in no package, what lies in its folder is.
    """
    top = name.partition(".")[0]
    if "." in home.name:
        depth = 2 if is_own(home.name) else 1
        if name.split(".")[:depth] != home.name.split(".")[:depth]:
            return None
    elif top != home.name and not _is_beside(top, home):
        return None
    loaded = sys.modules.get(name)
    try:
        spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    lines = linecache.getlines(spec.origin, vars(loaded) if loaded else None)
    package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
    return _module("".join(lines), name, package, spec.origin)


def names_in(node: ast.AST, skipped: Collection[ast.AST] = ()) -> Iterator[Chain]:
    """Names that a piece of source takes from its module, but for the parts that are skipped: in order, each once."""
    return iter(dict.fromkeys(_names(node, frozenset(), {id(each) for each in skipped})))


def _imports_of(nodes: Iterable[ast.AST], package: str) -> dict[str, str]:
    found = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names})
    return found


def normalized(node: ast.AST, *, without_decorators: bool = False) -> str:
    """A tree as text, the same in all versions of Python that the project runs on."""
    parts = []
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, _DEFINED) and ast.get_docstring(node, clean=False) is not None:
            value = node.body[1:] or [ast.Pass()]
        if name in _NO_CODE or value == [] or (without_decorators and name == "decorator_list"):
            continue
        if value is not None or isinstance(node, ast.Constant):
            parts.append(f"{name}={_normalized_value(value)}")
    return f"{type(node).__name__}({', '.join(parts)})"


def _normalized_value(value: object) -> str:
    if isinstance(value, ast.AST):
        return normalized(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_normalized_value, value))}]"
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _names(node: ast.AST, bound: frozenset[str], skipped: Collection[int]) -> Iterator[Chain]:
    if id(node) in skipped:
        return
    if isinstance(node, ast.Name | ast.Attribute) and (chain := _chain(node)):
        if chain[0] not in bound and isinstance(node.ctx, ast.Load):
            yield chain
        return
    inside = bound
    children: Iterable[ast.AST]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for outer in (*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)):
            yield from _names(outer, bound, skipped)
        inside = bound | _bound_in(node)
        children = node.body if isinstance(node.body, list) else [node.body]
    elif isinstance(node, ast.AnnAssign):
        children = [node.value] if node.value else []
    else:
        children = ast.iter_child_nodes(node)
    if isinstance(node, _COMPREHENSIONS):
        inside = bound | {
            each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)
        }
    for child in children:
        yield from _names(child, inside, skipped)


def _chain(node: ast.expr) -> Chain:
    """`a.b.c` as its names; nothing if it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _bound_in(scope: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """Local names of a function, without those of scopes within it; what it imports is looked up."""
    arguments = scope.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {each.arg for each in every if each is not None}
    declared: set[str] = set()
    ahead: list[ast.AST] = list(scope.body) if isinstance(scope.body, list) else [scope.body]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (*_DEFINED, ast.ExceptHandler)):
            names.add(node.name or "")
        elif isinstance(node, ast.Global):
            declared.update(node.names)
        if not isinstance(node, (*_DEFINED, ast.Lambda, *_COMPREHENSIONS)):
            ahead.extend(ast.iter_child_nodes(node))
    return names - declared


@lru_cache(maxsize=256)
def _module(source: str, name: str, package: str, file: str) -> Module | None:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    statements = list(_statements(tree.body))
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in statements:
        for bound in _binds(statement):
            definitions.setdefault(bound, []).append(statement)
    return Module(name, package, file, source, tree, definitions, _imports_of(statements, package))


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Of the module's level, through conditions; not what only type checkers see."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _statements(statement.orelse)
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)
        else:
            yield statement


def _binds(statement: ast.stmt) -> list[str]:
    if isinstance(statement, _DEFINED):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For):
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        return list(dict.fromkeys(node.id for node in names if isinstance(node.ctx, ast.Store)))
    return []


def _is_beside(top: str, home: Module) -> bool:
    """True if a package or module lies in the folder of a module that is in no package."""
    folder, _, _ = home.file.rpartition("/")
    file = str(getattr(sys.modules.get(top), "__file__", None) or "")
    return bool(folder) and file.startswith(f"{folder}/") and _INSTALLED not in file[len(folder) :] and not is_own(top)


def _first_line(node: Any) -> int:
    """Of the decorators, if there are any."""
    return int(min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))]))
