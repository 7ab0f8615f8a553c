"""Builds Definitions from Settings; nothing else is defined here.

`dagster dev` and the other Dagster commands take `defs` from this module; the CLI and tests call `build_definitions`.
"""

from datetime import date

import dagster as dg

from pipeline_assets import ParquetIOManager
from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.raw_events import LANDING
from pipeline_assets.assets.sla_report import sla_report_asset
from pipeline_assets.assets.source.select import load_source
from pipeline_assets.errors import DefinitionError
from pipeline_assets.orchestration.alerts.sensor import alerts_sensor, missed_slas
from pipeline_assets.orchestration.alerts.webhook import Links, Webhook
from pipeline_assets.orchestration.backfill.safety_net import safety_net
from pipeline_assets.orchestration.changes.landing_sensor import landing_sensor, rescan_job
from pipeline_assets.orchestration.changes.upstream_sensor import upstream_sensor
from pipeline_assets.orchestration.sla.on_time_check import on_time_check
from pipeline_assets.orchestration.sla.sensor import sla_sensor
from pipeline_assets.settings import Settings, load_settings
from pipeline_assets.store.landing import Landing


def build_definitions(settings: Settings, *, today: date | None = None) -> dg.Definitions:
    """The pipeline, every table of `assets` included, with the given settings.

    Args:
        today: the day that is not over yet; the clock's unless given.

    Raises:
        SettingsError, SourceError, LandingError: what is wrong with the settings, in one message.
        DefinitionError: a file of `assets` does not make a table; the message begins with its name.
    """
    first_day = settings.first_day(today=today or settings.today())
    days = dg.DailyPartitionsDefinition(first_day.isoformat(), timezone=settings.timezone)
    landing = settings.open_landing()
    policy = (
        dg.BackfillPolicy.multi_run(settings.days_per_run) if settings.days_per_run else dg.BackfillPolicy.single_run()
    )
    tables = reference_pipeline(
        days=days,
        landing=landing,
        source=load_source(settings.source),
        lateness_days=settings.lateness_days,
        backfill_policy=policy,
    )
    manager = ParquetIOManager(root=str(settings.store), history=settings.history)
    resources = {"io_manager": manager}
    watched = dg.Definitions(assets=tables, resources=resources)
    report = sla_report_asset(
        watched, days=days, store=manager.store(), dagster_url=settings.dagster_url, backfill_policy=policy
    )
    if watched.resolve_asset_graph().has(report.key):
        raise DefinitionError(
            f"pipeline_assets/assets: the project has a table {report.key.to_user_string()} of its own. Name yours "
            "otherwise."
        )
    net = safety_net(
        watched,
        store=manager.store(),
        landing={LANDING: landing},
        timezone=settings.timezone,
        default_status=(
            dg.DefaultScheduleStatus.RUNNING if settings.sensors == "running" else dg.DefaultScheduleStatus.STOPPED
        ),
    )
    return dg.Definitions(
        assets=[*tables, report],
        asset_checks=on_time_check(watched, store=manager.store()),
        sensors=_sensors(settings, days, landing, watched, report.key),
        jobs=[rescan_job(landing, table=LANDING, days=days), net.job],
        schedules=[net.schedule],
        resources=resources,
        # A process per step costs seconds and buys nothing for days of this size; runs are what is parallel.
        executor=dg.in_process_executor,
    )


def landing_zones(settings: Settings) -> dict[str, Landing]:
    """Where the files of each source table lie."""
    return {LANDING: settings.open_landing()}


def _sensors(
    settings: Settings,
    days: dg.DailyPartitionsDefinition,
    landing: Landing,
    watched: dg.Definitions,
    report: dg.AssetKey,
) -> list[dg.SensorDefinition]:
    status = dg.DefaultSensorStatus.RUNNING if settings.sensors == "running" else dg.DefaultSensorStatus.STOPPED
    url = settings.alert_webhook_url
    webhook = Webhook(url.get_secret_value(), Links(settings.dagster_url), settings.alert_format) if url else None
    return [
        landing_sensor(
            landing,
            table=LANDING,
            days=days,
            look_back_days=settings.look_back_days,
            default_status=status,
            interval_seconds=landing.seconds_between_looks,
        ),
        upstream_sensor(selection=dg.AssetSelection.all(), store=settings.open_store(), default_status=status),
        sla_sensor(watched, store=settings.open_store(), default_status=status),
        alerts_sensor(
            dagster_url=settings.dagster_url,
            channels=[webhook] if webhook else [],
            gather=[missed_slas(watched)],
            default_status=status,
        ),
        dg.AutomationConditionSensorDefinition(
            "sla_report_daily", target=dg.AssetSelection.assets(report), default_status=status
        ),
    ]


defs = build_definitions(load_settings())
