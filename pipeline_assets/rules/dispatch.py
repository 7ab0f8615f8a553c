"""Which chunk of a backfill may begin: none before all that it reads is settled, none on what failed."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.backfill import Chunk, Plan
from pipeline_assets.rules.graph import Graph


@dataclass
class Dispatch:
    """The partitions of a plan while it is carried out; each is open until it is done, failed or held.

    Args:
        chunks: in a valid order.
        done: already.
    """

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
            if days and self._reads_open(chunk.lead, days):
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

    def _reads_open(self, lead: str, days: Sequence[date]) -> bool:
        for name, window in self.graph.reads(lead):
            open_days = self._open.get(self.graph.lead(name))
            if open_days and any(each in open_days for day in days for each in window.upstream_of(day)):
                return True
        return False

    def _hold(self, partition: Partition) -> bool:
        for name, window in self.graph.reads(partition.table):
            lead = self.graph.lead(name)
            for each in window.upstream_of(partition.day):
                upstream = Partition(lead, each)
                if upstream in self.failed or upstream in self.held:
                    self.held[partition] = self.held.get(upstream, upstream)
                    self._open[partition.table].discard(partition.day)
                    return True
        return False


def held_by(graph: Graph, failed: Collection[Partition], left: Collection[Partition]) -> set[Partition]:
    """Which of those that are left read what failed, or what reads it."""
    held, bad = set[Partition](), set(failed)
    for lead in graph.leads():
        reads = graph.reads(lead)
        for partition in left:
            if partition.table == lead and any(
                Partition(graph.lead(name), each) in bad
                for name, window in reads
                for each in window.upstream_of(partition.day)
            ):
                held.add(partition)
                bad.add(partition)
    return held
