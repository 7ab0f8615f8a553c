"""Which chunk of a backfill may begin: none before all that it reads is settled, none on what failed."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.backfill import Chunk, Plan
from pipeline_assets.rules.graph import Graph


@dataclass
class Dispatch:
    """The partitions of a plan while it is carried out; each is open until it is done, failed or held."""

    graph: Graph
    planned: Plan
    chunks: Sequence[Chunk]
    done: set[Partition] = field(default_factory=set)
    failed: set[Partition] = field(default_factory=set)
    held: dict[Partition, Partition] = field(default_factory=dict)
    """Not begun, as it reads what failed; with that."""
    _open: dict[str, set[date]] = field(init=False)
    _waiting: list[Chunk] = field(init=False)

    def __post_init__(self) -> None:
        self._open = {lead: set(self.planned.days(lead)) for lead in self.planned.order}
        for partition in self.done:
            self._open.get(partition.table, set()).discard(partition.day)
        self._waiting = list(self.chunks)

    def next(self) -> tuple[str, list[date]] | None:
        """A table and days of it that may be computed now; None if there is none, now or at all (`is_over`)."""
        for chunk in list(self._waiting):
            days = [day for day in days_between(chunk.first, chunk.last) if day in self._open[chunk.lead]]
            read = (each for day in days for each in _read_by(self.graph, Partition(chunk.lead, day)))
            if any(each.day in self._open.get(each.table, ()) for each in read):
                continue
            self._waiting.remove(chunk)
            ready = [day for day in days if not self._hold(Partition(chunk.lead, day))]
            if ready:
                return chunk.lead, ready
        return None

    def ended(self, lead: str, days: Iterable[date], made: Collection[date]) -> None:
        """The days were attempted, and these of them were made."""
        for day in days:
            self._open[lead].discard(day)
            (self.done if day in made else self.failed).add(Partition(lead, day))

    @property
    def is_over(self) -> bool:
        """True when every partition is done, failed or held."""
        return not any(self._open.values())

    def _hold(self, partition: Partition) -> bool:
        for upstream in _read_by(self.graph, partition):
            if upstream in self.failed or upstream in self.held:
                self.held[partition] = self.held.get(upstream, upstream)
                self._open[partition.table].discard(partition.day)
                return True
        return False


def held_by(graph: Graph, failed: Collection[Partition], left: Collection[Partition]) -> set[Partition]:
    """Which of those that are left read what failed, or what reads it."""
    held = set[Partition]()
    for lead in graph.leads():
        bad = held.union(failed)
        held |= {each for each in left if each.table == lead and not bad.isdisjoint(_read_by(graph, each))}
    return held


def _read_by(graph: Graph, partition: Partition) -> Iterator[Partition]:
    """What the tables of a step read for a day, by leading tables."""
    for name, window in graph.reads(partition.table):
        yield from (Partition(graph.lead(name), day) for day in window.upstream_of(partition.day))
