"""Worlds in which something goes wrong, and the words in which the tests of this folder speak of them.

A world is a lake, an instance, definitions, and a daemon that is this process. `Shop` is the reference pipeline in one,
with landing files, settings and the `pipeline` command. Every name from inside the code that these tests need stands
here. Days are numbers, the history's first being 0.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill  # what the UI launches; no public name

from pipeline_assets import cli, daily_asset
from pipeline_assets.definitions import build_definitions
from pipeline_assets.errors import SettingsError
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.backfill.safety_net import NAME as SAFETY_NET
from pipeline_assets.orchestration.history.graph import daily_graph, key_of
from pipeline_assets.orchestration.history.runs import IN_FLIGHT
from pipeline_assets.orchestration.history.tags import PARTITION, RANGE_END, RANGE_START, RUN_KEY_TAG
from pipeline_assets.orchestration.process import PlannedRun, execute, failures_of, open_instance
from pipeline_assets.partition import ranges_of
from pipeline_assets.rules.backfill import Ask, Mode, plan
from pipeline_assets.rules.calendar import day_bounds
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import trailing
from pipeline_assets.settings import load_settings
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration.backfill.checkout import HEADER, land
from pipeline_assets_tests.orchestration.lake import FIRST, QUIET, Lake, day, key
from pipeline_assets_tests.orchestration.sensors import Sensed, with_upstream_sensor
from pipeline_assets_tests.support.processes import running
from pipeline_assets_tests.support.session import SESSION

NUMBER_OF_DAYS = 10
DAYS = dg.DailyPartitionsDefinition(FIRST.isoformat(), end_date=(FIRST + timedelta(days=NUMBER_OF_DAYS)).isoformat())
"""A history that ends: what is missing from it does not grow with the calendar."""
AMOUNT = Contract((Column("n", pa.int64()),))
LANDED_DAYS = 5
MOST_TURNS = 20
"""Of the daemon until nothing is left to do; it takes a turn for each step of the graph, and some that do nothing."""


def needed(condition: object, words: object = "the test's own ground does not hold") -> None:
    """Stop a test whose ground does not hold, by an error that no mark takes for the expected failure."""
    if not condition:
        raise RuntimeError(words)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one tick of a sensor reported and requested: nothing, if it failed."""

    reported: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


