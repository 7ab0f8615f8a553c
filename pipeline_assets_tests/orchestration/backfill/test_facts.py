"""What a plan is made from is what there is: heads, records, files that landed, failures, and what nobody recorded."""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.errors import LandingError
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.history.graph import daily_graph, last_days
from pipeline_assets.orchestration.partition.frames import Result
from pipeline_assets.orchestration.process import PlannedRun, execute
from pipeline_assets.partition import Partition
from pipeline_assets.record import NEVER, Record
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.backfill import Ask, Facts, Mode, plan
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.rules.windows import same_day
from pipeline_assets.store.http.client import HttpClient
from pipeline_assets.store.http.day_url import DayUrl
from pipeline_assets.store.http.landing import HttpLanding
from pipeline_assets.store.landing import Landing, LandingZone
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, SHOP, Lake, day, key, numbers
from pipeline_assets_tests.support.commits import path_of

READ = "read by a run"
"""The digest that a run recorded. No file has it, so it is told from one that was looked at."""


def shop_of(zone: Landing) -> list[Any]:
    """A source, two tables that one function makes of it, and a reader of one of them."""

    @daily_asset(partitions_def=DAYS, contract={"rows": ROW, "bad": ROW}, deps={"landing": same_day()})
    def rows(day: date) -> Result:
        files = zone.files(day)
        return Result({"rows": numbers(len(files)), "bad": numbers()}, Accounting(1, 1, 0, 0), {"landing": READ})

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"rows": same_day()})
    def counted(day: date, rows: pa.Table) -> pa.Table:
        return rows

    return [dg.AssetSpec("landing", partitions_def=DAYS), rows, counted]


@dataclass
class Town:
    """A lake that is fed from a landing zone, and the facts of it."""

    lake: Lake
    zone: LandingZone

    def land(self, *days: int, text: str = "a") -> None:
        for number in days:
            folder = self.folder(number)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "a.csv").write_text(text)

    def folder(self, number: int) -> Path:
        return self.zone.root / f"dt={key(number)}"

    def run(self, first: int, last: int | None = None, *, select: list[str] | None = None) -> str:
        result = self.lake.run(shop_of(self.zone)[1:], first, last, select=select)
        assert result.success
        return result.run_id

    def report(self, table: str, number: int, **metadata: Any) -> None:
        self.lake.instance.report_runless_asset_event(
            dg.AssetMaterialization(table, partition=key(number), metadata=metadata)
        )

    def facts(self, *, landing: Mapping[str, Landing] | None = None, **more: Any) -> Facts:
        zones = {"landing": self.zone} if landing is None else landing
        return facts_in(self.lake, shop_of(self.zone), zones, **more)

    def landed(self) -> dict[int, str | None]:
        """Digests of the source by the number of the day."""
        return {(each - day(0)).days: made.digest for each, made in self.facts().records["landing"].items()}

    def fingerprint(self, number: int) -> str:
        return self.zone.fingerprint(day(number), self.zone.files(day(number)))


def facts_in(lake: Lake, assets: list[Any], landing: Mapping[str, Landing] | None = None, **more: Any) -> Facts:
    graph = dg.Definitions(assets).resolve_asset_graph()
    return facts_of(lake.instance, graph, lake.store, landing or {}, **more)


@pytest.fixture
def town(disk_lake: Lake, tmp_path: Path) -> Town:
    # Else whatever a test lands has landed too short a while ago.
    return Town(disk_lake, LandingZone(tmp_path / "landing", clocks_apart=timedelta()))


def test_a_head_s_token_is_another_one_when_the_head_is(lake: Lake) -> None:
    assert lake.run(SHOP, 0, 2).success
    before = facts_in(lake, SHOP).heads
    old = lake.digest("visits", 1)
    assert lake.run(SHOP, 0, 2).success
    assert facts_in(lake, SHOP).heads == before, "the same bytes"
    assert {table: list(each) for table, each in before.items()} == {
        table: [day(0), day(1), day(2)] for table in ("visits", "totals")
    }

    lake.put("visits", 1, numbers(1))
    changed = facts_in(lake, SHOP).heads
    assert old is not None
    lake.store.restore(Partition("visits", day(1)), old)
    restored = facts_in(lake, SHOP).heads

    tokens = [each["visits"][day(1)] for each in (before, changed, restored)]
    assert len(set(tokens)) == 3
    assert restored["totals"] == before["totals"]
    assert {**restored["visits"], day(1): tokens[0]} == before["visits"]


