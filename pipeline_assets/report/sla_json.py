"""An SLA report for programs."""

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
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
        "first": report.first,
        "last": report.last,
        "made_at": report.made_at,
        "tables": [_table(each) for each in report.tables],
    }
    return json.dumps(value, default=_text, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _table(table: TableReport) -> dict[str, Any]:
    return {
        **asdict(table),
        "due_days": len(table.deliveries),
        "missed_days": len(table.misses),
        "deliveries": [_delivery(each) for each in table.deliveries],
    }


def _delivery(each: Delivery) -> dict[str, Any]:
    values = asdict(each)
    del values["table"]
    return {"standing": values.pop("status"), **values}


def _text(day_or_moment: date) -> str:
    if isinstance(day_or_moment, datetime):
        return day_or_moment.astimezone(UTC).isoformat()
    return day_or_moment.isoformat()
