"""The check `on_time`: what it says of a table, and what it remembers.

Its newest evaluation is all that is kept of an SLA: alerts are made from the misses that it names, and it knows since
when a table is known. So whoever evaluates it, the sensor `sla` or a person in the UI, says the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from pipeline_assets.codec import codec
from pipeline_assets.orchestration.sla.deliveries import DeliveryFacts, DueTable, due_tables
from pipeline_assets.rules.calendar import zone
from pipeline_assets.rules.delivery import span
from pipeline_assets.rules.sla import Delivery, DeliveryStatus
from pipeline_assets.store import Store

ON_TIME_CHECK = "on_time"
CHECKED_DAYS = 30
"""Days that the check looks back: what has been missing for longer, nobody waits for."""
LATE_SHOWN = timedelta(days=7)
"""How long the check warns of a partition that came late. The report counts it for as long as it covers the day."""
LISTED_DAYS = 5
RECORDS = 5
"""Records of the check that are looked through for its newest evaluation."""
_KNOWN_SINCE, _MISSES = "known_since", "misses"


def on_time_check(
    watched: dg.Definitions, *, store: Store | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> list[dg.AssetChecksDefinition]:
    """The check `on_time` of every asset with a due, in a list that is empty when there is none.

    Args:
        store: see `DeliveryFacts`.
    """
    tables = due_tables(watched)
    if not tables:
        return []
    specs = [
        dg.AssetCheckSpec(ON_TIME_CHECK, asset=table.key, description=f"Every day is there {table.due.words}.")
        for table in tables
    ]

    @dg.multi_asset_check(specs=specs, can_subset=True, name="on_time_check")
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        now = clock()
        facts = DeliveryFacts(context.instance, now, store)
        chosen = {each.asset_key for each in context.selected_asset_check_keys}
        for table in tables:
            if table.key in chosen:
                since = known_since(facts, table) or now
                deliveries = facts.deliveries(table, *checked_days(table, now), since)
                others = [each for each in deliveries if each.status is not DeliveryStatus.ON_TIME]
                result = OnTimeResult(table, others, len(deliveries) - len(others), since, now)
                yield dg.AssetCheckResult(asset_key=table.key, check_name=ON_TIME_CHECK, **result.result())

    return [check]


@dataclass(frozen=True, slots=True)
class OnTimeResult:
    """What the check `on_time` says of a table.

    Args:
        others: the days that are not on time, ascending.
        on_time: how many are.
    """

    table: DueTable
    others: Sequence[Delivery]
    on_time: int
    since: datetime
    now: datetime

    @property
    def shown(self) -> list[Delivery]:
        """Pick the days that it names; an evaluation is made only of what is new in them."""
        return [
            each
            for each in self.others
            if each.status is not DeliveryStatus.NOT_DUE
            and (each.delivered is None or each.delivered > self.now - LATE_SHOWN)
        ]

    def result(self) -> dict[str, Any]:
        """Give the arguments of a check result."""
        shown = self.shown
        now_wrong = any(each.status in (DeliveryStatus.MISSING, DeliveryStatus.BROKEN) for each in shown)
        return {
            "passed": not shown,
            "severity": dg.AssetCheckSeverity.ERROR if now_wrong else dg.AssetCheckSeverity.WARN,
            "description": self._description(shown),
            "metadata": {
                _KNOWN_SINCE: dg.MetadataValue.text(self.since.isoformat()),
                _MISSES: dg.MetadataValue.json([as_json(each) for each in self.others if each.is_miss]),
            },
        }

    def _description(self, shown: Sequence[Delivery]) -> str:
        if not shown:
            late = sum(each.is_miss for each in self.others)
            if not self.on_time + late:
                return f"Nothing has been due yet; it is {self.table.due.words}."
            return (
                f"{self.on_time} of the {self.on_time + late} days that were due in {CHECKED_DAYS} days were on time."
            )
        lines = [line_of(self.table, each) for each in reversed(shown[-LISTED_DAYS:])]
        if len(shown) > LISTED_DAYS:
            lines.append(f"And {len(shown) - LISTED_DAYS} days more, from {shown[0].day} on.")
        return "\n".join(lines)


def line_of(table: DueTable, delivery: Delivery) -> str:
    """Tell of one day in a sentence that stays true until the day's status changes."""
    at = delivery.deadline.astimezone(zone(table.due.timezone or "UTC")).strftime("%Y-%m-%d %H:%M")
    due = f"{table.name} {delivery.day}, due {at} {table.due.timezone},"
    if delivery.status is DeliveryStatus.WARNED:
        return f"{due} is not there yet."
    cause = f": {delivery.cause}. {delivery.detail}" if delivery.cause else "."
    if delivery.status is DeliveryStatus.LATE:
        return f"{due} came {span(delivery.late_seconds or 0)} late{cause}"
    state = "is not there, its newest run failed" if delivery.status is DeliveryStatus.BROKEN else "is not there"
    return f"{due} {state}{cause}"


