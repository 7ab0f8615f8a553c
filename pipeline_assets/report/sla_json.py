"""An SLA report for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pipeline_assets.rules.sla import Delivery, SlaReport, TableReport


def sla_json(report: SlaReport) -> str:
    """The report as JSON: keys sorted, days as YYYY-MM-DD, times in UTC with offset, null where there is no value.

    `first`, `last`, `made_at`; `tables`, in the report's order, each with
        `table`, `owners`, `due`, `timezone`, `next_deadline`,
        `objective`, `on_time_share`: from 0 to 1,
        `due_days`, `missed_days`, `budget_days`, `budget_left_days`,
        `lateness_p50_seconds`, `lateness_p95_seconds`: over the missed days,
        `duration_mean_seconds`, `duration_p95_seconds`, `duration_trend_seconds_per_day`,
        `deliveries`: ascending by `day`, each with `deadline`, `standing` (on time, late, missing, broken),
            `delivered`, `late_seconds`, `duration_seconds`, `cause` (upstream late, waiting in the queue, running long,
            failed, never requested), `detail`, `run_id`.

    Raises:
        ValueError: a number of the report is not finite, which no rule makes.
    """
    value = {
        "first": report.first.isoformat(),
        "last": report.last.isoformat(),
        "made_at": _utc(report.made_at),
        "tables": [_table(each) for each in report.tables],
    }
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _table(table: TableReport) -> dict[str, Any]:
    return {
        "table": table.table,
        "owners": list(table.owners),
        "due": table.due,
        "timezone": table.timezone,
        "next_deadline": _utc(table.next_deadline),
        "objective": table.objective,
        "on_time_share": table.on_time_share,
        "due_days": len(table.deliveries),
        "missed_days": len(table.misses),
        "budget_days": table.budget_days,
        "budget_left_days": table.budget_left_days,
        "lateness_p50_seconds": table.lateness_p50_seconds,
        "lateness_p95_seconds": table.lateness_p95_seconds,
        "duration_mean_seconds": table.duration_mean_seconds,
        "duration_p95_seconds": table.duration_p95_seconds,
        "duration_trend_seconds_per_day": table.duration_trend_seconds_per_day,
        "deliveries": [_delivery(each) for each in table.deliveries],
    }


def _delivery(each: Delivery) -> dict[str, Any]:
    return {
        "day": each.day.isoformat(),
        "deadline": _utc(each.deadline),
        "standing": each.status.value,
        "delivered": _utc(each.delivered),
        "late_seconds": each.late_seconds,
        "duration_seconds": each.duration_seconds,
        "cause": each.cause.value if each.cause else None,
        "detail": each.detail,
        "run_id": each.run_id,
    }


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
