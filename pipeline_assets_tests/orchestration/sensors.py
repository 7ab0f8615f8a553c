"""Ticks a sensor as the daemon does, and executes in this process what it requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import uuid4

import dagster as dg

from pipeline_assets.orchestration.changes.upstream_sensor import upstream_sensor
from pipeline_assets.orchestration.history.tags import PARTITION, RANGE_END, RANGE_START, RUN_KEY_TAG
from pipeline_assets_tests.orchestration.lake import DAYS, FIRST, QUIET, ROW, Lake, key

STOPPED = dg.DefaultSensorStatus.STOPPED
MAX_TICKS = 20


@dataclass
class Sensed:
    """Assets with their sensors, an instance, and a daemon that is this process."""

    defs: dg.Definitions
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    def tick(self, name: str = "upstream_sensor") -> Any:
        """Evaluate a sensor from its cursor, store its new cursor and what it reports; submit nothing."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursors.get(name), repository_def=repository
        ) as context:
            data = repository.get_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = data.cursor
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        return data

    def execute(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """The run that is requested, to its end."""
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or ()),
            tags={**request.tags, RUN_KEY_TAG: request.run_key or ""},
            run_config=QUIET,
            raise_on_error=False,
        )

    def submit(self, request: dg.RunRequest) -> None:
        """The run that is requested is under way."""
        self.instance.add_run(
            dg.DagsterRun(
                job_name="__ASSET_JOB",
                run_id=str(uuid4()),
                tags={**request.tags, RUN_KEY_TAG: request.run_key or ""},
                asset_selection=frozenset(request.asset_selection or ()),
                status=dg.DagsterRunStatus.STARTED,
            )
        )

    def settle(self, name: str = "upstream_sensor") -> list[str]:
        """Tick and execute until nothing is left to do; the runs, as `requested` tells them."""
        done: list[str] = []
        for _ in range(MAX_TICKS):
            requests = self.tick(name).run_requests or []
            if not requests:
                return done
            for request in requests:
                done.append(told(request))
                self.execute(request)
        raise AssertionError(f"it never comes to rest: {done}")


def told(request: dg.RunRequest) -> str:
    """Tables and days of a request, as numbers: "events+sales 0-3"."""
    tables = sorted(each.to_user_string() for each in request.asset_selection or ())
    first = request.tags.get(RANGE_START) or request.tags[PARTITION]
    last = request.tags.get(RANGE_END) or request.tags[PARTITION]
    numbers = [(date.fromisoformat(each) - FIRST).days for each in (first, last)]
    return f"{'+'.join(tables)} {'-'.join(map(str, dict.fromkeys(numbers)))}"


def with_upstream_sensor(
    lake: Lake, *assets: Any, selection: dg.AssetSelection | None = None, sensors: Sequence[Any] = ()
) -> Sensed:
    """Assets of the lake with the upstream sensor."""
    return Sensed(
        dg.Definitions(
            list(assets),
            sensors=[
                upstream_sensor(
                    selection=selection or dg.AssetSelection.all(), store=lake.store, default_status=STOPPED
                ),
                *sensors,
            ],
            resources={"io_manager": lake.manager},
            executor=dg.in_process_executor,
        ),
        lake.instance,
    )


def report(lake: Lake, table: str, *numbers: int, **metadata: Any) -> None:
    """What an outsider, or `pipeline restore`, tells the event log of days."""
    for number in numbers:
        lake.instance.report_runless_asset_event(
            dg.AssetMaterialization(table.split("/"), partition=key(number), metadata=metadata)
        )


__all__ = ["DAYS", "ROW", "STOPPED", "Sensed", "report", "told", "with_upstream_sensor"]
