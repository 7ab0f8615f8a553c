"""How far a range is: one call a day to whoever listens. The CLI draws its bars from it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class FinishedDay:
    """One day of one table was finished.

    Args:
        skipped: it needed no computing, and was not computed.
        error: None when it was committed.
    """

    table: str
    day: date
    done: int
    total: int
    rows: int
    read: int
    duplicates: int
    rejected: int
    unchanged: bool
    seconds: float
    skipped: bool = False
    error: str | None = None


_listener: ContextVar[Callable[[FinishedDay], None] | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Callable[[FinishedDay], None]) -> Iterator[None]:
    """Hand every finished day to the listener, for runs executed in this process and context."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(event: FinishedDay) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(event)