def test_a_partition_that_was_removed_has_neither_head_nor_record(disk_lake: Lake) -> None:
    assert disk_lake.run(SHOP, 0, 1).success
    shutil.rmtree(disk_lake.root / "visits" / f"dt={key(0)}")

    found = facts_in(disk_lake, SHOP)

    assert list(found.heads["visits"]) == [day(1)]
    assert list(found.records["visits"]) == [day(1)]


def test_a_table_whose_whole_folder_was_removed_has_no_heads(disk_lake: Lake) -> None:
    assert disk_lake.run(SHOP, 0, 1).success
    shutil.rmtree(disk_lake.root / "visits")

    assert facts_in(disk_lake, SHOP).heads["visits"] == {}


def test_of_a_table_that_another_io_manager_keeps_the_records_are_the_heads(lake: Lake) -> None:
    @dg.asset(partitions_def=DAYS, name="_elsewhere")
    def elsewhere() -> None:
        pass

    for digest in ({}, {"digest": "x"}):
        lake.instance.report_runless_asset_event(
            dg.AssetMaterialization("_elsewhere", partition=key(len(digest)), metadata=digest)
        )
    first = facts_in(lake, [elsewhere])
    lake.instance.report_runless_asset_event(dg.AssetMaterialization("_elsewhere", partition=key(0)))
    second = facts_in(lake, [elsewhere])

    assert first.heads["_elsewhere"][day(1)] == second.heads["_elsewhere"][day(1)] == "x"
    assert first.heads["_elsewhere"][day(0)] != second.heads["_elsewhere"][day(0)]


def test_when_a_step_began_is_looked_up_where_an_input_came_meanwhile(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile: list[int] = []

    @dg.asset(partitions_def=DAYS, deps=["visits"], backfill_policy=dg.BackfillPolicy.single_run())
    def slow() -> None:
        for number in meanwhile:
            assert lake.run_key(SHOP[:1], number).success

    assert lake.run([SHOP[0], slow], 0, 1).success
    meanwhile.append(3)
    assert lake.run([SHOP[0], slow], 3, select=["visits", "slow"]).success
    logs: list[str] = []
    read = lake.instance.all_logs

    def noted(run_id: str, **more: Any) -> Any:
        logs.append(run_id)
        return read(run_id, **more)

    monkeypatch.setattr(lake.instance, "all_logs", noted)

    made = facts_in(lake, [SHOP[0], slow]).records

    assert made["slow"][day(3)].began_at < made["visits"][day(3)].recorded_at < made["slow"][day(3)].recorded_at
    assert logs == [made["slow"][day(3)].run_id]
    for number in (0, 1):
        assert made["slow"][day(number)].began_at >= made["visits"][day(number)].recorded_at


def test_a_landing_day_that_nobody_has_read_has_the_fingerprint_of_its_files(town: Town) -> None:
    town.land(0, 2)

    assert town.landed() == {0: town.fingerprint(0), 1: town.fingerprint(1), 2: town.fingerprint(2)}
    made = town.facts().records["landing"][day(0)]
    assert abs(made.recorded_at - datetime.now(UTC)) < timedelta(minutes=1), "since its files are there"


def test_files_that_have_not_changed_since_a_run_read_them_are_not_read_again(town: Town) -> None:
    town.land(0, 1, 2)
    town.run(0, 1)

    assert town.landed() == {0: READ, 1: READ, 2: town.fingerprint(2)}


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.csv").write_text("b"),
        lambda folder: (folder / "b.csv").write_text("a"),
        lambda folder: (folder / "a.csv").rename(folder / "c.csv"),
        lambda folder: (folder / "a.csv").unlink(),
        lambda folder: folder.rename(folder.parent.parent / "away").rename(folder),
    ],
    ids=["content", "another file", "a name", "one less", "moved away and back"],
)
def test_files_that_changed_since_a_run_read_them_are_looked_at_though_their_mtime_was_set_back(
    town: Town, change: Any
) -> None:
    town.land(0, 1)
    town.run(0, 1)
    times = [town.folder(0) / "a.csv", town.folder(0)]
    stats = [path.stat() for path in times]

    change(town.folder(0))
    for path, old in zip(times, stats, strict=True):
        if path.exists():
            os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    assert town.landed() == {0: town.fingerprint(0), 1: READ}


