"""What the sensors overlooked, caught once a day: the job on a real webserver and daemon, and its rules alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.definitions import build_definitions
from pipeline_assets.demo import landing_files
from pipeline_assets.errors import LandingUnavailable
from pipeline_assets.orchestration.backfill.book import IN_PROCESS, Backfill, Book
from pipeline_assets.orchestration.backfill.safety_net import CRON, NAME, safety_net
from pipeline_assets.orchestration.backfill.safety_net_run import REASON
from pipeline_assets.orchestration.backfill.webserver import DagsterBackfill, DagsterBackfillStatus, RunningDagster
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG, PLAN_TAG, REASON_TAG, SKIP_UNCHANGED_TAG
from pipeline_assets.orchestration.process import execute, open_instance, plan_range, selected_keys
from pipeline_assets.rules.backfill import Action, Ask, Entry, Mode, Plan, Reason
from pipeline_assets.rules.plan_file import PlanFile, digest_of
from pipeline_assets.rules.windows import trailing
from pipeline_assets.settings import Settings
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration import shop
from pipeline_assets_tests.orchestration.lake import QUIET, ROW, Lake, sha256, tables_of
from pipeline_assets_tests.orchestration.sensors import Sensed
from pipeline_assets_tests.orchestration.servers import Server, dagster_running, wait_until
from pipeline_assets_tests.orchestration.watch import Watch

NOW = datetime.now(UTC)
ZONE = f"Etc/GMT{NOW.hour - 12:+d}"
"""Where it is noon: no day ends while this test runs."""
YESTERDAY = NOW.astimezone(ZoneInfo(ZONE)).date() - timedelta(days=1)
DAYS = [YESTERDAY - timedelta(days=back) for back in (4, 3, 2, 1, 0)]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
LAUNCH = """
mutation ($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
LATE = f"event_id,user_id,event_type,amount,event_time\nlate,u00001,purchase,9.99,{DAYS[0]}T12:00:00Z\n"


@dataclass
class World:
    """A shop whose sensors are stopped."""

    landing: Path
    lake: Path
    server: Server
    instance: dg.DagsterInstance

    def puts(self, number: int, name: str, data: bytes) -> None:
        folder = self.landing / f"dt={DAYS[number]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    def lands(self, number: int) -> None:
        for name, data in landing_files(DAYS[number], seed=1).items():
            self.puts(number, name, data)

    def settings(self) -> dict[str, str]:
        return settings(self.landing, self.lake)

    def definitions(self) -> dg.Definitions:
        values = {name.removeprefix("PIPELINE_").lower(): value for name, value in self.settings().items()}
        return build_definitions(Settings.model_validate(values))

    def net(self) -> list[str]:
        """Trigger the job as the schedule does; what its run tells."""
        selector = {
            "repositoryLocationName": "pipeline_assets.definitions",
            "repositoryName": "__repository__",
            "pipelineName": NAME,
        }
        launched = self.server.ask(
            LAUNCH, executionParams={"mode": "default", "runConfigData": "", "selector": selector}
        )
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        ended = dg.RunsFilter(run_ids=[run_id], statuses=ENDED)
        (run,) = wait_until(lambda: self.instance.get_runs(ended), what="the job")
        told = [entry.user_message for entry in self.instance.all_logs(run_id) if not entry.is_dagster_event]
        assert run.status is dg.DagsterRunStatus.SUCCESS, told
        return told

    def ended(self) -> DagsterBackfill:
        """The newest backfill, when it has."""
        dagster = RunningDagster(self.server.url)
        (newest,) = dagster.backfills(limit=1)

        def told() -> DagsterBackfill | None:
            found = dagster.status(newest.id)
            return found if found.status.has_ended else None

        found = wait_until(told, what=f"backfill {newest.id}")
        assert isinstance(found, DagsterBackfill)
        return found

    def expected(self, lake: Path) -> dict[str, str]:
        """The lake as `pipeline run` leaves it."""
        shop.run_days(shop.definitions(self.landing, lake, first=DAYS[0], timezone=ZONE), lake, DAYS)
        return tables_of(sha256(lake))

    def counts(self) -> dict[str, dict[int, int]]:
        watch = Watch(self.instance, self.server, DAYS)
        return {table: watch.counts(table) for table in ("raw_events", "events", "daily_sales", "user_features")}


def settings(landing: Path, lake: Path) -> dict[str, str]:
    return {
        "PIPELINE_LANDING": str(landing),
        "PIPELINE_STORE": str(lake),
        "PIPELINE_START": str(DAYS[0]),
        "PIPELINE_TIMEZONE": ZONE,
        "PIPELINE_SENSORS": "stopped",
    }


def mentions(told: Sequence[str], *words: str) -> bool:
    return any(all(word in sentence for word in words) for sentence in told)


@pytest.mark.slow(60)
def test_what_the_sensors_missed_is_computed_once_as_a_backfill_and_what_failed_for_good_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing, lake, home = (tmp_path / name for name in ("landing", "lake", "home"))
    home.mkdir()
    monkeypatch.chdir(home)  # where the instance's relative paths start
    with dagster_running(home, settings(landing, lake)) as server, open_instance(home) as instance:
        world = World(landing, lake, server, instance)
        for number in range(3):
            world.lands(number)
        before = shop.definitions(landing, lake, first=DAYS[0], timezone=ZONE)
        for number in (0, 2):
            for run in plan_range(before, selected_keys(before, None), [DAYS[number]], LocalStore(lake)):
                assert execute(before, run, instance).success

        # A gap, a late file in an old day, and two new days.
        world.puts(0, "late.csv", LATE.encode())
        world.lands(3)
        world.lands(4)
        told = world.net()
        assert mentions(told, f"compute raw_events {DAYS[1]}, {DAYS[3]} to {DAYS[4]} (3 days): MISSING")
        assert mentions(told, f"compute raw_events {DAYS[0]} (1 day): INPUT_CHANGED", f"because of landing {DAYS[0]}")
        watch = Sensed(world.definitions(), instance)
        watch.tick("landing_sensor")
        watch.tick("landing_sensor")
        assert watch.tick().run_requests == []
        caught = world.ended()
        assert caught.status is DagsterBackfillStatus.SUCCEEDED
        shown = instance.get_backfill(caught.id)
        assert shown is not None
        assert shown.title == "Safety net"
        assert shown.description is not None
        assert shown.description.startswith(f"{REASON}: raw_events {DAYS[0]} to {DAYS[1]}, {DAYS[3]} to {DAYS[4]}; ")
        assert {BACKFILL_TAG: caught.id, REASON_TAG: REASON, SKIP_UNCHANGED_TAG: "true"}.items() <= caught.tags.items()
        assert caught.id.endswith(caught.tags[PLAN_TAG])
        assert tables_of(sha256(lake)) == world.expected(tmp_path / "expected")

        made = world.counts()
        assert watch.tick().run_requests == []
        assert mentions(world.net(), "nothing was overlooked: there is nothing to do")
        assert len(instance.get_backfills()) == 1
        assert world.counts() == made

        # A file that nobody can read, of an arrival day that all of `events` is made from.
        world.puts(3, "broken.parquet", b"not Parquet")
        world.net()
        assert world.ended().status is DagsterBackfillStatus.FAILED
        told = world.net()
        assert mentions(told, f"failed, to be mended: raw_events {DAYS[3]}")
        assert mentions(told, f"wait raw_events {DAYS[3]} (1 day): FAILED")
        assert mentions(told, "nothing was overlooked: there is nothing to do")
        assert len(instance.get_backfills()) == 2
        assert world.counts() == made

        (landing / f"dt={DAYS[3]}" / "broken.parquet").unlink()
        world.puts(3, "mended.csv", LATE.replace("late", "mended").encode())
        assert mentions(world.net(), f"compute raw_events {DAYS[3]} (1 day): FAILED")
        assert world.ended().status is DagsterBackfillStatus.SUCCEEDED
        assert tables_of(sha256(lake)) == world.expected(tmp_path / "mended")
        assert mentions(world.net(), "nothing was overlooked: there is nothing to do")


@pytest.mark.parametrize("sensors", ["running", "stopped"])
def test_the_schedule_is_daily_in_the_zone_of_the_pipeline_and_runs_if_the_sensors_do(
    sensors: str, tmp_path: Path
) -> None:
    values: dict[str, Any] = {**settings(tmp_path / "landing", tmp_path / "lake"), "PIPELINE_SENSORS": sensors}
    given = {name.removeprefix("PIPELINE_").lower(): value for name, value in values.items()}
    schedule = build_definitions(Settings.model_validate(given)).get_repository_def().get_schedule_def(NAME)
    assert (schedule.cron_schedule, schedule.execution_timezone) == (CRON, ZONE)
    assert CRON.split()[2:] == ["*", "*", "*"]
    assert schedule.job_name == NAME
    assert schedule.default_status.value == sensors.upper()


THREE_DAYS = dg.DailyPartitionsDefinition("2024-02-27", end_date="2024-03-01")
MORNING = datetime(2024, 3, 1, 5, tzinfo=UTC)


@dataclass
class Small:
    """Two tables of three days, the second of which can be told to fail; the job, at a time that is stated."""

    lake: Lake
    salt: int = 0
    error: Exception | None = None

    def assets(self) -> list[dg.AssetsDefinition]:
        @daily_asset(partitions_def=THREE_DAYS, contract=ROW, code_version="1")
        def rows(day: date) -> pa.Table:
            return pa.table({"n": [self.salt]})

        @daily_asset(partitions_def=THREE_DAYS, contract=ROW, ins={"rows": trailing(days=2)}, code_version="1")
        def sums(day: date, rows: pa.Table) -> pa.Table:
            if self.error is not None:
                raise self.error
            return rows.select(["n"]).slice(0, 1)

        return [rows, sums]

    def run(self, table: str, number: int) -> bool:
        result = (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=self.lake.instance,
                asset_selection=[dg.AssetKey(table)],
                partition_key=THREE_DAYS.get_partition_keys()[number],
                run_config=QUIET,
                raise_on_error=False,
            )
        )
        return result.success

    def definitions(self) -> dg.Definitions:
        return dg.Definitions(self.assets(), resources={"io_manager": self.lake.manager})

    def net(self, *, now: datetime = MORNING) -> dict[str, list[str]]:
        """What the job starts, by table."""
        defs = self.definitions()
        before = {each.backfill_id for each in self.lake.instance.get_backfills()}
        job = safety_net(
            defs,
            store=self.lake.store,
            landing={},
            timezone="Asia/Tokyo",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            now=lambda: now,
        ).job
        assert job.execute_in_process(instance=self.lake.instance, run_config=QUIET).success
        new = [each for each in self.lake.instance.get_backfills() if each.backfill_id not in before]
        if not new:
            return {}
        (started,) = new
        to_come = started.get_asset_backfill_data(defs.resolve_asset_graph()).target_subset
        found: dict[str, list[str]] = {}
        for key, partition in to_come.iterate_asset_partitions():
            found.setdefault(key.to_user_string(), []).append(partition or "")
        return {table: sorted(days) for table, days in found.items()}

    def end_backfills(self) -> None:
        """As if somebody had canceled them."""
        for each in self.lake.instance.get_backfills():
            self.lake.instance.update_backfill(each._replace(status=type(each.status)["CANCELED"]))


