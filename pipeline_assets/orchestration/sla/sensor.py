"""SLAs of a running instance: the report, the sensor that evaluates the check `on_time`, and what is alerted."""

import hashlib
import json
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import dagster as dg
from pydantic import ValidationError

from pipeline_assets.codec import codec
from pipeline_assets.orchestration.sla.deliveries import DeliveryFacts, DueTable, due_tables
from pipeline_assets.orchestration.sla.on_time_check import (
    ON_TIME_CHECK,
    OnTimeResult,
    as_json,
    checked_days,
    from_json,
    known_since,
    line_of,
    said,
)
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.sla import Delivery, DeliveryStatus, SlaReport, table_report
from pipeline_assets.store import Store

ALERTED = timedelta(days=7)
"""A miss is news for so long: who turns alerts on does not want the last month's."""
TICK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class TableLook:
    """What the sensor saw of a table.

    Args:
        promise: hash of its due.
        since: when the table was first heard of, aware.
        on_time: days that need not be looked at again; `late`: nor these, as JSON.
        said: hash of what the check says.
    """

    promise: str
    since: datetime
    on_time: list[date] = field(default_factory=list)
    late: list[dict[str, Any]] = field(default_factory=list)
    said: str = ""


@dataclass(frozen=True, slots=True)
class SlaCursor:
    """What the sensor keeps from tick to tick, by table."""

    tables: dict[str, TableLook] = field(default_factory=dict)
    format: Literal[1] = 1


def sla_report(
    instance: dg.DagsterInstance,
    watched: dg.Definitions,
    first: date,
    last: date,
    *,
    now: datetime,
    store: Store | None = None,
) -> SlaReport:
    """How every table that has a due kept it on the days `first` to `last`, as seen at `now`.

    Days before a table was first heard of are not judged: it cannot have been late then.

    Args:
        watched: definitions with the tables; runs in this process know no repository to ask.
        store: see `DeliveryFacts`.
    """
    facts = DeliveryFacts(instance, now, store)
    reports = []
    for table in due_tables(watched):
        newest = table.due.last_due_day(now)
        since = known_since(facts, table)
        deliveries = facts.deliveries(table, first, min(last, newest), since) if newest else []
        reports.append(table_report(table.name, table.due, deliveries, now=now, owners=table.owners))
    return SlaReport(first, last, now, reports)


def sla_sensor(
    watched: dg.Definitions,
    *,
    store: Store | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """The sensor `sla`: evaluates the check of every asset with a due, and reports it when it says something new.

    Args:
        store: see `DeliveryFacts`.
    """
    tables = due_tables(watched)

    @dg.sensor(
        name="sla",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=default_status,
        description="Says which due partitions are missing, late or broken, when that changes.",
    )
    def sla(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = clock()
        facts = DeliveryFacts(context.instance, now, store)
        before, after, events = SlaCursor(), SlaCursor(), []
        with suppress(ValidationError):  # of an earlier version: all of it can be found again
            before = codec(SlaCursor).validate_json(context.cursor or "{}")
        for table in tables:
            after.tables[table.name], evaluations = _look(facts, table, before.tables.get(table.name), now)
            events += evaluations
        unchanged = None if events else "No table has another status than before."
        cursor = codec(SlaCursor).dump_json(after).decode()
        return dg.SensorResult(asset_events=events, cursor=cursor, skip_reason=unchanged)

    return sla


def sla_alerts(
    instance: dg.DagsterInstance, watched: dg.Definitions, *, sent: Container[str], now: datetime
) -> list[Alert]:
    """What is to be told of misses, from what the checks last said: the same at every call, so keys must dedupe.

    Args:
        sent: keys of the alerts that were sent; a recovery is told to those who heard of the miss. One that nobody
            heard of, because nothing looked in between, is told as the miss that it was.
    """
    alerts = []
    for table in due_tables(watched):
        for miss in said(instance, table)[1]:
            key = f"sla/{table.name}/{miss.day}"
            known, recent = f"{key}/missed" in sent, miss.deadline > now - ALERTED
            if miss.status is not DeliveryStatus.LATE:
                if recent:
                    alerts.append(_alert(table, miss, f"{key}/missed", Severity.ALERT, "missed its deadline"))
            elif known:
                alerts.append(_alert(table, miss, f"{key}/recovered", Severity.INFO, "is there"))
            elif recent:
                alerts.append(_alert(table, miss, f"{key}/recovered", Severity.ALERT, "came late"))
    return alerts


def _look(
    facts: DeliveryFacts, table: DueTable, before: TableLook | None, now: datetime
) -> tuple[TableLook, list[dg.AssetCheckEvaluation]]:
    """One table at one tick: what the cursor keeps of it, and its check if that says something new."""
    promise = _hash(table.due.as_json())
    if before is None or before.promise != promise:
        before = TableLook(promise, known_since(facts, table) or now)
    first, last = checked_days(table, now)
    # What has come stays so, because the first commit is the one that counts; it is not asked for again.
    on_time = {day for day in before.on_time if day >= first}
    late = [each for kept in before.late if (each := from_json(table, kept)).day >= first]
    looked = facts.deliveries(table, first, last, before.since, skip=on_time | {each.day for each in late})
    on_time |= {each.day for each in looked if each.status is DeliveryStatus.ON_TIME}
    others = [*late, *(each for each in looked if each.status is not DeliveryStatus.ON_TIME)]
    result = OnTimeResult(table, sorted(others, key=lambda each: each.day), len(on_time), before.since, now)
    seen = TableLook(
        promise,
        before.since,
        sorted(on_time),
        [as_json(each) for each in result.others if each.status is DeliveryStatus.LATE],
        _hash([(str(each.day), each.status, each.cause) for each in result.shown]),
    )
    if seen.said == before.said:
        return seen, []
    return seen, [dg.AssetCheckEvaluation(table.key, ON_TIME_CHECK, **result.result())]


def _alert(table: DueTable, miss: Delivery, key: str, severity: Severity, what: str) -> Alert:
    return Alert(
        key=key,
        severity=severity,
        title=f"{table.name} {miss.day} {what}",
        table=table.name,
        days=[miss.day],
        verdict=str(miss.status),
        reason=line_of(table, miss),
        owners=table.owners,
        run_id=miss.run_id,
    )


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