class World:
    """Tables, those who make them, and those who interfere.

    Attributes:
        failures: what ticks and requested runs failed of, the oldest first.
    """

    sensors: Sequence[str] = ("upstream_sensor",)

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance, lake: Path) -> None:
        self.lake = Lake(lake, instance)
        self.daemon = Sensed(defs, instance)
        self.failures: list[str] = []

    @classmethod
    def of(
        cls, instance: dg.DagsterInstance, lake: Path, *assets: Any, resources: Mapping[str, Any] | None = None
    ) -> World:
        """Make a world of some assets.

        Args:
            resources: besides the IO manager of daily assets.
        """
        world = cls(dg.Definitions(), instance, lake)
        world.deploy(*assets, resources=resources)
        return world

    @property
    def defs(self) -> dg.Definitions:
        """What the code server has loaded."""
        return self.daemon.defs

    @property
    def instance(self) -> dg.DagsterInstance:
        """Where Dagster keeps what it knows."""
        return self.lake.instance

    def deploy(
        self, *assets: Any, jobs: Sequence[dg.JobDefinition] = (), resources: Mapping[str, Any] | None = None
    ) -> None:
        """Start the code server anew, with these definitions."""
        defs = with_upstream_sensor(self.lake, *assets).defs
        self.daemon.defs = dg.Definitions.merge(defs, dg.Definitions(jobs=jobs, resources=resources))

    def run(self, *tables: str, first: int, last: int | None = None) -> dg.ExecuteInProcessResult:
        """Launch a run of some days by hand."""
        last = first if last is None else last
        return execute(
            self.defs, PlannedRun(tuple(map(key_of, tables)), self.day(first), self.day(last)), self.instance
        )

    def compute(self, *tables: str, first: int, last: int | None = None) -> None:
        """Launch a run that must succeed, as the test stands on it."""
        result = self.run(*tables, first=first, last=last)
        needed(result.success, failures_of(result))

    def materialize(self, asset: str) -> None:
        """Launch a run of an asset without partitions, which must succeed."""
        result = self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, asset_selection=[key_of(asset)], run_config=QUIET, raise_on_error=False
        )
        needed(result.success, failures_of(result))

    def tick(self, sensor: str = "upstream_sensor") -> Turn:
        """Evaluate a sensor as the daemon does, record what it reports, and execute the runs that it requests."""
        return self._tick(sensor, self._execute)

    def request(self, sensor: str = "upstream_sensor") -> Turn:
        """Tick, and leave the runs that are requested in the queue."""
        return self._tick(sensor, lambda _: None)

    def cancel(self, sensor: str = "upstream_sensor") -> Turn:
        """Tick, and cancel the runs that are requested while they are under way."""
        turn = self._tick(sensor, self.daemon.submit)
        for run in self._in_flight():
            self.instance.report_run_canceled(run)
        return turn

    def _tick(self, sensor: str, submit: Callable[[dg.RunRequest], Any]) -> Turn:
        try:
            data = self.daemon.tick(sensor)
            requests = [each for each in data.run_requests or () if not self._has_run(each)]
            for request in requests:
                submit(request)
        except Exception as error:  # noqa: BLE001 - whatever it is: the daemon notes it, and goes on
            self.failures.append(f"{sensor}: {error!r}")
            return Turn()
        return Turn(tuple(str(event.partition) for event in data.asset_events), tuple(map(told, requests)))

    def _has_run(self, request: dg.RunRequest) -> bool:
        """Say whether the run key was launched before: the daemon does not launch it again."""
        if request.run_key is None:
            return False
        return bool(self.instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: request.run_key}), limit=1))

    def _execute(self, request: dg.RunRequest) -> None:
        result = self.daemon.execute(request)
        if not result.success:
            self.failures += failures_of(result)

    def turn(self) -> list[Turn]:
        """Tick every sensor once."""
        return [self.tick(sensor) for sensor in self.sensors]

    def settle(self) -> list[str]:
        """Tick until nothing is left to do, and return the runs that were requested."""
        done: list[str] = []
        quiet = 0
        for _ in range(MOST_TURNS):
            turns = self.turn()
            done += [each for turn in turns for each in turn.requested]
            is_quiet = not any(turn.requested or turn.reported for turn in turns)
            quiet = quiet + 1 if is_quiet else 0
            if quiet == 2:  # a file is taken when two ticks saw it alike
                return done
        raise RuntimeError(f"it never comes to rest: {done}")

    def plan(self, mode: str = "incremental") -> dict[str, list[int]]:
        """Return the days that a plan of all tables would compute, by table."""
        assets = self.defs.resolve_asset_graph()
        graph = daily_graph(assets)
        tables = tuple(lead for lead in graph.leads() if lead not in graph.sources)
        facts = facts_of(self.instance, assets, self.lake.store, {})
        planned = plan(graph, Ask(Mode(mode), tables, (), "a test"), facts)
        return {lead: list(map(self.number, days)) for lead in planned.order if (days := planned.days(lead))}

    def carry_out(self, mode: str = "incremental") -> None:
        """Compute what a plan of all tables says."""
        steps = daily_graph(self.defs.resolve_asset_graph()).steps
        for lead, numbers in self.plan(mode).items():
            for first, last in ranges_of([self.day(number) for number in numbers]):
                self.compute(*steps[lead], first=self.number(first), last=self.number(last))

    def rows(self, table: str, number: int) -> list[dict[str, Any]]:
        """Return the rows that are published."""
        return self.lake.rows(table, number)

    def value(self, table: str, number: int) -> Any:
        """Return the only value of a table with one row and one column."""
        ((value,),) = [tuple(row.values()) for row in self.rows(table, number)]
        return value

    def size(self, table: str, number: int) -> int:
        """Return the size in bytes of the file that is published."""
        return (self.lake.root / table / f"dt={key(number)}" / "data.parquet").stat().st_size

    def day(self, number: int) -> date:
        """Return the day of a number."""
        return day(number)

    def key(self, number: int) -> str:
        """Return the partition key of a number."""
        return key(number)

    def number(self, day: date) -> int:
        """Return the number of a day."""
        return (day - FIRST).days

    def start(self, job: str, number: int) -> None:
        """Start a run of a job over one of its days; it does not end."""
        self.instance.create_run_for_job(
            self.defs.resolve_job_def(job), tags={PARTITION: key(number)}, status=dg.DagsterRunStatus.STARTED
        )

    def launch_backfill(self, name: str, table: str, numbers: Iterable[int], *, is_done: bool = False) -> None:
        """Launch a backfill as the UI does; nothing of it runs, unless all of it is done."""
        backfill = PartitionBackfill.from_asset_partitions(
            name,
            self.defs.resolve_asset_graph(),
            list(map(key, numbers)),
            [key_of(table)],
            datetime.now(UTC).timestamp(),
            {},
            self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        if is_done:
            backfill = backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS)  # type: ignore[no-untyped-call]
        self.instance.add_backfill(backfill)

    def started_by_safety_net(self) -> int:
        """Run the job `safety_net`, and count the partitions of the backfills that it starts."""
        before = {each.backfill_id for each in self.instance.get_backfills()}
        job = self.defs.resolve_job_def(SAFETY_NET)
        result = job.execute_in_process(instance=self.instance, run_config=QUIET, raise_on_error=False)
        needed(result.success, failures_of(result))
        assets = self.defs.resolve_asset_graph()
        return sum(
            each.get_asset_backfill_data(assets).target_subset.num_partitions_and_non_partitioned_assets
            for each in self.instance.get_backfills()
            if each.backfill_id not in before
        )

    def delete_newest_runs(self, number: int) -> None:
        """Delete runs as the UI does."""
        for record in self.instance.get_run_records(limit=number):
            self.instance.delete_run(record.dagster_run.run_id)

    def wipe(self, table: str) -> None:
        """Wipe the materializations of a table as the UI does."""
        self.instance.wipe_assets([key_of(table)])

    def notice_dead_workers(self) -> None:
        """Mark runs whose worker is gone as failed, as Dagster's monitoring does."""
        for run in self._in_flight():
            self.instance.report_run_failed(run)

    def _in_flight(self) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(dg.RunsFilter(statuses=list(IN_FLIGHT))))