def test_a_backfill_of_a_day_and_plan_is_started_once_and_what_it_is_to_make_is_left_to_it(lake: Lake) -> None:
    small = Small(lake)
    every = ["2024-02-27", "2024-02-28", "2024-02-29"]
    assert small.net() == {"rows": every, "sums": every}
    assert small.net(now=MORNING + timedelta(hours=10)) == {}, "it is open, and the next day finds it so"
    small.end_backfills()
    assert small.net() == {}, "of that day and plan there was one"
    assert small.net(now=MORNING + timedelta(hours=10)) == {"rows": every, "sums": every}, "the next day, in Tokyo"
    small.end_backfills()
    assert small.run("rows", 0)
    assert small.net() == {"rows": every[1:], "sums": every}, "another plan"


def test_what_a_command_is_about_to_make_is_left_to_it_with_what_reads_it(lake: Lake) -> None:
    small, first = Small(lake), date(2024, 2, 27)
    entries = {"rows": {first: Entry(Action.COMPUTE, Reason.REQUESTED)}}
    planned = Plan(Ask(Mode.SELECTIVE, ("rows",), ((first, first),), "a bug"), ("rows",), entries, {}, {})
    book, file = Book(lake.instance), PlanFile(planned, MORNING, digest_of(planned))
    book.add(Backfill("20240301-050000-beef", MORNING, IN_PROCESS, 30, 1, file))
    with book.hold("20240301-050000-beef"):
        assert small.net() == {"rows": ["2024-02-28", "2024-02-29"], "sums": ["2024-02-29"]}
    small.end_backfills()
    assert "2024-02-27" in small.net()["rows"]


