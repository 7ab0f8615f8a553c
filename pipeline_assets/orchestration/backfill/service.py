"""The application of backfills: planned, begun, carried out, resumed, retried, cancelled, summed up.

Belongs here: what the command and the safety net do with backfills, as data and errors. Does not: options, questions,
what is printed.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg

from pipeline_assets.errors import PlanOutdated, UsageError
from pipeline_assets.orchestration.backfill import launches, workers
from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, Backfill, Book, new_id
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.backfill.of_dagster import add_backfill
from pipeline_assets.orchestration.backfill.progress import BackfillStatus, Progress, Watcher, progress_of, status_of
from pipeline_assets.orchestration.backfill.webserver import RunningDagster, Targets, partitions_by_assets
from pipeline_assets.orchestration.backfill.workers import OtherProcess, ThisProcess, Worker
from pipeline_assets.orchestration.finished_days import FinishedDay
from pipeline_assets.orchestration.history.graph import daily_graph, key_of
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG
from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.backfill import Ask, Facts, Mode, chunks, differences, only, plan
from pipeline_assets.rules.calendar import zone
from pipeline_assets.rules.dispatch import held_by
from pipeline_assets.rules.plan_file import PlanFile, digest_of
from pipeline_assets.store import Store
from pipeline_assets.store.landing import Landing

LISTED = 20
"""Lines of failures or differences; the others are counted."""
LOOK_SECONDS = 0.2

Watch = Callable[[Mapping[str, int], Mapping[str, int]], AbstractContextManager[Watcher]]
"""Begins to watch, given the partitions of each table that are planned, and those that are done."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a backfill is."""

    backfill: Backfill
    status: BackfillStatus
    progress: Progress