def checked_days(table: DueTable, now: datetime) -> tuple[date, date]:
    """Give first and last day of the check: later ones are nobody's business yet."""
    today = now.astimezone(zone(table.due.timezone or "UTC")).date()
    ended = [
        day
        for day in (today - timedelta(days=table.due.days_after - 1 + n) for n in range(3))
        if now >= (table.due.warn_at(day) or table.due.deadline(day))
    ]
    last = max(ended, default=today - timedelta(days=table.due.days_after + 2))
    return last - timedelta(days=CHECKED_DAYS - 1), last


def known_since(facts: DeliveryFacts, table: DueTable) -> datetime | None:
    """When a table was first heard of: by its first materialization, or by whoever evaluated the check."""
    heard = [facts.first_heard_of(table), said(facts.instance, table)[0]]
    return min((each for each in heard if each is not None), default=None)


def said(instance: dg.DagsterInstance, table: DueTable) -> tuple[datetime | None, list[Delivery]]:
    """Since when the check's newest evaluation knows the table, and the misses that it names."""
    key = dg.AssetCheckKey(table.key, ON_TIME_CHECK)
    newest = instance.get_latest_asset_check_evaluation_record(key)
    found = [newest.evaluation] if newest else []
    if found and not isinstance(found[0], dg.AssetCheckEvaluation):
        # Above the newest evaluation there may be runs that are to evaluate the check, such as this one, or never did.
        # This question sorts every evaluation that there was, the one above does not.
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=RECORDS)
        found = [each.evaluation for each in records]
    evaluation = next((each for each in found if isinstance(each, dg.AssetCheckEvaluation)), None)
    if evaluation is None or _KNOWN_SINCE not in evaluation.metadata:
        return None, []
    since, misses = evaluation.metadata[_KNOWN_SINCE].value, evaluation.metadata[_MISSES].value
    values: Sequence[Any] = misses if isinstance(misses, list) else []
    return datetime.fromisoformat(str(since)), [from_json(table, each) for each in values]


def as_json(miss: Delivery) -> dict[str, Any]:
    """Give what is kept of a miss, by the names that event logs have already; the rest follows from the due."""
    kept = codec(Delivery).dump_python(miss, mode="json", include={"day", "delivered", "cause", "detail"})
    return {**kept, "standing": miss.status.value, "run": miss.run_id}


def from_json(table: DueTable, kept: Mapping[str, Any]) -> Delivery:
    """Give the miss back, against the deadline that its day has now."""
    deadline = table.due.deadline(date.fromisoformat(kept["day"]))
    rest = {"table": table.name, "deadline": deadline, "status": kept["standing"], "run_id": kept["run"]}
    miss = codec(Delivery).validate_python({**kept, **rest})
    return replace(miss, late_seconds=(miss.delivered - deadline).total_seconds()) if miss.delivered else miss
