"""Once a day, what the sensors overlooked: they follow what changes; a plan compares everything with everything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from pipeline_assets.store import Store
from pipeline_assets.store.landing import Landing

NAME = "safety_net"
CRON = "0 5 * * *"
"""Of the pipeline's zone: the files of yesterday have landed, and an hour is left until the first table is due."""


@dataclass(frozen=True, slots=True)
class SafetyNet:
    """The job, whose runs tell what they found, and its schedule."""

    job: dg.JobDefinition
    schedule: dg.ScheduleDefinition


def safety_net(
    watched: dg.Definitions,
    *,
    store: Store,
    landing: Mapping[str, Landing],
    timezone: str,
    default_status: dg.DefaultScheduleStatus,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SafetyNet:
    """The job `safety_net` and the schedule of that name.

    Args:
        watched: the tables that it makes.
        landing: landing zones by the source tables that stand for them.
        timezone: of the schedule, and of the day that is part of a backfill's id.
    """

    @dg.op(name="start_what_was_overlooked")
    def look(context: dg.OpExecutionContext) -> None:
        # Every run imports this module, and these take 0.1 s.
        from pipeline_assets.orchestration.backfill.safety_net_run import catch_up, check
        from pipeline_assets.orchestration.backfill.service import Backfills

        began = now()
        backfills = Backfills(watched, context.instance, store, landing, timezone=timezone, now=lambda: began)
        flaws = check(backfills, context.log.info)
        catch_up(backfills, context.log.info)
        if flaws:  # whoever is alerted of runs that fail is alerted of this
            raise dg.Failure("\n".join(["The lake has flaws; what can be made again is in the backfill:", *flaws]))

    @dg.job(
        name=NAME,
        executor_def=dg.in_process_executor,
        description="Starts a backfill of what an incremental plan finds: what the sensors overlooked. Fails if lake "
        "and event log did not fit together, as `pipeline fsck` tells.",
    )
    def job() -> None:
        look()

    schedule = dg.ScheduleDefinition(
        name=NAME, job=job, cron_schedule=CRON, execution_timezone=timezone, default_status=default_status
    )
    return SafetyNet(job, schedule)
