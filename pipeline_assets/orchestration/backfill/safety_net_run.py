"""What nobody made that should be there: an incremental plan, handed over to Dagster as a backfill.

What somebody else is making is left to them, and what failed for good is left to whoever mends it, with all that reads
it.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

import dagster as dg

from pipeline_assets.orchestration.backfill.current_work import partitions_under_way
from pipeline_assets.orchestration.backfill.fsck import flaws_of
from pipeline_assets.orchestration.backfill.launches import parts
from pipeline_assets.orchestration.backfill.service import Backfills
from pipeline_assets.orchestration.history.failures import failed_runs
from pipeline_assets.partition import Partition, days_in_words
from pipeline_assets.rules.backfill import Action, Ask, Facts, Mode, Plan
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.plan_file import PlanFile
from pipeline_assets.store import Flaw, FlawKind

REASON = "what the sensors overlooked"
in_words = partial(days_in_words, at_most=10)
"""Stretches of each table and reason, in the log."""


def check(backfills: Backfills, tell: Callable[[str], None]) -> list[str]:
    """Hold lake and event log against each other, without reading files; a sentence of each kind of flaw that is left.

    Args:
        tell: takes a sentence of what was mended.
    """
    kinds: dict[tuple[bool, FlawKind, str], list[Flaw]] = {}
    for each in flaws_of(backfills.instance, backfills.assets, backfills.store, read=False, mend=True):
        kinds.setdefault((each.is_mended, each.kind, each.partition.table), []).append(each)
    left = []
    for (is_mended, kind, table), found in sorted(kinds.items()):
        sentence = f"{kind.value}: {table} {in_words({each.partition.day for each in found})}: {found[0].told}"
        if is_mended:
            tell(f"mended, {sentence}")
        else:
            left.append(sentence)
    return left


def catch_up(backfills: Backfills, tell: Callable[[str], None]) -> None:
    """Find what was overlooked by now, and start a backfill of it: once a day and plan, however often this is called.

    Args:
        tell: takes a sentence of what was found and done.
    """
    file = _overlooked(backfills, tell)
    for sentence in _sentences(file.plan):
        tell(sentence)
    found = parts(backfills.graph, file.plan)
    if not found:
        tell("nothing was overlooked: there is nothing to do")
        return
    backfill_id = f"safety-net-{backfills.today():%Y%m%d}-{file.digest}"
    description = f"{REASON}: {'; '.join(f'{lead} {in_words(days)}' for lead, days in found[0].items())}"
    if not backfills.hand_over(backfill_id, file, found[0], title="Safety net", description=description):
        tell(f"backfill {backfill_id} was started before, for the same plan: it is not started again")
        return
    tell(f"started backfill {backfill_id}")
    if len(found) > 1:
        later = ", ".join(lead for targets in found[1:] for lead in targets)
        tell(f"for later, as Dagster cannot order days with gaps that a window reads over: {later}")


def _overlooked(backfills: Backfills, tell: Callable[[str], None]) -> PlanFile:
    """What is to be done, and is not being done."""
    instance, graph = backfills.instance, backfills.graph
    # Before the facts: what ends in between has its records read, what does not is left alone.
    busy = partitions_under_way(instance, graph, backfills.assets)

    def left_alone(facts: Facts) -> set[Partition]:
        failed = failed_for_good(instance, graph, facts, backfills.now())
        for what, partitions in (("being made already", busy), ("failed, to be mended", failed)):
            for lead in sorted({partition.table for partition in partitions}):
                days = {each.day for each in partitions if each.table == lead}
                tell(f"{what}: {lead} {in_words(days)}")
        return busy | failed

    tables = tuple(lead for lead in graph.leads() if lead not in graph.sources)
    return backfills.plan(Ask(Mode.INCREMENTAL, tables, (), REASON), left_alone=left_alone)


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
            may_retry = all(told.may_retry and (told.not_before or now) <= now for told in failures)
            if not may_retry and not _has_newer_input(graph, facts, partition, each.began_at):
                found.add(partition)
    return found


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
                f"{action} {lead} {in_words(days)} ({count} day{'s' if count > 1 else ''}): {reason}"
                + (f", first because of {because}" if because else "")
            )
    return told
