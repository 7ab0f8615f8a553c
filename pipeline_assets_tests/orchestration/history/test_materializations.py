"""Records that are read from the rows of a storage are those that Dagster's own methods give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.history import materializations as records
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.history.materializations import newest, run_starts, with_ids
from pipeline_assets.orchestration.partition.frames import Result
from pipeline_assets.record import Record
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, SHOP, Lake, day, key, numbers

LANDING = dg.AssetSpec("landing", partitions_def=DAYS)
ONE_RUN = dg.BackfillPolicy.single_run()
LOOKED_AT = [day(number) for number in range(-3, 30)]


@daily_asset(partitions_def=DAYS, contract={"kept": ROW, "bad": ROW}, deps={"landing": same_day()})
def both(day: date) -> Result:
    return Result({"kept": numbers(day.day), "bad": numbers()}, Accounting(1, 1, 0, 0), made_from={"landing": "f1"})


@dg.asset(partitions_def=DAYS, deps=["kept"], code_version="three", backfill_policy=ONE_RUN)
def versioned() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"dagster/row_count": 7})


@dg.asset(partitions_def=DAYS, deps=["kept"], backfill_policy=ONE_RUN)
def plain() -> None:
    pass


ASSETS: list[Any] = [LANDING, both, versioned, plain, *SHOP]
GRAPH = daily_graph(dg.Definitions(ASSETS).resolve_asset_graph())


@dataclass
class Opaque:
    """An instance whose storages do not give out rows."""

    instance: dg.DagsterInstance
    event_log_storage: object = None
    run_storage: object = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.instance, name)


@pytest.fixture(params=["in memory", "SQLite"])
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    """A lake whose instance is kept so."""
    memory = request.param == "in memory"
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.ephemeral() if memory else dg.DagsterInstance.local_temp(str(home)) as instance:
        yield Lake(tmp_path / "lake", instance)


def report(lake: Lake, table: str, partition: str | None, **metadata: Any) -> None:
    lake.instance.report_runless_asset_event(dg.AssetMaterialization(table, partition=partition, metadata=metadata))


def told(lake: Lake) -> Mapping[str, Mapping[date, Record]]:
    """What all ways of asking say of every table."""
    opaque: Any = Opaque(lake.instance)
    ways = [EventLog(lake.instance, GRAPH), EventLog(opaque, GRAPH)]
    whole, public = ({table: each.all_records(table) for table in GRAPH.tables} for each in ways)
    assert whole == public
    for each in ways:
        assert {table: each.records(table, LOOKED_AT) for table in GRAPH.tables} == whole
    return whole


def test_both_ways_say_the_same_of_what_runs_record(somewhere: Lake) -> None:
    for _ in range(2):
        assert somewhere.run(SHOP, 0, 3).success
    assert somewhere.run_key(SHOP, 5).success
    assert somewhere.run([both, versioned, plain], 1).success

    made = told(somewhere)

    assert {table: len(each) for table, each in made.items() if each} == {
        "visits": 5,
        "totals": 5,
        "kept": 1,
        "bad": 1,
        "versioned": 1,
        "plain": 1,
    }
    record, metadata = made["totals"][day(2)], somewhere.recorded("totals")[2][0]
    assert record.unchanged
    assert record.inputs == {"visits": {day(each): somewhere.digest("visits", each) for each in range(3)}}
    assert (record.digest, record.rows, record.size_bytes, record.seconds, record.code_version) == tuple(
        metadata[name] for name in ("digest", "dagster/row_count", "bytes", "seconds", "code_version")
    )
    run_id = next(
        each.run_id for each in somewhere.instance.fetch_materializations(dg.AssetKey("versioned"), limit=1).records
    )
    record = made["versioned"][day(1)]
    assert (record.code_version, record.rows, record.run_id) == ("three", 7, run_id)
    assert made["plain"][day(1)].code_version is None, "Dagster tags its run's id in the place of one"
    assert made["plain"][day(1)].began_at < made["plain"][day(1)].recorded_at


def test_both_ways_say_the_same_of_what_others_report(somewhere: Lake) -> None:
    assert somewhere.run(SHOP, 0, 2).success
    report(somewhere, "visits", key(0), digest="restored", unchanged=False, restored=True)
    report(somewhere, "visits", key(1))
    report(somewhere, "visits", None, digest="of no partition")
    for partition in ("yesterday", "eu|x", ""):
        report(somewhere, "visits", partition, digest="of none that can exist")
    for number, digest in enumerate(("f1", "f2")):
        report(somewhere, "landing", key(number), digest=digest)
        report(somewhere, "landing", key(number))
    report(somewhere, "landing", key(7))

    made = told(somewhere)

    assert {each: record.digest for each, record in made["visits"].items()} == {
        day(0): "restored",
        day(1): None,
        day(2): somewhere.digest("visits", 2),
    }
    assert (made["visits"][day(0)].run_id, made["visits"][day(0)].size_bytes) == ("", None)
    assert {each: record.digest for each, record in made["landing"].items()} == {day(0): "f1", day(1): "f2"}


@pytest.mark.parametrize(
    "value",
    [
        *[5, 5.5, True, None, "text", ["a"], {"a": {"b": "c"}}, {"visits": {key(1): "x"}}],
        dg.MetadataValue.md("x"),
        dg.MetadataValue.timestamp(5.0),
        dg.MetadataValue.asset(dg.AssetKey("a")),
    ],
    ids=str,
)
def test_both_ways_say_the_same_of_metadata_of_any_kind(lake: Lake, value: Any) -> None:
    for number, name in enumerate(sorted(records.NAMES)):
        report(lake, "totals", key(number), **{name: value})

    assert len(told(lake)["totals"]) == len(records.NAMES)


def test_what_was_wiped_is_told_by_neither(somewhere: Lake) -> None:
    assert somewhere.run(SHOP, 0, 3).success
    somewhere.instance.wipe_assets([dg.AssetKey("visits")])
    assert told(somewhere)["visits"] == {}

    assert somewhere.run(SHOP, 2, select=["visits"]).success
    made = told(somewhere)

    assert list(made["visits"]) == [day(2)]
    assert len(made["totals"]) == 4


@pytest.mark.parametrize("page", [1, 3, 5, 6])
def test_nothing_is_lost_between_pages(lake: Lake, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(records, "PAGE", page)
    for number in (3, 0, 4, 1, 2, 3):
        report(lake, "visits", key(number), digest=str(number))

    made = told(lake)["visits"]

    assert {each: record.digest for each, record in made.items()} == {day(number): str(number) for number in range(5)}


def test_a_storage_in_sql_is_asked_for_a_history_without_dagster_s_objects(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lake.run(SHOP, 0, 3).success
    asked: list[object] = []
    for name in ("fetch_materializations", "get_latest_storage_id_by_partition", "get_run_records"):
        monkeypatch.setattr(lake.instance, name, lambda *_, name=name, **__: asked.append(name))

    found = list(newest(lake.instance, dg.AssetKey("visits")))
    again = list(with_ids(lake.instance, dg.AssetKey("visits"), [each.storage_id for each in found]))

    assert sorted(each.partition or "" for each in found) == [key(number) for number in range(4)]
    assert sorted(again, key=lambda each: each.storage_id) == sorted(found, key=lambda each: each.storage_id)
    assert run_starts(lake.instance, {found[0].run_id}).keys() == {found[0].run_id}
    assert asked == []


def test_an_id_that_is_gone_gives_no_record(somewhere: Lake) -> None:
    report(somewhere, "visits", key(0), digest="x")
    (found,) = newest(somewhere.instance, dg.AssetKey("visits"))
    opaque: Any = Opaque(somewhere.instance)

    for instance in (somewhere.instance, opaque):
        ids = [found.storage_id, found.storage_id + 1000]
        assert [each.storage_id for each in with_ids(instance, dg.AssetKey("visits"), ids)] == [found.storage_id]


def test_both_ways_say_when_runs_were_started(somewhere: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {somewhere.run(SHOP, number).run_id for number in range(3)}
    somewhere.instance.add_run(dg.DagsterRun(job_name="j", run_id="00000001-0000-4000-8000-000000000000"))
    asked = {*ids, "00000001-0000-4000-8000-000000000000", "unknown"}
    monkeypatch.setattr(records, "PAGE", 2)
    opaque: Any = Opaque(somewhere.instance)

    starts = run_starts(somewhere.instance, asked)

    assert starts.keys() == ids
    assert starts == run_starts(opaque, asked)
    assert starts == {
        each.dagster_run.run_id: each.start_time
        for each in somewhere.instance.get_run_records(dg.RunsFilter(run_ids=list(ids)))
    }
