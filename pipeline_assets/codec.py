"""What is kept for a later tick, command or process: dataclasses as JSON and back, by pydantic."""

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
_made: dict[Any, TypeAdapter[Any]] = {}


def codec(kind: type[T]) -> TypeAdapter[T]:
    """The codec of a type. It is made when it is first needed: every run imports those who have one, few use it."""
    if kind not in _made:
        _made[kind] = TypeAdapter(kind)
    return _made[kind]


def unreadable(error: Exception) -> str:
    """Say on one line why something could not be read: the first places that pydantic names, or the error itself."""
    if isinstance(error, ValidationError):
        return "; ".join(": ".join([*map(str, each["loc"]), each["msg"]]) for each in error.errors()[:3])
    return repr(error)
