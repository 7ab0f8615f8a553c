"""A history that was not lived through: runs and materializations in a real instance, with the times that a test says.

Written through the instance's own storage and events, as Dagster writes them; only the clock is the test's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg
from dagster._core.events import StepMaterializationData  # what a step's materialization is stored as; no public name
from dagster._core.test_utils import freeze_time  # Dagster's own clock

from pipeline_assets.orchestration.history.tags import RANGE_END, RANGE_START
from pipeline_assets.rules.calendar import zone

TIMEZONE = "Europe/London"


def at(day: date, clock: str, *, days_after: int = 1, timezone: str = TIMEZONE) -> datetime:
    """A time of the clock on the day after `day`, in UTC."""
    wall = datetime.combine(day + timedelta(days=days_after), time.fromisoformat(clock), zone(timezone))
    return wall.astimezone(UTC)


@dataclass
class Past:
    """Writes what happened."""

    instance: dg.DagsterInstance
    runs: int = 0

    def report(self, table: str, day: date, when: datetime) -> None:
        """A materialization that no run made."""
        with freeze_time(when):
            self.instance.report_runless_asset_event(dg.AssetMaterialization(_key(table), partition=day.isoformat()))

    def run(
        self,
        tables: Sequence[str] | None,
        first: date,
        last: date | None = None,
        *,
        asked: datetime,
        started: datetime | None = None,
        made: Mapping[str, datetime] | None = None,
        seconds: float | None = None,
        ended: datetime | None = None,
        failed: bool = False,
        canceled: bool = False,
    ) -> str:
        """One run and its id.

        Args:
            tables: that it was asked for; those of its job if None.
            last: of a range; a run of one partition's key if None.
            made: when it committed every day of a table.
            seconds: of each day.
            ended: with the last commit unless stated.
        """
        self.runs += 1
        run_id = f"{self.runs:08}-0000-4000-8000-000000000000"
        tags = {RANGE_START: str(first), RANGE_END: str(last)} if last else {"dagster/partition": str(first)}
        selection = None if tables is None else frozenset(_key(each) for each in tables)
        run = dg.DagsterRun("__ASSET_JOB", run_id, tags=tags, asset_selection=selection)
        self.instance.run_storage.add_historical_run(run, asked)
        if started:
            self.event(run_id, dg.DagsterEventType.PIPELINE_START, started)
        for table, when in (made or {}).items():
            for number in range(((last or first) - first).days + 1):
                self.commit(run_id, table, first + timedelta(days=number), when, seconds)
        ended = ended or max((made or {}).values(), default=None)
        if ended:
            how = dg.DagsterEventType.PIPELINE_SUCCESS
            how = dg.DagsterEventType.PIPELINE_FAILURE if failed else how
            self.event(run_id, dg.DagsterEventType.PIPELINE_CANCELED if canceled else how, ended)
        return run_id

    def commit(self, run_id: str, table: str, day: date, when: datetime, seconds: float | None = None) -> None:
        """What a run made."""
        metadata = {} if seconds is None else {"seconds": dg.MetadataValue.float(float(seconds))}
        made = dg.AssetMaterialization(_key(table), partition=day.isoformat(), metadata=metadata)
        data = StepMaterializationData(made)
        self.event(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION, when, data)

    def event(self, run_id: str, kind: dg.DagsterEventType, when: datetime, data: object = None) -> None:
        """What a run tells."""
        event = dg.DagsterEvent(kind.value, "__ASSET_JOB", event_specific_data=data)  # type: ignore[arg-type]
        self.instance.report_dagster_event(event, run_id, timestamp=when.timestamp())


def _key(table: str) -> dg.AssetKey:
    return dg.AssetKey(table.split("/"))
