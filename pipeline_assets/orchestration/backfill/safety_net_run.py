"""What nobody made that should be there: an incremental plan, started as a backfill of Dagster's.

What somebody else is making is left to them, and what failed for good is left to whoever mends it, with all that reads
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import dagster as dg

# Sensors and jobs can request runs, not backfills. This is what Dagster's own GraphQL does to launch one.
from dagster._core.definitions.selector import PartitionsByAssetSelector
from dagster._core.execution.backfill import PartitionBackfill

from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.backfill.under_way import partitions_under_way
from pipeline_assets.orchestration.backfill.webserver import PRIORITY, Targets, partitions_by_assets, parts
from pipeline_assets.orchestration.history.failures import RecordedFailure, failed_runs
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.history.tags import (
    BACKFILL_TAG,
    PLAN_TAG,
    PRIORITY_TAG,
    REASON_TAG,
    SKIP_UNCHANGED_TAG,
)
from pipeline_assets.partition import Partition, days_in_words
from pipeline_assets.rules.backfill import Action, Ask, Facts, Mode, Plan, plan
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.plan_file import digest_of
from pipeline_assets.store import Store
from pipeline_assets.store.landing import Landing

REASON = "what the sensors missed"
LISTED_STRETCHES = 10
"""Of each table and reason, in the log."""


class SafetyNetRun:
    """What was missed by now: found, and a backfill of it started.

    Args:
        assets: the asset graph of the tables.
        now: aware.
        tell: takes a sentence of what was found and done.
    """

    def __init__(self, instance: dg.DagsterInstance, assets: Any, now: datetime, tell: Callable[[str], None]) -> None:
        self.instance, self.assets, self.now, self.tell = instance, assets, now, tell
        self.graph = daily_graph(assets)

    def plan(self, store: Store, landing: Mapping[str, Landing]) -> Plan:
        """What is to be done, and is not being done."""
        # Before the facts: what ends in between has its records read, what does not is left alone.
        busy = partitions_under_way(self.instance, self.graph, self.assets)
        facts = facts_of(self.instance, self.assets, store, landing)
        failed = failed_for_good(self.instance, self.graph, facts, self.now)
        for what, partitions in (("being made already", busy), ("failed, to be mended", failed)):
            for lead in sorted({partition.table for partition in partitions}):
                days = {each.day for each in partitions if each.table == lead}
                self.tell(f"{what}: {lead} {_in_words(days)}")
        tables = tuple(lead for lead in self.graph.leads() if lead not in self.graph.sources)
        ask = Ask(Mode.INCREMENTAL, tables, (), REASON)
        return plan(self.graph, ask, replace(facts, held=frozenset(busy | failed)))

    def start(self, planned: Plan, today: date) -> None:
        """Start it, once a day and plan, however often this is asked."""
        for sentence in _sentences(planned):
            self.tell(sentence)
        found = parts(self.graph, planned)
        if not found:
            self.tell("nothing was missed: there is nothing to do")
            return
        digest = digest_of(planned)
        backfill_id = f"safety-net-{today:%Y%m%d}-{digest}"
        if self.instance.get_backfill(backfill_id) is not None:
            self.tell(f"backfill {backfill_id} was started before, for the same plan: it is not started again")
            return
        self._add(backfill_id, digest, found[0])
        self.tell(f"started backfill {backfill_id}")
        if len(found) > 1:
            later = ", ".join(lead for targets in found[1:] for lead in targets)
            self.tell(f"for later, as Dagster cannot order days with gaps that a window reads over: {later}")

    def _add(self, backfill_id: str, digest: str, targets: Targets) -> None:
        self.instance.add_backfill(
            PartitionBackfill.from_partitions_by_assets(
                backfill_id=backfill_id,
                asset_graph=self.assets,
                backfill_timestamp=self.now.timestamp(),
                tags={
                    BACKFILL_TAG: backfill_id,
                    REASON_TAG: REASON,
                    PLAN_TAG: digest,
                    SKIP_UNCHANGED_TAG: "true",
                    PRIORITY_TAG: str(PRIORITY),
                },
                dynamic_partitions_store=self.instance,
                partitions_by_assets=[
                    PartitionsByAssetSelector.from_graphql_input(each)
                    for each in partitions_by_assets(self.graph, targets)
                ],
                title="Safety net",
                description=f"{REASON}: {'; '.join(f'{lead} {_in_words(days)}' for lead, days in targets.items())}",
                run_config=None,
            )
        )


def failed_for_good(instance: dg.DagsterInstance, graph: Graph, facts: Facts, now: datetime) -> set[Partition]:
    """Failed partitions that would fail again, by leading tables.

    Their verdict is final, or asks to wait for longer; and no input has changed since.
    """
    left, found = set(facts.failed), set[Partition]()
    for each in failed_runs(instance, graph, lambda partition, _: partition in left):
        for partition, failures in each.failures.items():
            if not failures:
                continue
            left.discard(partition)
            if not _may_retry(failures, now) and not _has_newer_input(graph, facts, partition, each.began_at):
                found.add(partition)
    return found


def _may_retry(told: Sequence[RecordedFailure], now: datetime) -> bool:
    return all(each.may_retry and (each.not_before is None or each.not_before <= now) for each in told)


def _has_newer_input(graph: Graph, facts: Facts, partition: Partition, since: datetime) -> bool:
    return any(
        current.recorded_at > since and not current.unchanged
        for name, window in graph.reads(partition.table)
        for day in window.upstream_of(partition.day)
        if (current := facts.records.get(name, {}).get(day)) is not None
    )


def _sentences(planned: Plan) -> list[str]:
    """The plan, a line for each table, action and reason."""
    told = []
    for lead in planned.order:
        entries = planned.entries[lead]
        kinds = Counter((entry.action, entry.reason) for entry in entries.values())
        for (action, reason), count in kinds.items():
            if action is Action.SKIP:
                continue
            days = [day for day, entry in entries.items() if (entry.action, entry.reason) == (action, reason)]
            because = entries[days[0]].because
            told.append(
                f"{action} {lead} {_in_words(days)} ({count} day{'s' if count > 1 else ''}): {reason}"
                + (f", first because of {because}" if because else "")
            )
    return told


def _in_words(days: Collection[date]) -> str:
    return days_in_words(days, at_most=LISTED_STRETCHES)