def test_files_that_changed_while_the_run_that_read_them_went_on_are_looked_at(town: Town) -> None:
    town.land(0, 1)

    @daily_asset(partitions_def=DAYS, contract={"rows": ROW, "bad": ROW}, deps={"landing": same_day()})
    def rows(day: date) -> Result:
        if day == date.fromisoformat(key(1)):  # the first day is committed by now, and not recorded yet
            town.land(0, text="b")
        return Result({"rows": numbers(1), "bad": numbers()}, Accounting(1, 1, 0, 0), {"landing": READ})

    assert town.lake.run([rows], 0, 1).success

    assert town.landed() == {0: town.fingerprint(0), 1: READ}


def test_a_record_that_a_later_run_records_again_tells_of_files_as_the_first_run_read_them(town: Town) -> None:
    town.land(0)
    town.run(0)
    metadata = {}
    for table in ("rows", "bad"):
        (record,) = town.lake.instance.fetch_materializations(dg.AssetKey(table), limit=1).records
        assert record.asset_materialization is not None
        metadata[table] = record.asset_materialization.metadata
    town.land(0, text="b")

    @dg.op
    def again(context) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        for table in ("rows", "bad"):
            context.log_event(dg.AssetMaterialization(table, partition=key(0), metadata=metadata[table]))

    @dg.job
    def recall() -> None:
        again()

    assert recall.execute_in_process(instance=town.lake.instance).success

    assert town.landed() == {0: town.fingerprint(0)}


def test_what_was_not_read_by_a_run_but_reported_is_looked_at(town: Town) -> None:
    town.land(0)
    town.report("rows", 0, inputs=dg.MetadataValue.json({"landing": {key(0): READ}}), seconds=0.1)
    town.lake.put("rows", 0, numbers(1))

    assert town.landed() == {0: town.fingerprint(0)}


def test_a_head_that_is_not_the_record_s_says_nothing_of_when_its_files_were_read(town: Town) -> None:
    town.land(0)
    town.run(0)
    town.lake.put("bad", 0, numbers(*range(1000)))
    town.lake.put("rows", 0, numbers(*range(1000)))

    assert town.landed() == {0: town.fingerprint(0)}


def test_files_that_landed_a_moment_before_a_run_are_read_as_clocks_may_differ(disk_lake: Lake, tmp_path: Path) -> None:
    town = Town(disk_lake, LandingZone(tmp_path / "landing", clocks_apart=timedelta(hours=1)))
    town.land(0)
    town.run(0)

    assert town.landed() == {0: town.fingerprint(0)}


def test_a_day_without_files_is_there_if_it_is_known_or_a_later_one_has_landed(town: Town) -> None:
    nothing = town.zone.fingerprint(day(0), [])
    town.land(2)
    town.folder(1).mkdir()
    town.folder(5).mkdir()
    assert town.landed() == {0: nothing, 1: nothing, 2: town.fingerprint(2)}

    town.report("landing", 6, digest="f6")
    town.report("landing", 7)
    town.run(8)

    assert town.landed() == {0: nothing, 1: nothing, 2: town.fingerprint(2), 6: nothing, 8: nothing}


def test_a_marker_says_that_a_day_is_one_without_files(town: Town) -> None:
    nothing = town.zone.fingerprint(day(0), [])
    town.folder(2).mkdir(parents=True)
    (town.folder(2) / "_SUCCESS").touch()

    assert town.landed() == {0: nothing, 1: nothing, 2: nothing}


def test_a_day_whose_files_were_taken_away_after_it_was_read_is_one_without_files(town: Town) -> None:
    town.land(0)
    town.run(0)
    shutil.rmtree(town.folder(0))

    assert town.landed() == {0: town.zone.fingerprint(day(0), [])}


def test_a_day_that_is_being_written_is_not_there(town: Town) -> None:
    town.land(0, 1)
    with (town.folder(1) / "a.csv").open("a"):
        assert town.landed() == {0: town.fingerprint(0)}

    assert town.landed() == {0: town.fingerprint(0), 1: town.fingerprint(1)}


def test_days_that_are_not_over_or_before_the_history_are_not_there(town: Town) -> None:
    tomorrow = (datetime.now(UTC).date() + timedelta(days=1) - day(0)).days
    town.land(-1, 0, tomorrow)

    assert town.landed() == {0: town.fingerprint(0)}


def test_a_report_of_what_lies_there_says_since_when(town: Town) -> None:
    town.land(0, 1)
    town.report("landing", 0, digest=town.fingerprint(0))
    town.report("landing", 1, digest="f1")
    (report,) = town.lake.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("landing"), asset_partitions=[key(0)]), limit=1
    ).records

    found = town.facts().records["landing"]

    assert (found[day(0)].event_id, found[day(0)].digest) == (report.storage_id, town.fingerprint(0))
    assert (found[day(1)].event_id, found[day(1)].digest) == (0, town.fingerprint(1))


