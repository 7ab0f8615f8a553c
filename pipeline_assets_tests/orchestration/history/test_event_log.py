"""What is read back of a real event log: records, and what is being made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.history.runs import IN_FLIGHT, running_partitions
from pipeline_assets.orchestration.partition.frames import Result
from pipeline_assets.partition import Partition
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import DAYS, FIRST, ROW, SHOP, Lake, day, key, numbers

LANDING = dg.AssetSpec("landing", partitions_def=DAYS)
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all"), "__ASSET_JOB")
"""Dagster wants to know where a queued run comes from."""


@daily_asset(partitions_def=DAYS, contract={"kept": ROW, "bad": ROW}, deps={"landing": same_day()})
def both(day: date) -> Result:
    return Result({"kept": numbers(day.day), "bad": numbers()}, Accounting(1, 1, 0, 0), made_from={"landing": "f1"})


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def plain(kept: dict[str, pa.Table]) -> dict[str, pa.Table]:
    return kept


ASSETS: list[Any] = [LANDING, both, plain, *SHOP]


@pytest.fixture
def event_log(lake: Lake) -> EventLog:
    return EventLog(lake.instance, daily_graph(dg.Definitions(ASSETS).resolve_asset_graph()))


def report(lake: Lake, table: str, number: int | str, metadata: Mapping[str, Any]) -> None:
    partition = key(number) if isinstance(number, int) else number
    lake.instance.report_runless_asset_event(
        dg.AssetMaterialization(table.split("/"), partition=partition, metadata=metadata)
    )


def test_the_newest_record_of_each_day_says_digest_and_inputs(lake: Lake, event_log: EventLog) -> None:
    for _ in range(2):
        assert lake.run(SHOP, 0, 3).success

    found = event_log.records("totals", [day(number) for number in range(-1, 6)])

    assert sorted(found) == [day(0), day(1), day(2), day(3)]
    for number in range(4):
        made = found[day(number)]
        window = [each for each in range(number - 2, number + 1) if each >= 0]
        assert made.digest == lake.digest("totals", number)
        assert made.unchanged
        assert made.inputs == {"visits": {day(each): lake.digest("visits", each) for each in window}}
    assert event_log.records("totals", []) == {}


def test_what_an_asset_read_by_itself_is_in_the_record_of_each_of_its_tables(lake: Lake, event_log: EventLog) -> None:
    assert lake.run([both], 1).success

    for table in ("kept", "bad"):
        assert event_log.records(table, [day(1)])[day(1)].inputs == {"landing": {day(1): "f1"}}


def test_a_plain_asset_s_record_says_when_its_step_began(lake: Lake, event_log: EventLog) -> None:
    assert lake.run([both, plain], 1).success

    read, made = event_log.records("kept", [day(1)])[day(1)], event_log.records("plain", [day(1)])[day(1)]

    assert made.inputs == {}
    assert read.recorded_at <= made.began_at < made.recorded_at
    assert read.began_at == read.recorded_at, "what it was made from is known by digest"


def test_of_a_source_the_newest_report_with_a_digest_counts(lake: Lake, event_log: EventLog) -> None:
    for metadata in ({"digest": "f1"}, {"digest": "f2"}, {}, {}):
        report(lake, "landing", 1, metadata)
    report(lake, "landing", 2, {})

    found = event_log.records("landing", [day(1), day(2)])

    assert {each: made.digest for each, made in found.items()} == {day(1): "f2"}


def test_a_table_that_is_computed_here_has_its_newest_record_digest_or_not(lake: Lake, event_log: EventLog) -> None:
    assert lake.run(SHOP, 1).success
    report(lake, "visits", 1, {})

    assert event_log.records("visits", [day(1)])[day(1)].digest is None


@pytest.mark.parametrize(
    "inputs",
    ["text", 5, ["visits"], {"visits": 5}, {"visits": {"yesterday": "x"}}, {"visits": None}, {"other": {}}],
    ids=str,
)
def test_metadata_of_others_that_bears_our_names_is_not_taken_for_ours(
    lake: Lake, event_log: EventLog, inputs: Any
) -> None:
    value = dg.MetadataValue.json(inputs) if not isinstance(inputs, str | int) else inputs
    report(lake, "totals", 1, {"digest": 5, "inputs": value, "unchanged": "no"})

    made = event_log.records("totals", [day(1)])[day(1)]

    assert (made.digest, made.unchanged, made.inputs) == ("5", False, {})


def test_the_change_behind_a_rewrite_is_the_oldest_record_of_that_digest(lake: Lake, event_log: EventLog) -> None:
    for digest in "ABAABB":
        report(lake, "visits", 1, {"digest": digest})
    newest = event_log.records("visits", [day(1)])[day(1)]

    changed = event_log.changed("visits", day(1))

    assert changed is not None
    assert changed.digest == newest.digest == "B"
    assert changed.event_id == newest.event_id - 1
    assert event_log.changed("visits", day(2)) is None


def test_a_run_that_put_back_the_rows_of_its_record_after_a_commit_without_one_changed_them(
    lake: Lake, event_log: EventLog
) -> None:
    for _ in range(2):
        assert lake.run(SHOP, 1).success
    first = event_log.changed("visits", day(1))
    lake.put("visits", 1, pa.table({"user": ["u7"], "seconds": [7]}))  # by a run that did not live to record it
    assert lake.run(SHOP, 1).success
    newest = event_log.records("visits", [day(1)])[day(1)]

    put_back = event_log.changed("visits", day(1))

    assert first is not None
    assert (first.digest, first.event_id < newest.event_id) == (newest.digest, True)
    assert put_back == newest


def test_a_wiped_asset_has_no_records(lake: Lake, event_log: EventLog) -> None:
    assert lake.run(SHOP, 0, 1).success
    lake.instance.wipe_assets([dg.AssetKey("visits")])

    assert event_log.records("visits", [day(0), day(1)]) == {}


def test_records_are_read_in_a_number_of_queries_that_does_not_grow(
    lake: Lake, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        report(lake, "visits", number, {"digest": "A"})
    asked = []
    connect = lake.instance.event_log_storage.index_connection  # type: ignore[attr-defined]

    def counted() -> Any:
        asked.append(1)
        return connect()

    monkeypatch.setattr(lake.instance.event_log_storage, "index_connection", counted)
    assert len(event_log.records("visits", [day(number) for number in range(40)])) == 40
    first = len(asked)
    assert len(event_log.records("visits", [day(number) for number in range(40)])) == 40
    assert 0 < first < 5
    assert len(asked) < 2 * first, "what was read is known"


def launched(lake: Lake, status: dg.DagsterRunStatus, tags: Mapping[str, str], *tables: str) -> None:
    lake.instance.add_run(
        dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid4()),
            status=status,
            tags=tags,
            asset_selection=frozenset(map(dg.AssetKey, tables)) or None,
            remote_job_origin=ORIGIN,
        )
    )


RANGE = {"dagster/asset_partition_range_start": key(1), "dagster/asset_partition_range_end": key(3)}


@pytest.mark.parametrize("status", list(dg.DagsterRunStatus), ids=str)
def test_partitions_of_runs_that_have_not_ended_are_being_made(
    lake: Lake, event_log: EventLog, status: dg.DagsterRunStatus
) -> None:
    launched(lake, status, RANGE, "visits")

    running = running_partitions(lake.instance, event_log.graph)

    assert running == ({Partition("visits", day(number)) for number in (1, 2, 3)} if status in IN_FLIGHT else set())


def test_what_a_run_makes_is_told_by_its_tags_and_its_selection(lake: Lake, event_log: EventLog) -> None:
    def makes(tags: Mapping[str, str], *tables: str, planned: Sequence[str] = ()) -> set[Partition]:
        launched(lake, dg.DagsterRunStatus.STARTED, tags, *tables)
        for table in planned:
            (run,) = lake.instance.get_runs()
            plan = AssetMaterializationPlannedData(dg.AssetKey(table), partition=key(2))
            event = dg.DagsterEvent.build_asset_materialization_planned_event(run.job_name, table, plan)
            lake.instance.report_dagster_event(event, run.run_id)
        found = running_partitions(lake.instance, event_log.graph)
        for run in lake.instance.get_runs():
            lake.instance.delete_run(run.run_id)
        return found

    assert makes({"dagster/partition": key(2)}, "kept", "bad") == {Partition("bad", day(2))}, "one step"
    assert makes({"dagster/partition": key(2)}, "bad") == {Partition("bad", day(2))}
    assert makes({"dagster/partition": key(2)}) == set(), "of a job of ops"
    assert makes({"dagster/partition": key(2)}, planned=("visits", "totals")) == {
        Partition(each, day(2)) for each in ("visits", "totals")
    }, "of a job of assets"
    assert makes({}, "visits") == set()
    assert makes({"dagster/partition": "2024-02-28-05:00"}, "visits") == set()
    assert makes({"dagster/partition": "eu|x"}, "visits") == set()
    assert makes(RANGE, "landing") == set()
    assert makes(RANGE, "unknown") == set()


def test_days_far_from_any_history_cost_nothing(event_log: EventLog) -> None:
    assert event_log.records("visits", [FIRST - timedelta(days=4000), FIRST + timedelta(days=4000)]) == {}
