"""Follows every change of a partition downstream: the one mechanism behind every edge of the graph.

Changes only name candidates; `rules.staleness` judges each by its record. So nothing depends on a change being seen
once, in order, or while it happened: what is read again is judged again, with the same verdict.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Self

import dagster as dg

from pipeline_assets.errors import SettingsError
from pipeline_assets.orchestration.backfill.under_way import spots_being_made
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.failures import judgements_of
from pipeline_assets.orchestration.history.graph import daily_graph, key_of, last_days
from pipeline_assets.orchestration.history.runs import IN_FLIGHT, is_retried_by_dagster, newest_runs, recorded_spots
from pipeline_assets.orchestration.history.tags import (
    ATTEMPTS_TAG,
    BECAUSE_TAG,
    PARTITION,
    RANGE_END,
    RANGE_START,
)
from pipeline_assets.rules.calendar import days_between
from pipeline_assets.rules.reach import Graph, ranges_of
from pipeline_assets.rules.staleness import (
    WANT_DIGITS,
    Answer,
    Judgement,
    Reaction,
    Request,
    Spot,
    State,
    affected,
    react,
)

NAME = "upstream_sensor"
REQUESTS_PER_TICK = 25
LOOKED_UP_PER_TICK = 500
"""Partitions, each with what it reads: their records take half a second."""
DESCRIBED_CHANGES = 3

Wants = dict[Spot, str]
"""Partitions with the names of the inputs that they were, or are to be, made from."""


@dataclass(slots=True)
class Asked:
    """A run that was requested: what for, how many attempts were made before it, and the newest input's event id."""

    wants: Wants
    attempts: int = 0
    newest_input: int = 0


@dataclass(slots=True)
class Later:
    """Partitions whose verdict says: again, at this time."""

    wants: Wants
    not_before: datetime
    attempts: int


