"""How many examples a property is tried with: stated once for all, and weighed by what an example costs.

Profiles: `dev` is `make test` and `ci` is `make test-all`, both with the same examples each time; `fuzz` is
`make fuzz`, where every round has others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from hypothesis import HealthCheck, settings

EXAMPLES = {"dev": 20, "ci": 60, "fuzz": 100}
"""Of a property that states no number of its own."""
TIMES_VARIABLE = "FUZZ_TIMES"
"""Environment variable: the profile `fuzz` has so many times its examples."""


def register_profiles() -> None:
    """Make the profiles known to hypothesis; `dev` holds until another one is chosen.

    A property holds or it does not: how long examples take says something of the machine only.
    """
    times = int(os.environ.get(TIMES_VARIABLE, "1"))
    for name, number in EXAMPLES.items():
        is_random = name == "fuzz"
        settings.register_profile(
            name,
            max_examples=number * times if is_random else number,
            derandomize=not is_random,
            print_blob=is_random,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
    settings.load_profile("dev")


def examples(number: int, *, suppress: Iterable[HealthCheck] = ()) -> settings:
    """So many examples in a round of `make fuzz`, and in proportion in the other profiles; at least one.

    Args:
        suppress: health checks, besides those of the profile.
    """
    profile = settings()
    return settings(
        max_examples=max(1, number * profile.max_examples // EXAMPLES["fuzz"]),
        suppress_health_check=[*profile.suppress_health_check, *suppress],
    )
