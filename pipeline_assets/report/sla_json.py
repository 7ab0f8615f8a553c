"""An SLA report for programs."""

from pipeline_assets.report.plain_json import fields, sorted_json
from pipeline_assets.rules.sla import SlaReport

_OF_A_TABLE = (
    *("table", "owners", "due", "timezone", "next_deadline", "objective", "on_time_share"),
    *("budget_days", "budget_left_days", "lateness_p50_seconds", "lateness_p95_seconds"),
    *("duration_mean_seconds", "duration_p95_seconds", "duration_trend_seconds_per_day"),
)
_OF_A_DELIVERY = ("day", "deadline", "delivered", "late_seconds", "duration_seconds", "cause", "detail", "run_id")


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
        "tables": [
            {
                **fields(table, _OF_A_TABLE),
                "due_days": len(table.deliveries),
                "missed_days": len(table.misses),
                "deliveries": [
                    {**fields(each, _OF_A_DELIVERY), "standing": each.status.value} for each in table.deliveries
                ],
            }
            for table in report.tables
        ],
    }
    return sorted_json(value)