class Shop(World):
    """The reference pipeline over five days of small landing files, all of which are computed.

    The files are those of `backfill.checkout.land`, and one with a purchase at night.
    """

    sensors = ("landing_sensor", "upstream_sensor")

    def __init__(
        self,
        folder: Path,
        instance: dg.DagsterInstance,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str] | None = None,
    ) -> None:
        super().__init__(dg.Definitions(), instance, folder / "lake")
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.reload()

    def set(self, **variables: str | None) -> None:
        """Change settings, and start the code server anew with them. None takes one away."""
        for name, value in variables.items():
            if value is None:
                self.monkeypatch.delenv(name)
            else:
                self.monkeypatch.setenv(name, value)
        self.reload()

    def reload(self) -> None:
        """Start the code server anew."""
        self.daemon.defs = build_definitions(load_settings())

    def pipeline(self, *arguments: str) -> Outcome:
        """Type a command."""
        assert self.capsys is not None
        self.capsys.readouterr()
        with self.monkeypatch.context() as patched:
            patched.chdir(self.folder)
            status = typed(patched, *arguments)
        said = self.capsys.readouterr()
        return Outcome(status, said.out, said.err)

    def output(self, *arguments: str) -> str:
        """Type a command that must succeed, as the test stands on it, and return what it printed."""
        outcome = self.pipeline(*arguments)
        needed(outcome.status == 0, outcome.err)
        return outcome.out

    def planned(self, *options: str) -> dict[str, list[tuple[str, str]]]:
        """Return the stretches of days that `pipeline plan` would compute, by table."""
        tables = json.loads(self.output("plan", *options, "--format", "json"))["tables"]
        stretches = {
            table: [(first, last) for first, last, action, *_ in each["partitions"] if action == "compute"]
            for table, each in tables.items()
        }
        return {table: days for table, days in stretches.items() if days}

    def sells(self, number: int, name: str | bytes, event: str, *, at: str) -> None:
        """Land a file with one event of its day."""
        write(self.arrivals(number), name, sold(number, event, at=at))

    def arrivals(self, number: int) -> Path:
        """Return the folder of an arrival day."""
        return self.folder / "landing" / f"dt={key(number)}"

    def archive(self, *numbers: int) -> None:
        """Take the landing files of days away, as a lifecycle rule does."""
        for number in numbers:
            shutil.rmtree(self.arrivals(number))

    def unmount(self, *, leaves_mount_point: bool) -> None:
        """Take the landing zone away."""
        landing = self.folder / "landing"
        landing.rename(self.folder / "unmounted")
        if leaves_mount_point:
            landing.mkdir()

    def mount(self) -> None:
        """Bring the landing zone back."""
        landing = self.folder / "landing"
        with suppress(FileNotFoundError):
            landing.rmdir()
        (self.folder / "unmounted").rename(landing)

    def delete(self, table: str, number: int) -> None:
        """Delete the folder of a partition."""
        shutil.rmtree(self.lake.root / table / f"dt={key(number)}")

    def counts(self) -> dict[str, int]:
        """Count the rows of every partition that is published."""
        return {
            f"{path.parts[-3]} {path.parts[-2].removeprefix('dt=')}": pq.read_metadata(path).num_rows
            for path in sorted(self.lake.root.glob("[a-z]*/dt=*/data.parquet"))
        }

    def column(self, table: str, name: str) -> dict[int, list[Any]]:
        """Return the values of a column, sorted, by the number of the day."""
        return {
            number: sorted(row[name] for row in self.rows(table, number)) for number in sorted(self.lake.days(table))
        }


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every setting at a folder."""
    for name in [name for name in os.environ if name.startswith(("PIPELINE_", "DAGSTER_")) and name != SESSION]:
        monkeypatch.delenv(name)
    for name, value in {"DAGSTER_HOME": "home", "PIPELINE_LANDING": "landing", "PIPELINE_STORE": "lake"}.items():
        monkeypatch.setenv(name, str(folder / value))
    monkeypatch.setenv("PIPELINE_START", str(FIRST))
    monkeypatch.setenv("PIPELINE_LOOK_BACK_DAYS", "3650")  # the days of these tests are long ago
    (folder / "home").mkdir(parents=True, exist_ok=True)
    (folder / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")


def open_shop(folder: Path) -> None:
    """Make a shop: days land, are computed, and are seen by the sensors."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(folder, monkeypatch)
        for number in range(LANDED_DAYS):
            land(folder / "landing", [day(number)])
            write(folder / "landing" / f"dt={key(number)}", "night.csv", sold(number, f"night{number}", at="02:00:00Z"))
        monkeypatch.chdir(folder)
        needed(typed(monkeypatch, "run") == 0, "the days were not computed")
        with open_instance(folder / "home") as instance:
            shop = Shop(folder, instance, monkeypatch)
            needed(shop.settle() == [], "what is computed is requested")
            needed(not shop.failures, shop.failures)


