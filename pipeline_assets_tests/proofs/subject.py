"""What a subject is: a claim that every one of its cases can refute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Case = tuple[str, ...]
"""Names one thing to be tried, from the general to the particular; a seed is its last part."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A claim and how to try to refute it.

    Args:
        claim: one sentence.
        cases: all of them, each once, in an order that is the same every time.
        prove: try one case in an empty folder; say in few words what came of it.
            An AssertionError says that the claim does not hold.
        sampled: how many cases `make test-all` takes.
        seeded: whether the last part of a case is a seed.
        tolerated: an outcome that refutes the claim only where it comes too often. The proof lists its cases.
        tolerated_share: of all cases.
    """

    name: str
    claim: str
    cases: Callable[[], Sequence[Case]]
    prove: Callable[[Case, Path], str]
    sampled: int
    seeded: bool = False
    tolerated: str | None = None
    tolerated_share: float = 0.0

    def is_refuted_by(self, outcomes: Counter[str]) -> bool:
        """True when what is tolerated came too often."""
        return self.tolerated is not None and outcomes[self.tolerated] > self.tolerated_share * outcomes.total()

    def sample(self) -> list[Case]:
        """Cases that lie evenly over all."""
        cases = self.cases()
        number = min(self.sampled, len(cases))
        return [cases[index * len(cases) // number] for index in range(number)]

    def samples(self) -> dict[str, list[Case]]:
        """The sample by the first part of its cases, each to be judged alone; all as one where a share is tolerated."""
        if self.tolerated is not None:
            return {"all": self.sample()}
        found: dict[str, list[Case]] = {}
        for case in self.sample():
            found.setdefault(case[0], []).append(case)
        return found