class Backfills:
    """The backfills of a project.

    Args:
        landing: landing zones by the source tables that stand for them.
        timezone: of the pipeline's days.
        dagster_url: of the webserver, which backfills that Dagster does are launched and cancelled by.
        now: aware.
    """

    def __init__(
        self,
        defs: dg.Definitions,
        instance: dg.DagsterInstance,
        store: Store,
        landing: Mapping[str, Landing],
        *,
        timezone: str,
        dagster_url: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.defs, self.instance, self.store, self.landing, self.now = defs, instance, store, landing, now
        self.assets = defs.resolve_asset_graph()
        self.graph = daily_graph(self.assets)
        self.book = Book(instance)
        self._zone = zone(timezone)
        self._dagster = RunningDagster(dagster_url)

    def today(self) -> date:
        """The day that is not over yet, in the pipeline's zone."""
        return self.now().astimezone(self._zone).date()

    def plan(
        self,
        ask: Ask,
        *,
        planned_at: datetime | None = None,
        left_alone: Callable[[Facts], Collection[Partition]] = lambda _: (),
    ) -> PlanFile:
        """Decide what would be done about it now.

        Args:
            planned_at: aware; days that ended since then are left out, as they were then.
            left_alone: gives partitions that others make, or that must not be tried again now, by leading tables.

        Raises:
            LandingError: the landing zone cannot be read as what it claims to be.
        """
        began = self.now()
        by_name = ask.tables if ask.mode is Mode.SELECTIVE else ()
        facts = facts_of(
            self.instance,
            self.assets,
            self.store,
            self.landing,
            check_bytes_of=[
                Partition(lead, day) for lead in by_name for span in ask.days for day in days_between(*span)
            ],
        )
        if planned_at is not None:
            newest = planned_at.astimezone(self._zone).date() - timedelta(days=1)
            facts = replace(facts, last_days={table: min(last, newest) for table, last in facts.last_days.items()})
        planned = plan(self.graph, ask, replace(facts, held=frozenset(left_alone(facts))))
        return PlanFile(planned, planned_at or began, digest_of(planned))

    def check_current(self, file: PlanFile, *, name: str) -> None:
        """Refuse a plan if one that is made now would say another thing.

        Args:
            name: of the file, for the message.

        Raises:
            PlanOutdated: it would.
            UsageError: the plan is of another project.
        """
        unknown = [lead for lead in (*file.plan.ask.tables, *file.plan.order) if lead not in self.graph.steps]
        if unknown:
            raise UsageError(
                f"{name} speaks of {', '.join(dict.fromkeys(unknown))}, which this project does not have; plan again"
            )
        moved = differences(file.plan, self.plan(file.plan.ask, planned_at=file.planned_at).plan)
        if moved:
            what = f"{name} was made at {file.planned_at:%Y-%m-%d %H:%M} UTC and is outdated; nothing was computed:"
            raise PlanOutdated(_outdated(what, moved, "Plan again, and look at it."))

    def draft(
        self, file: PlanFile, *, where: str, days_per_run: int, parallel: int, retries: str | None = None
    ) -> Backfill:
        """Make a backfill of a plan; it has begun once it is in the book. Arguments as of `Backfill`."""
        now = self.now()
        return Backfill(new_id(now), now, where, days_per_run, parallel, file, retries)

    def draft_retry(self, before: Backfill) -> Backfill:
        """Make a backfill of what failed in another one, and of what was held back by that, by the present code.

        Dagster tries a run whose process is gone again, but not without end, and then nothing is left that would go on:
        of a backfill by Dagster all is taken up that is left.

        Raises:
            UsageError: that one is running, or it has nothing to take up.
        """
        summary = self.summary(before)
        if summary.status is BackfillStatus.RUNNING:
            raise UsageError(f"backfill {before.backfill_id} is running; retry what failed of it when it has ended")
        failed, left = summary.progress.failed, summary.progress.left
        is_given_up = before.where == IN_DAGSTER and summary.status is not BackfillStatus.CANCELLED
        again = {*failed, *(left if is_given_up else held_by(self.graph, failed, left))}
        if not again:
            raise UsageError(f"nothing of backfill {before.backfill_id} failed: it is {summary.status.value}")
        planned = only(before.file.plan, again)
        present = self._code_versions()
        planned = replace(planned, code_versions={lead: present[lead] for lead in planned.order if lead in present})
        return self.draft(
            PlanFile(planned, self.now(), digest_of(planned)),
            where=before.where,
            days_per_run=before.days_per_run,
            parallel=before.parallel,
            retries=before.backfill_id,
        )

    def runs(self, backfill: Backfill) -> int | None:
        """How many runs it takes; None if Dagster's daemon decides."""
        if backfill.where == IN_DAGSTER:
            return None
        return len(chunks(self.graph, backfill.file.plan, days_per_run=backfill.days_per_run))

    def check_dagster(self, backfill: Backfill) -> None:
        """Ask whether the webserver answers, if it is to launch the backfill.

        Raises:
            NoAnswer: it does not. SettingsError, DagsterRefused: what answers is not a Dagster that can.
        """
        if backfill.where == IN_DAGSTER:
            self._dagster.backfills(limit=1)

    def begin(self, backfill: Backfill) -> None:
        """Write the backfill into the book: from now on it can be resumed and cancelled."""
        self.book.add(backfill)

    def resumable(self, backfill_id: str | None) -> Backfill:
        """Find the backfill of that id, or the newest that has something left.

        Raises:
            UsageError: there is none, or it was cancelled.
        """
        if backfill_id is not None:
            begun = self.book.get(backfill_id)
            if self.book.is_cancelled(begun.backfill_id):
                raise UsageError(
                    f"backfill {begun.backfill_id} was cancelled, for good; plan anew for what it had left"
                )
            return begun
        taken_up = set[str | None]()  # by a later retry
        for each in self.book.readable():
            is_open = self.summary(each).status not in (BackfillStatus.DONE, BackfillStatus.CANCELLED)
            if is_open and not taken_up.intersection((each.backfill_id, each.retries)):
                return each
            if each.retries is not None:
                taken_up.add(each.retries)
        raise UsageError("there is no backfill to go on with; `pipeline backfills` lists what there was")

    def summary(self, backfill: Backfill) -> Summary:
        """Read how far it is."""
        progress = progress_of(self.instance, self.graph, backfill)
        return Summary(backfill, status_of(self.instance, self.book, backfill, progress), progress)

    def cancel(self, backfill_id: str, *, sleep: Callable[[float], None] = time.sleep) -> Backfill:
        """Cancel a backfill for good, and wait until nothing of it is being made.

        Args:
            backfill_id: or the beginning of it.

        Raises:
            UsageError: there is no such backfill, or it has ended. NoAnswer: the webserver does not answer.
        """
        backfill = self.book.get(backfill_id)
        status = self.summary(backfill).status
        if status in (BackfillStatus.DONE, BackfillStatus.CANCELLED):
            raise UsageError(f"backfill {backfill.backfill_id} is {status.value}: there is nothing to cancel")
        self.book.cancel(backfill.backfill_id)
        if backfill.where == IN_DAGSTER:
            for each in self._dagster.backfills():
                if each.tags.get(BACKFILL_TAG) == backfill.backfill_id and not each.status.has_ended:
                    self._dagster.cancel(each.id)
        while self.book.is_held(backfill.backfill_id):
            sleep(LOOK_SECONDS)
        return backfill

    def carry_out(
        self,
        backfill: Backfill,
        *,
        title: str,
        watch: Watch,
        build: Callable[[], dg.Definitions],
        home: Path,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Do what is left of a backfill that is in the book, or have Dagster do it.

        Args:
            title: of Dagster's backfill.
            build: gives the definitions in another process.
            home: of the instance, for another process.
            stop: true once the partition in hand is to be the last.

        Returns:
            True if it was stopped or cancelled before its end.

        Raises:
            BackfillHeld: another process carries it out.
            DagsterRefused, NoAnswer: the webserver refuses, or did not answer.
            PlanOutdated: the code is another one than it was planned for.
            WatchLost: the webserver does not answer any more; Dagster goes on.
            WorkerDied: a process that this one had started is gone.
        """
        planned = backfill.file.plan
        counts = {lead: len(planned.days(lead)) for lead in planned.order}

        def is_over() -> bool:
            return stop() or self.book.is_cancelled(backfill.backfill_id)

        with self.book.hold(backfill.backfill_id):
            self._check_code(backfill)
            if backfill.where == IN_DAGSTER:
                with watch(counts, dict.fromkeys(counts, 0)) as watcher:
                    return launches.carry_out(
                        self._dagster, self.graph, backfill, title=title, watcher=watcher, stop=is_over
                    )
            progress = progress_of(self.instance, self.graph, backfill)
            done = {lead: sum(partition.table == lead for partition in progress.done) for lead in counts}
            with ExitStack() as stack:
                watcher = stack.enter_context(watch(counts, done))

                def heard(event: FinishedDay) -> None:
                    if event.table in counts:  # of tables that are computed together the leading one counts
                        watcher.day_done(event)

                team: list[Worker] = [OtherProcess(build, home, heard, stack) for _ in range(backfill.parallel - 1)]
                team.append(ThisProcess(self.defs, self.instance, heard))
                dispatch = workers.carry_out(self.graph, self.instance, backfill, progress, workers=team, stop=is_over)
            return not dispatch.is_over

    def hand_over(self, backfill_id: str, file: PlanFile, targets: Targets, *, title: str, description: str) -> bool:
        """Have Dagster's daemon do a part of a plan, without a webserver and without the book.

        Args:
            backfill_id: of what is done once; one that was handed over before is not again.
            targets: one of `launches.parts`.

        Returns:
            False if it was handed over before.
        """
        if self.instance.get_backfill(backfill_id) is not None:
            return False
        add_backfill(
            self.instance,
            self.assets,
            backfill_id,
            partitions_by_assets(self.graph, targets),
            began_at=self.now(),
            tags=launches.tags_of(backfill_id, file),
            title=title,
            description=description,
        )
        return True

    def _code_versions(self) -> dict[str, str]:
        """Read the versions of the present code, by leading tables."""
        return {lead: told for lead in self.graph.leads() if (told := self.assets.get(key_of(lead)).code_version)}

    def _check_code(self, backfill: Backfill) -> None:
        """A backfill is carried out by the code that it was planned for, to its end."""
        present = self._code_versions()
        moved = [
            f"{lead} was {version}, is {present.get(lead, 'no table any more')}"
            for lead, version in backfill.file.plan.code_versions.items()
            if present.get(lead) != version
        ]
        if moved:
            what = f"The code changed since backfill {backfill.backfill_id} was planned:"
            advice = "Half of it would be made by one version and half by the other; plan anew."
            raise PlanOutdated(_outdated(what, moved, advice))


def folded(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"and {more} more"] if more > 0 else [])]


def _outdated(what: str, moved: Sequence[str], advice: str) -> str:
    return "\n".join([what, *(f"  {each}" for each in folded(moved)), advice])