def sold(number: int, event: str, *, at: str) -> str:
    """Return the text of a landing file with one event."""
    return f"{HEADER}\n{event},u1,purchase,1.50,{key(number)}T{at}\n"


def write(folder: Path, name: str | bytes, content: str) -> None:
    """Write a file, whose name need be no text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118 - a Path is text
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        file.write(content)


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Type a command, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:  # noqa: BLE001 - whatever it is: an interpreter prints it, and ends with 1
        traceback.print_exc()
        return 1
    return 0


def refusal_of(**variables: str) -> str:
    """Return what is said against settings, or nothing if they are taken."""
    try:
        load_settings(variables)
    except SettingsError as error:
        return str(error)
    return ""


def is_of_day(moment: datetime, day: date, timezone: str) -> bool:
    """Say whether tables that are cut by days of the zone have the moment on that day."""
    start, end = day_bounds(day, timezone)
    return start <= moment < end


def kept_in(home: Path) -> dg.DagsterInstance:
    """Open an instance on disk, as a small deployment has it."""
    return dg.DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}})


def told(request: dg.RunRequest) -> str:
    """Return tables and days of a request: "sales+sums 2024-02-29..2024-03-01"."""
    tables = sorted(each.to_user_string() for each in request.asset_selection or ())
    first = request.tags.get(RANGE_START) or request.tags[PARTITION]
    last = request.tags.get(RANGE_END) or request.tags[PARTITION]
    return f"{'+'.join(tables)} {'..'.join(dict.fromkeys((first, last)))}"


def chain(amounts: Mapping[int, int]) -> list[dg.AssetsDefinition]:
    """Define `sales` of one number a day, 1 unless told otherwise; `sums` of three days; `weeks` of five `sums`."""

    def sales(day: date) -> pa.Table:
        return pa.table({"n": [amounts.get((day - FIRST).days, 1)]})

    def sums(day: date, sales: pa.Table) -> pa.Table:
        return pa.table({"n": [pc.sum(sales["n"]).as_py()]})

    def weeks(day: date, sums: pa.Table) -> pa.Table:
        return pa.table({"n": [pc.sum(sums["n"]).as_py()]})

    windows = {"sales": {}, "sums": {"sales": trailing(days=3)}, "weeks": {"sums": trailing(days=5)}}
    return [
        daily_asset(each, partitions_def=DAYS, contract=AMOUNT, ins=windows[each.__name__], code_version="1")
        for each in (sales, sums, weeks)
    ]


def run_and_be_killed(world: World, make: Callable[[Path], Sequence[Any]], *tables: str, first: int) -> None:
    """Launch a run in a process that is killed when its first publish is done and nothing of it is recorded.

    Args:
        make: returns the assets as the process has them; a function of a module.
    """
    home = Path(world.instance.root_directory)
    with running(_die_at_publish, make, home, world.lake.root, tables, first) as child:
        needed(child.wait() == -signal.SIGKILL, "the process was not killed at its publish")
    world.notice_dead_workers()


def _die_at_publish(
    _: object, make: Callable[[Path], Sequence[Any]], home: Path, lake: Path, tables: Sequence[str], first: int
) -> None:
    publish = LocalStore.publish

    def publish_and_die(store: LocalStore, *arguments: Any, **more: Any) -> None:
        publish(store, *arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    LocalStore.publish = publish_and_die  # type: ignore[assignment,method-assign]
    with kept_in(home) as instance:
        World.of(instance, lake, *make(lake.parent)).run(*tables, first=first)
