"""What an instance knows, asked beside the servers that write it; days are told by their numbers in a history."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.history.runs import IN_FLIGHT
from pipeline_assets_tests.orchestration.servers import PATIENCE_SECONDS, Server, wait_until


@dataclass
class Watch:
    """Of one instance."""

    instance: dg.DagsterInstance
    server: Server
    days: Sequence[date]

    def runs(self, *statuses: dg.DagsterRunStatus) -> Sequence[dg.DagsterRun]:
        return self.instance.get_runs(dg.RunsFilter(statuses=list(statuses)))

    def has_process(self, run_id: str) -> bool:
        """Its process has begun to say what it does."""
        logs = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        return any("Started process for run" in each.message for each in logs)

    def records(self, table: str) -> dict[int, list[dict[str, Any]]]:
        """By number of the day, the oldest first; reports without a digest left out."""
        found = self.instance.fetch_materializations(dg.AssetKey(table), limit=10_000, ascending=True).records
        records: dict[int, list[dict[str, Any]]] = {}
        for record in found:
            assert record.asset_materialization is not None
            values = {name: each.value for name, each in record.asset_materialization.metadata.items()}
            if "digest" in values:
                number = self.days.index(date.fromisoformat(record.partition_key or ""))
                records.setdefault(number, []).append({**values, "run": record.run_id})
        return records

    def counts(self, table: str) -> dict[int, int]:
        return {number: len(each) for number, each in sorted(self.records(table).items())}

    def digests(self, table: str) -> dict[int, str]:
        return {number: each[-1]["digest"] for number, each in self.records(table).items()}

    def ticks(self, sensor: str, since: float) -> list[Any]:
        """Finished ticks that began after a moment, the newest first."""
        (state,) = [each for each in self.instance.all_instigator_state() if each.instigator_name == sensor]
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since, limit=100)
        return [each for each in ticks if each.status.value != "STARTED"]

    def looked(self, times: int) -> Callable[[], bool]:
        """Whether the landing sensor has looked so often since now."""
        now = time.time()
        return lambda: len(self.ticks("landing_sensor", now)) >= times

    def wait_until_quiet(self) -> None:
        """No run in flight, and since then two ticks of either sensor that found nothing."""
        quiet_since: float | None = None

        def is_quiet() -> bool:
            nonlocal quiet_since
            if self.runs(*IN_FLIGHT):
                quiet_since = None
                return False
            quiet_since = quiet_since or time.time()
            for sensor, nothing in (
                ("landing_sensor", "days looked at, none changed"),
                ("upstream_sensor", "nothing changed upstream"),
            ):
                newest = self.ticks(sensor, quiet_since)[:2]
                if len(newest) < 2 or not all((each.skip_reason or "").endswith(nothing) for each in newest):
                    return False
            return not self.runs(*IN_FLIGHT)

        wait_until(is_quiet, what="everything to be computed", patience_seconds=2 * PATIENCE_SECONDS)