def test_a_failure_is_repeated_when_an_input_has_changed_and_not_before(lake: Lake) -> None:
    small = Small(lake)
    assert small.run("rows", 0)
    assert small.run("rows", 1)
    assert small.run("rows", 2)
    small.error = ValueError("a bug")
    assert not small.run("sums", 1)
    assert small.net() == {"sums": ["2024-02-27", "2024-02-29"]}
    small.end_backfills()
    small.salt = 1
    assert small.run("rows", 2), "nothing that the failed day reads"
    assert "2024-02-28" not in small.net().get("sums", [])
    small.end_backfills()
    assert small.run("rows", 0)
    assert "2024-02-28" in small.net()["sums"]


def test_a_failure_that_may_pass_is_repeated_from_the_time_that_its_verdict_says(lake: Lake) -> None:
    small = Small(lake)
    for number in (0, 1, 2):
        assert small.run("rows", number)
    small.error = LandingUnavailable("busy", retry_after_seconds=600)
    assert not small.run("sums", 1)
    now = datetime.now(UTC)
    assert small.net(now=now) == {"sums": ["2024-02-27", "2024-02-29"]}
    small.end_backfills()
    assert small.net(now=now + timedelta(hours=1)) == {"sums": ["2024-02-27", "2024-02-28", "2024-02-29"]}
