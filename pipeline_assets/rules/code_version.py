"""A version that changes with the code that a function uses; comments, layout and docstrings are no code.

Names are followed as the source writes them, through modules of the same package, so it does not matter whether a
helper stands above or below the function that is being decorated. What is followed: functions, classes and constants.
What is not: other packages, annotations, methods of what comes in as an argument, and this project's own layers. The
machinery around a computation is not the computation: an edit of it must not make every partition of a lake outdated.
"""

import ast
import dis
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

from pipeline_assets.rules.source_code import Module, Place, is_own, module_of, names_in, normalized, place_of

_PLAIN = (str, bytes, int, float, complex, bool, type(None))
_JUMPS = frozenset([*dis.hasjrel, *dis.hasjabs])
_NOTHING = frozenset(["NOP", "EXTENDED_ARG"])
_FAST = re.compile("(?:LOAD|STORE)_FAST(?:_BORROW)?")
_READS_A_FILE = ("attr='read_text'", "attr='read'")
"""In the text of a constant: a file's content counts as well."""


def code_version(function: Callable[..., object], *more: object) -> str:
    """12 hex digits over the code of the function and of what it uses, and over `more`.

    Of `more`, functions and classes count with their code, everything else with its repr.
    """
    digest = hashlib.sha256()
    for part in (function, *more):
        is_code = part is function or isinstance(part, type | FunctionType)
        for text in _Walk().code_of(part) if is_code else [repr(part)]:
            digest.update(text.encode())
            digest.update(b"\1")
        digest.update(b"\0")
    return digest.hexdigest()[:12]


class _Jump(NamedTuple):
    """To the instruction at this offset, in bytes."""

    offset: int


class _Walk:
    """One walk from a function over all that it uses, each once."""

    def __init__(self) -> None:
        self._seen: set[object] = set()
        self._home: Module | None = None

    def code_of(self, part: Any) -> Iterator[str]:
        """Texts in the order in which the source leads to them."""
        if isinstance(part, functools.partial):
            yield from self._values({"args": part.args, **part.keywords})
            part = part.func
        part = inspect.unwrap(part)
        if isinstance(part, MethodType):
            part = part.__func__
        if id(part) in self._seen:
            return
        self._seen.add(id(part))
        place = place_of(part)
        if place is None:
            yield from self._compiled(part)
            return
        self._home = self._home or place.module
        yield place.text
        if place.is_ambiguous:
            yield _byte_code(part.__code__)
        cells = _cells(part)
        yield from self._values(cells)
        yield from self._follow(place, cells.keys(), skipped=getattr(place.node, "decorator_list", ()))

    def _follow(self, place: Place, known: Collection[str], skipped: Collection[ast.AST] = ()) -> Iterator[str]:
        for chain in names_in(place.node, skipped):
            if chain[0] not in known:
                yield from self._resolve(place, chain)

    def _resolve(self, place: Place, chain: tuple[str, ...]) -> Iterator[str]:
        """What a name of a module stands for."""
        name, *attributes = chain
        imported = place.imports().get(name)
        if imported is None:
            yield from self._definitions(place.module, name)
            return
        if (imported, *attributes) in self._seen:
            return
        self._seen.add((imported, *attributes))
        path = [*imported.split("."), *attributes]
        # The longest prefix that is a module; what comes after it is a name there.
        for end in range(len(path), 0, -1):
            module = module_of(".".join(path[:end]), self._home) if self._home else None
            if module is not None:
                if path[end:]:
                    yield from self._resolve(Place(module, module.tree), tuple(path[end:]))
                return
        if not is_own(imported):
            yield f"{name} is {imported}"

    def _definitions(self, module: Module, name: str) -> Iterator[str]:
        if (module.name, module.source, name) in self._seen:
            return
        self._seen.add((module.name, module.source, name))
        for statement in module.definitions.get(name, ()):
            text = normalized(statement)
            yield f"{name}: {text}"
            if any(each in text for each in _READS_A_FILE) and isinstance(value := module.values().get(name), str):
                yield repr(value)
            yield from self._follow(Place(module, statement, text), {name})

    def _values(self, values: Mapping[str, object]) -> Iterator[str]:
        """Values that a function is bound to."""
        for name, value in sorted(values.items()):
            if isinstance(value, FunctionType | functools.partial):
                yield from self.code_of(value)
            elif (text := _plain(value)) is not None:
                yield f"{name}={text}"

    def _compiled(self, function: Any) -> Iterator[str]:
        """Of a function without source: a console's, or one of `exec`."""
        code = getattr(function, "__code__", None)
        if code is None:
            yield repr(type(function))
            return
        yield repr((_byte_code(code), function.__defaults__, function.__kwdefaults__))
        yield from self._values(_cells(function))
        used = {name: function.__globals__[name] for name in _global_names(code) if name in function.__globals__}
        own = {
            name: value
            for name, value in used.items()
            if not isinstance(value, FunctionType) or value.__globals__ is function.__globals__
        }
        yield from self._values(own)


def _plain(value: object) -> str | None:
    """Plain data as text that is the same in every process; None for anything else."""
    kind = type(value)
    is_arrow_type = kind.__module__ == "pyarrow.lib" and (kind.__name__ == "Schema" or kind.__name__.endswith("Type"))
    if isinstance(value, _PLAIN) or kind.__module__ in {"datetime", "decimal"} or is_arrow_type:
        return repr(value)
    if isinstance(value, dict):
        items = [(_plain(key), _plain(each)) for key, each in value.items()]
        return None if any(None in item for item in items) else repr(items)
    if isinstance(value, list | tuple | set | frozenset):
        texts = [_plain(each) for each in value]
        if None in texts:
            return None
        return f"{type(value).__name__}{sorted(map(str, texts)) if isinstance(value, set | frozenset) else texts}"
    return None


def _cells(function: Any) -> dict[str, object]:
    """Variables of enclosing functions, as far as they have a value yet."""
    found = {}
    code = getattr(function, "__code__", None)
    for name, cell in zip(code.co_freevars if code else (), getattr(function, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _global_names(code: CodeType) -> list[str]:
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _global_names(each)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _byte_code(code: CodeType) -> str:
    """The instructions, without what only the layout of the source decides.

    That is: instructions that do nothing, how far a jump is, and since Python 3.13 whether two variables of one line
    are loaded or stored by one instruction or by two.
    """
    found, place = list[tuple[str, object]](), dict[int, int]()
    for each in dis.get_instructions(code):
        place[each.offset] = len(found)
        pair = _FAST.findall(each.opname)
        if len(pair) > 1:
            found += zip(pair, map(_constant, each.argval), strict=True)
        elif each.opname not in _NOTHING:
            found.append((each.opname, _Jump(each.argval) if each.opcode in _JUMPS else _constant(each.argval)))
    return repr([(name, place[value.offset] if isinstance(value, _Jump) else value) for name, value in found])


def _constant(value: object) -> str:
    """The repr, but the same in every process: no addresses, no order of hashes."""
    if isinstance(value, CodeType):
        return _byte_code(value)
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)
