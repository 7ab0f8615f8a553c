"""The project while a backfill is planned: what there is, what would be done, plan files, and how a plan is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline_assets.cli.context import EXIT_OUTDATED, load_project, opened_instance
from pipeline_assets.cli.options import ask_of
from pipeline_assets.errors import SettingsError
from pipeline_assets.rules.backfill import Ask, Plan
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.plan_file import PlanFile
from pipeline_assets.settings import Settings
from pipeline_assets.store import Store

LISTED = 20
"""Lines of failures or differences; the others are counted."""


@dataclass(frozen=True, slots=True)
class Project:
    """Settings, store, definitions, instance and graph, while a command runs."""

    settings: Settings
    store: Store
    defs: dg.Definitions
    instance: dg.DagsterInstance
    graph: Graph

    def asked(self, options: Mapping[str, Any]) -> Plan:
        """What would be done about what the options say.

        Raises:
            SettingsError: they contradict each other, or the project.
        """
        return self.plan(ask_of(self.settings, self.defs, self.graph, options))

    def plan(self, ask: Ask, *, planned_at: datetime | None = None) -> Plan:
        """What would be done about it now.

        Args:
            planned_at: aware; days that got over since then are left out of account, as they were then.
        """
        from pipeline_assets.definitions import landing_zones
        from pipeline_assets.orchestration.backfill.facts import facts_of
        from pipeline_assets.partition import Partition, days_between
        from pipeline_assets.rules.backfill import Mode, plan
        from pipeline_assets.rules.calendar import zone

        asked = [Partition(table, day) for table in ask.tables for span in ask.days for day in days_between(*span)]
        facts = facts_of(
            self.instance,
            self.defs.resolve_asset_graph(),
            self.store,
            landing_zones(self.settings),
            check_bytes_of=asked if ask.mode is Mode.SELECTIVE else (),
        )
        if planned_at is not None:
            newest = planned_at.astimezone(zone(self.settings.timezone)).date() - timedelta(days=1)
            facts = replace(facts, last_days={table: min(last, newest) for table, last in facts.last_days.items()})
        return plan(self.graph, ask, facts)

    def code_versions(self) -> dict[str, str]:
        """Of the present code, by leading tables."""
        from pipeline_assets.orchestration.history.graph import key_of

        assets = self.defs.resolve_asset_graph()
        return {lead: told for lead in self.graph.leads() if (told := assets.get(key_of(lead)).code_version)}


@contextmanager
def open_project() -> Iterator[Project]:
    """Everything that commands about backfills need."""
    from pipeline_assets.orchestration.history.graph import daily_graph

    settings, store, defs = load_project()
    with opened_instance() as instance:
        yield Project(settings, store, defs, instance, daily_graph(defs.resolve_asset_graph()))


def show_plan(planned: Plan, *, runs: int | None, on_stderr: bool) -> None:
    """Print it: what happens to which days of each table, how far each is, and the sums.

    Args:
        runs: that it takes; None if Dagster's daemon decides.
    """
    from pipeline_assets.console import console, grid, stderr
    from pipeline_assets.report import plan_words

    out = stderr if on_stderr else console
    out.print(f"{plan_words.headline(planned)}.", markup=False)
    if rows := plan_words.rows(planned):
        out.print(grid(plan_words.COLUMNS, rows, unbroken=3), markup=False)
    if progress := plan_words.progress_rows(planned):
        out.print(grid(plan_words.PROGRESS_COLUMNS, progress), markup=False)
    for sentence in plan_words.sums(planned, runs=runs):
        out.print(sentence, markup=False)


def read_plan(path: Path) -> PlanFile:
    """A plan that `pipeline plan --out` wrote.

    Raises:
        SettingsError: it cannot be read, or is not one.
    """
    from pipeline_assets.rules.plan_file import of_text

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        msg = f"there is no file {path}; `pipeline plan --out {path}` writes one"
        raise SettingsError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path} is no text in UTF-8 ({error}); a plan is written by `pipeline plan --out FILE`"
        raise SettingsError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise SettingsError(msg) from error
    return of_text(text, name=str(path))


def write_plan(path: Path, text: str) -> None:
    """Write the file, over one that is there.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"--out {path}: {error.strerror}; the plan was not written"
        raise SettingsError(msg) from error


def check_current(project: Project, file: PlanFile, path: Path) -> None:
    """End with the difference, if a plan made now would say another thing.

    Raises:
        SettingsError: the plan is of another project.
    """
    from pipeline_assets.rules.backfill import differences

    unknown = [lead for lead in (*file.plan.ask.tables, *file.plan.order) if lead not in project.graph.steps]
    if unknown:
        msg = f"{path} speaks of {', '.join(dict.fromkeys(unknown))}, which this project does not have; plan again"
        raise SettingsError(msg)
    moved = differences(file.plan, project.plan(file.plan.ask, planned_at=file.planned_at))
    if moved:
        end_outdated(
            f"{path} was made at {file.planned_at:%Y-%m-%d %H:%M} UTC and is outdated; nothing was computed:",
            moved,
            "Plan again, and look at it.",
        )


def end_outdated(what: str, moved: Sequence[str], advice: str) -> None:
    """Say what moved since a plan was made, and end with the exit status of that."""
    from pipeline_assets.console import stderr

    stderr.print(what, *(f"  {each}" for each in folded(moved)), advice, sep="\n", markup=False)
    sys.exit(EXIT_OUTDATED)


def folded(lines: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"and {more} more"] if more > 0 else [])]