def test_a_landing_zone_that_cannot_be_read_is_told_of(town: Town) -> None:
    town.land(0)
    (town.zone.root / "2024-03-01").mkdir()

    with pytest.raises(LandingError, match="2024-03-01: not a folder named dt="):
        town.facts()


def test_a_day_that_cannot_be_read_is_told_of_though_a_run_has_read_it(town: Town) -> None:
    town.land(0)
    town.run(0)
    (town.folder(0) / "deeper").mkdir()

    with pytest.raises(LandingError, match="deeper: not a file"):
        town.facts()


def test_of_a_landing_zone_on_a_server_the_reports_tell_and_other_days_may_be_there(town: Town, tmp_path: Path) -> None:
    client = HttpClient(DayUrl("http://127.0.0.1:9/{day}.csv"), retry_after_seconds)
    server = HttpLanding(client, cache=tmp_path / "cache")
    town.report("landing", 0, digest="f0")
    town.report("landing", 1)

    found = town.facts(landing={"landing": server})

    assert found.records["landing"][day(0)].digest == "f0"
    assert found.records["landing"][day(1)] == Record(0, None, recorded_at=NEVER)
    assert list(found.records["landing"])[-1] == found.last_days["landing"]
    assert len(found.records["landing"]) == (found.last_days["landing"] - day(0)).days + 1


def test_of_a_source_without_a_landing_zone_the_reports_tell(town: Town) -> None:
    town.report("landing", 0, digest="f0")
    town.report("landing", 1)

    assert {each: made.digest for each, made in town.facts(landing={}).records["landing"].items()} == {day(0): "f0"}


def failing(*days: int, error: type[BaseException] = ValueError) -> dg.AssetsDefinition:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def fragile(day: date) -> pa.Table:
        if (day - date.fromisoformat(key(0))).days in days:
            raise error("it broke")
        return numbers(1)

    return fragile


def attempt(lake: Lake, assets: list[Any], first: int, last: int | None = None) -> dg.ExecuteInProcessResult:
    defs = dg.Definitions(assets, resources={"io_manager": lake.manager}, executor=dg.in_process_executor)
    keys = tuple(each for asset in assets for each in asset.keys)
    return execute(defs, PlannedRun(keys, day(first), day(first if last is None else last)), lake.instance)


def failed(lake: Lake) -> set[int]:
    found = facts_in(lake, [failing()]).failed
    assert {partition.table for partition in found} <= {"fragile"}
    return {(partition.day - day(0)).days for partition in found}


def test_days_that_a_run_failed_of_have_failed_until_somebody_makes_them(lake: Lake) -> None:
    assert not attempt(lake, [failing(1, 3)], 0, 3).success
    assert failed(lake) == {1, 3}

    assert attempt(lake, [failing()], 1).success
    assert failed(lake) == {3}

    lake.instance.report_runless_asset_event(dg.AssetMaterialization("fragile", partition=key(3)))
    assert failed(lake) == {3}, "it was reported, and is not there"

    assert attempt(lake, [failing()], 3).success
    assert failed(lake) == set()

    assert not attempt(lake, [failing(3)], 3).success
    assert failed(lake) == {3}, "it was made, and then another attempt failed"


def test_a_plain_asset_s_run_failed_of_all_its_days(lake: Lake) -> None:
    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def fragile() -> None:
        raise ValueError

    assert not attempt(lake, [fragile], 1, 2).success

    assert failed(lake) == {1, 2}


def test_what_was_not_begun_as_its_upstream_failed_has_not_failed(lake: Lake) -> None:
    @dg.asset(partitions_def=DAYS, deps=["fragile"], backfill_policy=dg.BackfillPolicy.single_run())
    def after() -> None:
        pass

    assert not attempt(lake, [failing(1), after], 1).success

    assert facts_in(lake, [failing(), after]).failed == {Partition("fragile", day(1))}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_a_run_that_was_told_to_stop_failed_of_nothing(lake: Lake, interrupt: type[BaseException]) -> None:
    with suppress(interrupt):
        attempt(lake, [failing(1, error=interrupt)], 0, 2)

    assert [run.status for run in lake.instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
    assert failed(lake) == set()


def test_a_run_whose_worker_died_failed_of_nothing(lake: Lake) -> None:
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        run_id=str(uuid4()),
        tags={"dagster/partition": key(1)},
        asset_selection=frozenset({dg.AssetKey("fragile")}),
    )
    lake.instance.add_run(run)
    lake.instance.report_run_failed(run)

    assert failed(lake) == set()


