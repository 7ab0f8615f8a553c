"""The graph of tables, and what is downstream of days that are computed anew."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from graphlib import TopologicalSorter

from pipeline_assets.rules.windows import Window


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the graph and the window it reads of each of its upstream tables."""

    name: str
    reads: Mapping[str, Window]


@dataclass(frozen=True, slots=True)
class Graph:
    """Daily tables, and which reads which.

    Args:
        tables: by name, upstream first.
        steps: the tables that are computed together with a table, itself included, the same tuple for each of them.
        sources: tables that nothing here computes.
        first_days: of each table's history.
        days_per_run: of tables of which a run takes no more than so many; any number of all others.
    """

    tables: Mapping[str, Table]
    steps: Mapping[str, tuple[str, ...]]
    sources: frozenset[str]
    first_days: Mapping[str, date]
    days_per_run: Mapping[str, int] = field(default_factory=dict)

    def lead(self, table: str) -> str:
        """The table that stands for all that are computed together with this one."""
        return self.steps[table][0]

    def leads(self) -> list[str]:
        """The leading tables of all steps, upstream first: a step comes after all that any of its tables reads."""
        leads = dict.fromkeys(self.lead(name) for name in self.tables)
        return list(
            TopologicalSorter({lead: [self.lead(n) for n, _ in self.reads(lead)] for lead in leads}).static_order()
        )

    def reads(self, lead: str) -> list[tuple[str, Window]]:
        """What a step reads of other steps, over all of its tables."""
        found = {
            (name, window)
            for table in self.steps[lead]
            for name, window in self.tables[table].reads.items()
            if name in self.tables and self.lead(name) != self.lead(lead)
        }
        return sorted(found, key=lambda each: (each[0], each[1].first_offset, each[1].last_offset))

    def readers(self, table: str) -> list[tuple[str, Window]]:
        """Steps that read the table, by their leading tables, with the window that each reads."""
        leads = dict.fromkeys(self.lead(name) for name in self.tables)
        return [(lead, window) for lead in leads for name, window in self.reads(lead) if name == table]


def days_to_compute(
    tables: Sequence[Table], asked: Sequence[date], existing: Mapping[str, Iterable[date]]
) -> dict[str, list[date]]:
    """Days per table: those asked for, and those that exist already and read a day that is computed anew.

    So chunks of a range end in the same lake in whatever order they are run: late arrivals reach back into days that
    were computed before them, windows reach forward into days that were.

    Args:
        tables: upstream first.
        existing: days of each table that have been computed.
    """
    days: dict[str, list[date]] = {}
    for table in tables:
        wanted = set(asked)
        candidates = set(existing.get(table.name, ())) - wanted
        for upstream, window in table.reads.items():
            for day in days.get(upstream, ()):
                wanted |= candidates.intersection(window.downstream_of(day))
        days[table.name] = sorted(wanted)
    return days