@dataclass(slots=True)
class Memory:
    """What the sensor keeps from tick to tick.

    Args:
        read: event id up to which materializations were read, by table.
        waiting: candidates that could not be judged yet.
        asked: by run key.
        later: failed, to be tried again.
        refused: failed, not to be tried again with the same inputs.
    """

    read: dict[str, int] = field(default_factory=dict)
    waiting: set[Spot] = field(default_factory=set)
    asked: dict[str, Asked] = field(default_factory=dict)
    later: list[Later] = field(default_factory=list)
    refused: Wants = field(default_factory=dict)

    def follow(self, graph: Graph) -> None:
        """The graph may be another by now: tables are gone, and steps are known by other tables."""

        def of_graph(wants: Wants) -> Wants:
            kept = {spot: want for spot, want in wants.items() if spot.table in graph.tables}
            return {Spot(graph.lead(table), day): want for (table, day), want in kept.items()}

        self.waiting = set(of_graph(dict.fromkeys(self.waiting, "")))
        self.refused = of_graph(self.refused)
        for asked in self.asked.values():
            asked.wants = of_graph(asked.wants)
        for later in self.later:
            later.wants = of_graph(later.wants)

    def forget(self, spots: Collection[Spot]) -> set[Spot]:
        """Failures of partitions that are settled, or that somebody made meanwhile; those that had failed."""
        failed = {
            spot for wants in (self.refused, *(each.wants for each in self.later)) for spot in wants if spot in spots
        }
        self.refused = {spot: want for spot, want in self.refused.items() if spot not in failed}
        for each in self.later:
            each.wants = {spot: want for spot, want in each.wants.items() if spot not in failed}
        self.later = [each for each in self.later if each.wants]
        return failed

    def to_cursor(self) -> str:
        """As text."""
        waiting: dict[str, list[date]] = {}
        for table, day in sorted(self.waiting):
            waiting.setdefault(table, []).append(day)
        return json.dumps(
            {
                "read": self.read,
                "waiting": {
                    table: [f"{first}/{last}" for first, last in ranges_of(days)] for table, days in waiting.items()
                },
                "asked": {
                    key: [_written(each.wants), each.attempts, each.newest_input] for key, each in self.asked.items()
                },
                "later": [[_written(each.wants), each.not_before.isoformat(), each.attempts] for each in self.later],
                "refused": _written(self.refused),
            },
            separators=(",", ":"),
        )

    @classmethod
    def of_cursor(cls, cursor: str | None) -> Self:
        """From text.

        Raises:
            SettingsError: the text is not ours.
        """
        if not cursor:
            return cls()
        try:
            held = json.loads(cursor)
            return cls(
                {str(table): int(event_id) for table, event_id in held["read"].items()},
                {
                    Spot(table, day)
                    for table, spans in held["waiting"].items()
                    for span in spans
                    for day in days_between(*map(date.fromisoformat, span.split("/")))
                },
                {
                    key: Asked(_parsed(wants), int(attempts), int(newest))
                    for key, (wants, attempts, newest) in held["asked"].items()
                },
                [
                    Later(_parsed(wants), datetime.fromisoformat(moment), int(attempts))
                    for wants, moment, attempts in held["later"]
                ],
                _parsed(held["refused"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = (
                f"{NAME}: its cursor cannot be read ({error!r}). Reset it in the UI: every record is read again then, "
                "and what is current stays as it is."
            )
            raise SettingsError(msg) from error


def upstream_sensor(
    *,
    selection: dg.AssetSelection,
    default_status: dg.DefaultSensorStatus,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor `upstream_sensor`.

    Args:
        selection: assets that it may request.
    """

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None  # noqa: S101 - Dagster gives it to every sensor of a location
        assets = context.repository_def.asset_graph
        may_request = {key.to_user_string() for key in selection.resolve(assets)}
        ledger = EventLog(context.instance, daily_graph(assets))
        last = {table: day for table, day in last_days(assets).items() if table in may_request - ledger.graph.sources}
        return Tick(ledger, assets, Memory.of_cursor(context.cursor), last, now(), context.log).run()

    return dg.SensorDefinition(
        name=NAME,
        evaluation_fn=tick,
        asset_selection=selection,
        minimum_interval_seconds=5,
        default_status=default_status,
        description="Requests the partitions that are made from what changed, as runs over ranges, and no others.",
    )


@dataclass(slots=True)
class Tick:
    """One evaluation.

    Args:
        assets: Dagster's asset graph.
        last_days: of the tables that may be requested.

    What is running is asked before records are read: a run that ends in between has its records read, one that does not
    holds back what is downstream of it.
    """

    ledger: EventLog
    assets: Any
    memory: Memory
    last_days: Mapping[str, date]
    now: datetime
    log: logging.Logger
    _answers: dict[Spot, Answer] = field(default_factory=dict)

    def run(self) -> dg.SensorResult:
        """Read what changed, judge what that may concern, request what must be made."""
        memory, graph = self.memory, self.ledger.graph
        memory.follow(graph)
        changed = self._read_changes()
        mended = memory.forget({Spot(graph.lead(table), day) for table, day in changed})
        ended = self._read_ended_runs()
        retried = {spot: each.attempts for each in memory.later if each.not_before <= self.now for spot in each.wants}
        failed = {**memory.refused, **{spot: want for each in memory.later for spot, want in each.wants.items()}}
        candidates = memory.waiting | ended | retried.keys() | mended
        candidates |= affected(graph, changed, self.last_days)
        candidates = {spot for spot in candidates if spot.table in self.last_days}
        too_early = {spot for spot in candidates if spot.day > self.last_days[spot.table]}
        candidates -= too_early
        if not candidates:
            memory.waiting = too_early
            return dg.SensorResult(cursor=memory.to_cursor(), skip_reason="nothing changed upstream")
        running = spots_being_made(self.ledger.instance, graph, self.assets)
        running |= {spot for each in memory.asked.values() for spot in each.wants}
        for spot, want in failed.items():
            if spot not in retried:
                self._answers[spot] = Answer(want, succeeded=False)
        reaction = react(
            graph, candidates, self.ledger, running=running, answers=self._answers, at_most=LOOKED_UP_PER_TICK
        )
        requests = [self._request(each, retried) for each in reaction.requests[:REQUESTS_PER_TICK]]
        postponed = {spot for each in reaction.requests[REQUESTS_PER_TICK:] for spot in each.judgements}
        self._remember(reaction, postponed | too_early)
        return dg.SensorResult(
            run_requests=requests,
            cursor=memory.to_cursor(),
            skip_reason=None if requests else _reason(reaction.judged),
        )

    def _read_changes(self) -> set[Spot]:
        """Partitions that were recorded since the last tick."""
        changed, read, instance = set(), self.memory.read, self.ledger.instance
        for table in self.ledger.graph.tables:
            since = read.get(table, 0)
            # The next question goes through every record of the table, so it is asked only if there is an answer.
            first = instance.fetch_materializations(
                dg.AssetRecordsFilter(key_of(table), after_storage_id=since), limit=1, ascending=True
            ).records
            if not first:
                continue
            newest = instance.get_latest_storage_id_by_partition(
                key_of(table), dg.DagsterEventType.ASSET_MATERIALIZATION, after_cursor=since
            )
            read[table] = max(newest.values(), default=first[0].storage_id)  # it may be of no partition
            for day in newest:
                with suppress(ValueError):  # a report of a partition that cannot exist
                    changed.add(Spot(table, date.fromisoformat(day)))
        return changed

    def _read_ended_runs(self) -> set[Spot]:
        """Partitions of requested runs that have ended, with the answers that they gave."""
        memory, ended = self.memory, set[Spot]()
        if not memory.asked:
            return ended
        runs = newest_runs(self.ledger.instance, memory.asked.keys())
        for key, asked in list(memory.asked.items()):
            run = runs.get(key)
            if run is not None and (run.status in IN_FLIGHT or is_retried_by_dagster(run)):
                continue
            ended |= asked.wants.keys()
            del memory.asked[key]
            if run is None:
                self.log.warning(f"{key}: no such run; what it was to make is judged anew")
            elif run.status is dg.DagsterRunStatus.SUCCESS:
                newest = asked.newest_input
                self._answers |= {
                    spot: Answer(want, succeeded=True, newest_input=newest) for spot, want in asked.wants.items()
                }
            else:
                self._read_failure(run, asked)
        return ended

    def _read_failure(self, run: dg.DagsterRun, asked: Asked) -> None:
        """What was committed all the same is judged by its record; the rest is tried again as its verdict allows."""
        instance = self.ledger.instance
        judged, recorded = judgements_of(instance, run.run_id), recorded_spots(instance, self.ledger.graph, run.run_id)
        for spot, want in asked.wants.items():
            if spot in recorded:
                continue
            told = [each for each in judged if each.concerns(spot.table, spot.day)]
            if told and all(each.may_retry for each in told):
                not_before = max(each.not_before or self.now for each in told)
                self._try_later(spot, want, not_before, max(each.attempts for each in told))
            else:
                self.memory.refused[spot] = want

    def _try_later(self, spot: Spot, want: str, not_before: datetime, attempts: int) -> None:
        for each in self.memory.later:
            if (each.not_before, each.attempts) == (not_before, attempts):
                each.wants[spot] = want
                return
        self.memory.later.append(Later({spot: want}, not_before, attempts))

    def _request(self, request: Request, retried: Mapping[Spot, int]) -> dg.RunRequest:
        wants = {spot: judgement.want for spot, judgement in request.judgements.items()}
        attempts = max((retried.get(spot, 0) for spot in wants), default=0)
        listed = "".join(f"{spot}={want};" for spot, want in sorted(wants.items()))
        inputs = hashlib.blake2b(listed.encode()).hexdigest()[:WANT_DIGITS]
        span = f"{request.first}..{request.last}"
        key = f"{'+'.join(request.leads)}|{span}|{inputs}|{request.newest_input}|{attempts}"
        self.memory.asked[key] = Asked(wants, attempts, request.newest_input)
        because = _because(request.judgements.values())
        self.log.info(f"requested {' and '.join(request.leads)} {span}: {because}")
        days = {PARTITION: str(request.first)} if request.first == request.last else {}
        return dg.RunRequest(
            run_key=key,
            asset_selection=[key_of(table) for lead in request.leads for table in self.ledger.graph.steps[lead]],
            tags={
                **(days or {RANGE_START: str(request.first), RANGE_END: str(request.last)}),
                BECAUSE_TAG: because,
                **({ATTEMPTS_TAG: str(attempts)} if attempts else {}),
            },
        )

    def _remember(self, reaction: Reaction, postponed: set[Spot]) -> None:
        memory = self.memory
        # A failed one that is held keeps its verdict: what it waits for may end without any change.
        waiting = reaction.spots(State.HELD, State.RUNNING, State.POSTPONED) | postponed
        memory.waiting = waiting
        memory.forget(reaction.judged.keys() - reaction.spots(State.FAILED) - waiting)


def _because(judgements: Iterable[Judgement]) -> str:
    changed: dict[str, set[date]] = {}
    for judgement in judgements:
        for change in judgement.changes:
            changed.setdefault(change.spot.table, set()).add(change.spot.day)
    listed = [
        f"{table} {first}" + (f" to {last}" if last != first else "")
        for table, days in changed.items()
        for first, last in ranges_of(sorted(days))
    ]
    more = f" and {len(listed) - DESCRIBED_CHANGES} more" if len(listed) > DESCRIBED_CHANGES else ""
    return f"new or changed: {', '.join(listed[:DESCRIBED_CHANGES])}{more}" if listed else "never computed"


def _reason(judged: Mapping[Spot, Judgement]) -> str:
    counts = Counter(judgement.state.value for judgement in judged.values())
    return "looked at " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _written(wants: Mapping[Spot, str]) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    for spot, want in sorted(wants.items()):
        tables.setdefault(spot.table, {})[str(spot.day)] = want
    return tables


def _parsed(tables: Mapping[str, Mapping[str, str]]) -> Wants:
    return {Spot(table, date.fromisoformat(day)): want for table, days in tables.items() for day, want in days.items()}