def test_a_run_that_dagster_starts_again_has_not_failed_yet(lake: Lake) -> None:
    result = attempt(lake, [failing(1)], 1)
    assert failed(lake) == {1}
    lake.instance.add_run_tags(result.run_id, {"dagster/will_retry": "true"})

    assert failed(lake) == set()


def test_tables_of_one_step_fail_under_the_leading_one(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract={"kept": ROW, "bad": ROW})
    def both(day: date) -> Result:
        raise ValueError(day)

    assert not attempt(lake, [both], 1).success

    assert facts_in(lake, [both]).failed == {Partition("bad", day(1))}


def test_a_head_that_somebody_else_wrote_is_unrecorded(disk_lake: Lake) -> None:
    assert disk_lake.run(SHOP, 0, 2).success
    assert facts_in(disk_lake, SHOP).unrecorded == set()

    other = path_of(disk_lake.store, Partition("visits", day(2))).read_bytes()
    path_of(disk_lake.store, Partition("visits", day(1))).write_bytes(other)
    new = path_of(disk_lake.store, Partition("totals", day(7)))
    new.parent.mkdir()
    new.write_bytes(other)
    disk_lake.put("visits", 0, numbers(1))

    facts = facts_in(disk_lake, SHOP)
    assert facts.unrecorded == {Partition("visits", day(1)), Partition("totals", day(7))}
    head = disk_lake.store.head(Partition("visits", day(1)))
    assert head is not None
    assert facts.records["visits"][day(1)].digest == head.digest


def test_a_head_of_which_only_the_bytes_were_changed_is_unrecorded_if_they_are_asked_for(disk_lake: Lake) -> None:
    assert disk_lake.run(SHOP, 0, 2).success
    for number in (0, 1):
        change_in_place(path_of(disk_lake.store, Partition("visits", day(number))))

    asked = [Partition("visits", day(1)), Partition("visits", day(2)), Partition("totals", day(9))]
    assert facts_in(disk_lake, SHOP).unrecorded == set()
    assert facts_in(disk_lake, SHOP, check_bytes_of=asked).unrecorded == {Partition("visits", day(1))}


def change_in_place(path: Path) -> None:
    """So that neither inode nor size nor time shows it."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_bytes_of_every_table_of_a_step_are_held_against_their_records(town: Town) -> None:
    town.land(0)
    town.run(0)
    change_in_place(path_of(town.lake.store, Partition("rows", day(0))))

    assert town.facts(check_bytes_of=[Partition("bad", day(0))]).unrecorded == {Partition("rows", day(0))}


def test_a_restored_head_stays_until_something_upstream_changes(lake: Lake) -> None:
    assert lake.run(SHOP, 0).success
    old = lake.digest("totals", 0)
    lake.put("visits", 0, pa.Table.from_pylist(lake.rows("visits", 0)[1:]))
    assert old not in (None, lake.put("totals", 0, numbers(1)))
    lake.store.restore(Partition("totals", day(0)), old or "")

    def wanted() -> list[Partition]:
        facts = facts_in(lake, SHOP, check_bytes_of=[Partition("totals", day(0))])
        graph = daily_graph(dg.Definitions(SHOP).resolve_asset_graph())
        ask = Ask(Mode.FULL, ("totals",), ((day(0), day(0)),), "a test")
        return plan(graph, ask, facts).partitions()

    assert wanted() == []
    lake.put("visits", 0, pa.Table.from_pylist(lake.rows("visits", 0)[1:]))
    assert wanted() == [Partition("totals", day(0))]


def test_versions_of_the_code_are_those_of_now_and_days_end_yesterday(town: Town) -> None:
    found = town.facts()
    graph = dg.Definitions(shop_of(town.zone)).resolve_asset_graph()

    assert found.code_versions == {table: graph.get(dg.AssetKey(table)).code_version for table in ("bad", "counted")}, (
        "of leading tables"
    )
    assert found.last_days == last_days(graph)


def test_an_asset_without_a_code_version_has_none(lake: Lake) -> None:
    @dg.asset(partitions_def=DAYS)
    def plain() -> None:
        pass

    assert facts_in(lake, [plain]).code_versions == {}


def test_equal_facts_are_equal(town: Town) -> None:
    town.land(0, 1)
    town.run(0, 1)

    assert town.facts() == town.facts()
