"""Checks of a table's content that a contract cannot say: what a careful analyst would look at.

A check is a function of the staged rows, told apart by parameter names: `day`, the table's own name, and any input of
the asset. It says what it found; whether that stops the publish is the check's `blocking`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found for one day. `numbers` are shown in the Dagster UI beside the message."""

    passed: bool
    message: str
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A named check. A blocking one that fails keeps the day from being published; another one only warns."""

    name: str
    function: Callable[..., Finding]
    blocking: bool
    description: str
    alert: bool = False


def check(*, blocking: bool, alert: bool = False) -> Callable[[Callable[..., Finding]], Check]:
    """Make a check out of a function, named and described by its name and docstring.

    Args:
        blocking: a day that fails it is not published.
        alert: people are told when it warns. Of a day that was not published they are told in any case.

    Raises:
        ValueError: it is both; one failure would be told twice.
    """
    if blocking and alert:
        raise ValueError(
            "alert=True is for a check that only warns: a blocking one fails its run, which is told in any case"
        )

    def decorate(function: Callable[..., Finding]) -> Check:
        return Check(function.__name__, function, blocking, (function.__doc__ or "").strip(), alert)

    return decorate
