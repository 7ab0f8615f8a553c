"""`sla_report`: how every table kept its due over the thirty days that end with a day, as rows and as a page.

Unlike all other tables it is no function of its day: it is read from Dagster's event log when it is made. A day
that is made again tells what is known by then, so the bytes may differ, and nothing should be made from it.
"""

import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pyarrow as pa

from pipeline_assets.orchestration.partition.materialization import table_schema
from pipeline_assets.orchestration.sla.sensor import sla_report
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.sla import SlaReport
from pipeline_assets.store import Store

REPORT_DAYS = 30
PAGE = "sla"
CRON = "15 8 * * *"
"""After the deadlines of the day."""

SLA_REPORT = Contract(
    (
        Column("report_date", pa.date32(), description="The last of the days that are reported."),
        Column("table_name", pa.string()),
        Column("first_day", pa.date32(), description="The first of the days that are reported."),
        Column("due", pa.string(), description="In words."),
        Column("objective", pa.float64(), description="Share of days that is promised to be on time."),
        Column("due_days", pa.int64(), minimum=0, description="Days whose deadline had passed."),
        Column("missed_days", pa.int64(), minimum=0, description="Late, or not delivered."),
        Column("on_time_share", pa.float64(), nullable=True),
        Column("budget_days", pa.float64(), description="Misses that the objective allows."),
        Column("budget_left_days", pa.float64(), description="Negative when it is overspent."),
        Column("lateness_p50_seconds", pa.float64(), nullable=True, description="Over the missed days."),
        Column("lateness_p95_seconds", pa.float64(), nullable=True, description="Over the missed days."),
        Column("duration_mean_seconds", pa.float64(), nullable=True),
        Column("duration_p95_seconds", pa.float64(), nullable=True),
        Column("duration_trend_seconds_per_day", pa.float64(), nullable=True),
    ),
    key=("table_name",),
    day_column="report_date",
)


def sla_report_asset(
    watched: dg.Definitions,
    *,
    days: dg.DailyPartitionsDefinition,
    store: Store,
    dagster_url: str,
    backfill_policy: dg.BackfillPolicy | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.AssetsDefinition:
    """Make the asset. Nothing is upstream of it: Dagster's own on_cron requests the newest day, once a day.

    Args:
        watched: the tables to report on. Runs in this process (tests, `pipeline run`) know no repository to ask.
        days: first day and time zone, also of CRON.
        store: of the lake; pages lie in it too.
        dagster_url: where the Dagster UI is, for links to runs.
        backfill_policy: days per run of a backfill; all in one run unless given.
        now: the clock.
    """

    def sla_page_and_rows(context: dg.AssetExecutionContext) -> dict[str, pa.Table]:
        from pipeline_assets.report.sla_page import sla_page, sla_summary
        from pipeline_assets.report.words import headline

        rows = {}
        for key in context.partition_keys:
            day = date.fromisoformat(key)
            first = max(day - timedelta(days=REPORT_DAYS - 1), days.start.date())
            report = sla_report(context.instance, watched, first, day, now=now(), store=store)
            page = store.write_page(PAGE, day, sla_page(report, dagster_url=dagster_url))
            context.add_asset_metadata(
                {
                    "headline": dg.MetadataValue.text(headline(report)),
                    "summary": dg.MetadataValue.md(sla_summary(report, dagster_url=dagster_url)),
                    "page": dg.MetadataValue.path(page),  # browsers follow no link from the UI to a file
                },
                partition_key=key,
            )
            rows[key] = rows_of(report)
        return rows

    with warnings.catch_warnings():
        # Beta since it exists; without it a backfill is one run per day.
        warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)
        return dg.asset(
            name="sla_report",
            partitions_def=days,
            group_name="operations",
            owners=["team:data"],
            kinds={"html", "parquet"},
            automation_condition=dg.AutomationCondition.on_cron(CRON, days.timezone),
            backfill_policy=backfill_policy or dg.BackfillPolicy.single_run(),
            metadata={"dagster/column_schema": table_schema(SLA_REPORT.schema, SLA_REPORT)},
            description=(
                "On-time share, lateness, durations and error budget of every table with a due, over the thirty days "
                "that end with this one. Read from the event log when it is made: a day computed again may differ."
            ),
        )(sla_page_and_rows)


def rows_of(report: SlaReport) -> pa.Table:
    """One row per table, in the contract's columns."""
    rows = [
        {
            "report_date": report.last,
            "table_name": each.table,
            "first_day": report.first,
            "due_days": len(each.deliveries),
            "missed_days": len(each.misses),
            **{name: getattr(each, name) for name in _AS_REPORTED},
        }
        for each in report.tables
    ]
    return SLA_REPORT.conform(pa.Table.from_pylist(rows, schema=SLA_REPORT.schema))


_AS_REPORTED = [
    column.name
    for column in SLA_REPORT.columns
    if column.name not in {"report_date", "table_name", "first_day", "due_days", "missed_days"}
]
