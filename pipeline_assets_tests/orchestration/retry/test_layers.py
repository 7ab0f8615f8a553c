"""Verdicts through Dagster's step retries, in assets and IO managers; and what is read back from a failed run."""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import dagster as dg
import psycopg2  # type: ignore[import-untyped]  # it has no annotations
import pyarrow as pa
import pytest
import requests

from pipeline_assets import ParquetIOManager, daily_asset, errors
from pipeline_assets.orchestration.finished_days import FinishedDay, listening
from pipeline_assets.orchestration.history.failures import RecordedFailure, recorded_failures
from pipeline_assets.orchestration.history.tags import ATTEMPTS_TAG
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.orchestration.retry.layers import classified
from pipeline_assets.orchestration.retry.step import RetryRules
from pipeline_assets.partition import Partition
from pipeline_assets.rules.alerts import Severity
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.retry import VERDICTS
from pipeline_assets.store import Pinned
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration import retried
from pipeline_assets_tests.orchestration.lake import (
    DAYS,
    HASTY,
    QUIET,
    ROW,
    Impatient,
    Lake,
    checks,
    day,
    failure,
    key,
    numbers,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EAGER = dg.RetryPolicy(max_retries=3)
"""An author who wants everything to be retried."""


class Noon(ParquetIOManager):
    """The table as it is, always noon, no jitter."""

    def retrying(self) -> RetryRules:
        return RetryRules(VERDICTS, jitter=lambda: 0.0, now=lambda: NOW)


def waits(lake: Lake, run_id: str) -> list[float]:
    """Seconds before each retry of a step, as Dagster was asked for them."""
    logged = lake.instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_UP_FOR_RETRY})
    return [round(each.get_dagster_event().step_retry_data.seconds_to_wait or 0, 6) for each in logged]


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Of the step's failure."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    return {name: value.value for name, value in event.step_failure_data.user_failure_data.metadata.items()}


def tags(lake: Lake, run_id: str) -> dict[str, str]:
    run = lake.instance.get_run_by_id(run_id)
    assert run is not None
    return dict(run.tags)


def only(found: tuple[RecordedFailure, ...]) -> RecordedFailure:
    (noted,) = found
    return noted


def aws(code: str) -> Exception:
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    raised: Exception = botocore.exceptions.ClientError(response, "PutObject")
    return raised


def postgres(sqlstate: str) -> Exception:
    raised: Any = psycopg2.OperationalError("as the server said")
    raised.__setstate__({"pgcode": sqlstate})  # as pickle does
    error: Exception = raised
    return error


def too_many_requests(retry_after: str) -> Exception:
    response = requests.Response()
    response.status_code = 429
    response.headers["Retry-After"] = retry_after
    return requests.HTTPError("429", response=response)


CONFLICT, BUSY = [0.01, 0.02, 0.04], [0.01, 0.03, 0.09]
NETWORK = [0.02, 0.04, 0.08, 0.16, 0.32]
ROWS: dict[str, tuple[Callable[[], Exception], str, str, list[float]]] = {
    "conflict": (lambda: errors.PartitionConflict("theirs"), "conflict", "conflict", CONFLICT),
    "store busy": (lambda: errors.StoreBusy("locked"), "temporarily unavailable", "busy", BUSY),
    "EAGAIN": (lambda: OSError(errno.EAGAIN, "later"), "temporarily unavailable", "busy", BUSY),
    "deadlock": (lambda: postgres("40P01"), "temporarily unavailable", "busy", BUSY),
    "serialization": (lambda: postgres("40001"), "temporarily unavailable", "busy", BUSY),
    "SlowDown": (lambda: aws("SlowDown"), "temporarily unavailable", "busy", BUSY),
    "time-out": (lambda: TimeoutError("slow"), "transient network", "network", NETWORK),
    "reset": (lambda: ConnectionResetError("reset"), "transient network", "network", NETWORK),
    "landing": (lambda: errors.LandingUnavailable("cut"), "transient network", "landing_unavailable", NETWORK),
    "missing file": (lambda: errors.LandingMissing("404"), "unusable input", "landing_missing", []),
    "access denied": (lambda: errors.AccessDenied("401"), "access denied", "access_denied", []),
    "AccessDenied": (lambda: aws("AccessDenied"), "access denied", "access_denied", []),
    "contract": (lambda: errors.ContractBroken("nulls"), "contract broken", "contract", []),
    "store full": (lambda: errors.StorageFull("full"), "no space left", "storage_full", []),
    "ENOSPC": (lambda: OSError(errno.ENOSPC, "full"), "no space left", "storage_full", []),
    "bug": (lambda: ZeroDivisionError("1 / 0"), "not named", "bug", []),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_day_is_attempted_as_often_and_after_as_long_as_its_row_says(lake: Lake, row: str) -> None:
    error, verdict, kind, delays = ROWS[row]
    calls = []

    @daily_asset(partitions_def=DAYS, contract=ROW, retry_policy=EAGER)
    def failing(day: date) -> pa.Table:
        calls.append(day)
        raise error()

    result = lake.run(failing)
    assert not result.success
    assert len(calls) == len(delays) + 1
    assert waits(lake, result.run_id) == delays
    told = metadata(result)
    assert (told["verdict"], told["kind"]) == (verdict, kind)
    assert told["attempts"] == told["max_attempts"] == len(calls)
    assert told["delays_seconds"] == delays
    assert told["failed_days"] == [key(0)]
    assert "not_before" not in told
    noted = only(recorded_failures(lake.instance, result.run_id))
    assert (noted.table, noted.failed_days, noted.attempts) == ("failing", (day(0),), len(calls))
    assert (noted.verdict, noted.kind, noted.may_retry) == (verdict, kind, False)
    assert noted.severity is (Severity.PAGE if kind == "storage_full" else Severity.ALERT)
    assert noted.reason == f"{type(error()).__name__}: {error()}"
    final = {name: value for name, value in tags(lake, result.run_id).items() if "retr" in name or "pipeline/" in name}
    assert final == {
        "dagster/max_retries": "0",
        "dagster/retry_on_asset_or_op_failure": "false",
        "pipeline/verdict": verdict,
        "pipeline/kind": kind,
    }


def test_what_passes_the_next_time_leaves_no_trace_but_in_the_log(lake: Lake) -> None:
    calls = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def flaky(day: date) -> pa.Table:
        calls.append(day)
        if len(calls) < 3:
            raise ConnectionResetError("reset by peer")
        return numbers(1)

    result = lake.run(flaky)
    assert result.success
    assert recorded_failures(lake.instance, result.run_id) == ()
    assert not any(name.startswith("pipeline/") for name in tags(lake, result.run_id))
    said = "verdict transient network: ConnectionResetError: reset by peer"
    log = lake.log(result)
    assert f"flaky {key(0)}: attempt 2 of 6 in 0.0 s: {said}" in log
    assert f"flaky {key(0)}: attempt 3 of 6 in 0.0 s: {said}" in log
    assert len(lake.recorded("flaky")[0]) == 1


# --- what the server asks for


def test_a_short_wait_that_the_server_asks_for_is_the_steps_own(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def throttled(day: date) -> pa.Table:
        raise errors.LandingUnavailable("429", retry_after_seconds=0.1)

    result = lake.run(throttled)
    assert waits(lake, result.run_id) == [0.15, 0.15, 0.2, 0.4, 0.8]  # never less than asked for, jitter on top
    assert metadata(result)["verdict"] == "server asked to wait"


@pytest.mark.parametrize("header", ["600", "Fri, 20 Nov 2026 12:10:00 GMT"])
def test_a_long_wait_ends_the_step_and_says_when_it_may_be_requested_again(disk_lake: Lake, header: str) -> None:
    calls = []

    @daily_asset(partitions_def=DAYS, contract=ROW, retry_policy=EAGER)
    def throttled(day: date) -> pa.Table:
        calls.append(day)
        raise too_many_requests(header)

    result = disk_lake.run(throttled, 0, 3, resources={"io_manager": Noon(root=str(disk_lake.root))})
    assert calls == [day(0)]  # further days would be told the same
    assert waits(disk_lake, result.run_id) == []
    noted = only(recorded_failures(disk_lake.instance, result.run_id))
    assert noted.may_retry
    assert noted.not_before == NOW + timedelta(minutes=10)
    assert (noted.attempts, noted.max_attempts) == (1, 6)
    assert noted.failed_days == (day(0),)
    assert noted.days_not_attempted == (day(1), day(2), day(3))
    assert all(noted.is_about("throttled", day(number)) for number in range(4))
    assert not noted.is_about("throttled", day(4))
    assert not noted.is_about("other", day(0))
    assert "It may be tried again from 2026-11-20 12:10:00 UTC on: attempt 2 of 6." in failure(result)
    assert metadata(result)["not_before"] == noted.not_before.timestamp()
    assert tags(disk_lake, result.run_id)["dagster/max_retries"] == "0"  # who requests runs waits, Dagster does not


def test_whoever_requests_a_run_again_says_how_many_attempts_were_made(lake: Lake) -> None:
    calls = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def failing(day: date) -> pa.Table:
        calls.append(day)
        raise ConnectionResetError("reset")

    def requested(attempts: str) -> str:
        found = dg.materialize(
            [failing],
            instance=lake.instance,
            resources={"io_manager": lake.manager},
            partition_key=key(0),
            tags={ATTEMPTS_TAG: attempts},
            run_config=QUIET,
            raise_on_error=False,
        )
        return found.run_id

    run_id = requested("4")
    assert waits(lake, run_id) == [0.32]
    assert len(calls) == 2
    noted = only(recorded_failures(lake.instance, run_id))
    assert (noted.attempts, noted.max_attempts, noted.may_retry) == (6, 6, False)

    calls.clear()
    assert waits(lake, requested("6")) == []  # too many already: it was asked for, so it is made, but once
    assert len(calls) == 1

    calls.clear()
    assert waits(lake, requested("many")) == NETWORK


# --- days of a range


def test_days_that_are_settled_are_not_computed_again(lake: Lake) -> None:
    calls: list[date] = []
    told: list[FinishedDay] = []

    @check(blocking=False)
    def is_even(day: date, mixed: pa.Table) -> Finding:
        """Warns of odd days."""
        return Finding(day.day % 2 == 0, f"{day}", {"looked": 1})

    @daily_asset(partitions_def=DAYS, contract=ROW, checks=[is_even], retry_policy=EAGER)
    def mixed(day: date) -> pa.Table:
        calls.append(day)
        if day == DAY_OF_BUG:
            raise ValueError(day)
        if day == DAY_OF_RESET and calls.count(day) < 3:
            raise ConnectionResetError("reset")
        return numbers(day.day)

    DAY_OF_BUG, DAY_OF_RESET = day(1), day(3)  # noqa: N806 - days of this test alone
    with listening(told.append):
        result = lake.run(mixed, 0, 4)
    assert calls == [day(0), day(1), day(2), day(3), day(4), day(3), day(3)]
    assert failure(result).startswith(
        f"mixed: 1 of 5 days failed; 4 were committed and recorded.\n  {key(1)}: ValueError: {key(1)}"
    )
    assert lake.days("mixed") == [0, 2, 3, 4]
    recorded = lake.recorded("mixed")
    assert {number: len(records) for number, records in recorded.items()} == {0: 1, 2: 1, 3: 1, 4: 1}
    assert all(records[0]["digest"] == lake.digest("mixed", number) for number, records in recorded.items())
    noted = only(recorded_failures(lake.instance, result.run_id))
    assert (noted.kind, noted.failed_days, noted.may_retry) == ("bug", (day(1),), False)
    assert metadata(result)["committed_days"] == [key(0), key(2), key(3), key(4)]
    # what checks found in earlier attempts is not forgotten
    found = checks(result)["mixed.is_even"]
    assert not found.passed
    assert found.metadata["days_checked"].value == 4
    assert found.metadata["days_failed"].value == [key(0), key(2), key(3)]
    assert sorted((each.day, each.error is None) for each in told) == [
        (day(0), True),
        (day(1), False),
        (day(2), True),
        (day(3), True),
        (day(4), True),
    ]


def test_a_run_that_ends_well_records_every_day_whichever_attempt_made_it(lake: Lake) -> None:
    calls: list[date] = []

    @daily_asset(partitions_def=DAYS, contract={"first": ROW, "second": ROW})
    def first(day: date) -> dict[str, pa.Table]:
        calls.append(day)
        if day.day == 28 and calls.count(day) == 1:
            raise ConnectionResetError("reset")
        return {"first": numbers(day.day), "second": numbers(-day.day)}

    assert lake.run(first, 0, 2).success
    assert calls == [day(0), day(1), day(2), day(1)]
    for table in ("first", "second"):
        recorded = lake.recorded(table)
        assert sorted(recorded) == [0, 1, 2]
        for number, records in recorded.items():
            assert records[0]["digest"] == lake.digest(table, number)
            assert records[0]["dagster/row_count"] == 1


def test_a_commit_that_was_replaced_between_two_attempts_is_computed_again(lake: Lake) -> None:
    calls: list[date] = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def raced(day: date) -> pa.Table:
        calls.append(day)
        if day.day == 28 and calls.count(day) == 1:
            lake.put("raced", 0, numbers(77))
            raise ConnectionResetError("reset")
        return numbers(day.day)

    assert lake.run(raced, 0, 1).success
    assert calls == [day(0), day(1), day(0), day(1)]
    assert lake.rows("raced", 0) == [{"n": 27}]
    assert lake.recorded("raced")[0][0]["digest"] == lake.digest("raced", 0)


def test_a_dead_host_is_not_asked_for_every_day_of_a_range(lake: Lake) -> None:
    calls: list[date] = []

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def asking(day: date) -> pa.Table:
        calls.append(day)
        if day.day in {27, 29, 2} or is_down:
            raise ConnectionRefusedError("down")
        return numbers(1)

    is_down = False
    told = failure(lake.run(asking, 0, 6))  # bad days among good ones do not end a range
    assert told.startswith("asking: 3 of 7 days failed; 4 were committed and recorded.\n")
    calls.clear()
    is_down = True
    result = lake.run(asking, 0, 29)
    assert calls == [day(0), day(1), day(2)] * 6
    assert "27 further days were not attempted." in failure(result)
    noted = only(recorded_failures(lake.instance, result.run_id))
    assert noted.days_not_attempted == tuple(day(number) for number in range(3, 30))


def test_each_day_of_a_step_has_its_own_verdict(disk_lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def mixed(day: date) -> pa.Table:
        if day.day == 27:
            raise ValueError(day)
        if day.day == 28:
            raise too_many_requests("600")
        return numbers(1)

    result = disk_lake.run(mixed, 0, 3, resources={"io_manager": Noon(root=str(disk_lake.root))})
    final, again = recorded_failures(disk_lake.instance, result.run_id)
    assert (final.kind, final.failed_days, final.days_not_attempted, final.may_retry) == ("bug", (day(0),), (), False)
    assert (again.kind, again.failed_days, again.may_retry) == ("busy", (day(1),), True)
    assert again.days_not_attempted == (day(2), day(3))
    assert final.not_before is None
    assert metadata(result)["verdict"] == "not named"


# --- IO managers and plain assets


def test_a_permanent_failure_in_handle_output_runs_once_whatever_its_author_wants(lake: Lake) -> None:
    calls = []

    @dg.asset(partitions_def=DAYS, retry_policy=EAGER)
    def strange() -> str:
        calls.append(1)
        return "no frame"

    result = lake.run(strange)
    assert len(calls) == 1
    noted = only(recorded_failures(lake.instance, result.run_id))
    assert (noted.table, noted.verdict, noted.may_retry) == ("strange", "contract broken", False)


def test_a_plain_assets_days_are_tried_again_together_or_not_at_all(lake: Lake) -> None:
    calls = []

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def plain() -> dict[str, Any]:
        calls.append(1)

        def contested() -> Iterator[pa.RecordBatch]:
            lake.put("plain", 1, numbers(77 + len(calls)))
            yield numbers(1).to_batches()[0]

        return {key(0): "no frame", key(1): pa.RecordBatchReader.from_batches(ROW.schema, contested())}

    result = lake.run(plain, 0, 1)
    assert len(calls) == 1  # the broken day would be computed again in vain
    final, again = recorded_failures(lake.instance, result.run_id)
    assert (final.kind, final.failed_days, final.may_retry) == ("contract", (day(0),), False)
    assert (again.kind, again.failed_days, again.may_retry) == ("conflict", (day(1),), True)


class Faulty(LocalStore):
    """Opens nothing before it was asked some times: the edge at which faults are injected."""

    def __init__(self, root: Path, faults: list[Exception]) -> None:
        super().__init__(root)
        self._faults = faults

    def open(self, partition: Partition) -> Pinned | None:
        if self._faults:
            raise self._faults.pop(0)
        return super().open(partition)


class OnFaultyStore(Impatient):
    """Reads from a `Faulty` store."""

    def store(self) -> LocalStore:
        return Faulty(Path(self.root), FAULTS)


FAULTS: list[Exception] = []


@pytest.mark.parametrize(
    ("faults", "delays"),
    [([ConnectionResetError("reset")] * 2, [0.02, 0.04]), ([KeyError("a bug in the store")] * 2, [])],
    ids=["transient", "permanent"],
)
def test_load_input_is_judged_as_the_rest(disk_lake: Lake, faults: list[Exception], delays: list[float]) -> None:
    calls = []

    @dg.asset(partitions_def=DAYS, retry_policy=EAGER)
    def below(visits: pa.Table) -> pa.Table:
        calls.append(1)
        return visits

    disk_lake.put("visits", 0, numbers(1))
    source: Any = dg.AssetSpec("visits", partitions_def=DAYS)
    FAULTS[:] = faults
    result = disk_lake.run([below, source], resources={"io_manager": OnFaultyStore(root=str(disk_lake.root))})
    assert waits(disk_lake, result.run_id) == delays
    assert result.success is bool(delays)
    assert len(calls) == result.success
    if not result.success:
        noted = only(recorded_failures(disk_lake.instance, result.run_id))
        assert (noted.table, noted.kind, noted.failed_days) == ("below", "bug", ())
        assert noted.is_about("below", day(7))  # of the step as a whole


def test_a_plain_asset_can_have_its_own_body_judged(lake: Lake) -> None:
    calls = []

    @dg.asset(partitions_def=DAYS, retry_policy=EAGER)
    def plain(context: dg.AssetExecutionContext) -> pa.Table:
        with classified(context, RetryRules(HASTY, jitter=lambda: 1.0)):
            calls.append(1)
            raise (ConnectionResetError if len(calls) < 3 else ValueError)("x")

    result = lake.run(plain)
    assert len(calls) == 3
    assert waits(lake, result.run_id) == [0.02, 0.04]
    assert only(recorded_failures(lake.instance, result.run_id)).attempts == 3


# --- what is read back


def test_a_plain_assets_own_failure_is_final(lake: Lake) -> None:
    @dg.asset(partitions_def=DAYS)
    def plain() -> None:
        raise ValueError("a bug")

    result = lake.run(plain)
    noted = only(recorded_failures(lake.instance, result.run_id))
    assert (noted.tables, noted.kind, noted.may_retry) == (("plain",), "bug", False)
    assert noted.reason == "ValueError: a bug"


def test_every_step_that_failed_is_judged(lake: Lake) -> None:
    @daily_asset(partitions_def=DAYS, contract={"one": ROW, "one_more": ROW})
    def one(day: date) -> pa.Table:
        raise ValueError

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def two(day: date) -> pa.Table:
        raise errors.StorageFull("full")

    result = lake.run([one, two])
    found = {each.tables: each.kind for each in recorded_failures(lake.instance, result.run_id)}
    assert found == {("one", "one_more"): "bug", ("two",): "storage_full"}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_a_run_that_was_told_to_stop_failed_of_nothing(lake: Lake, interrupt: type[BaseException]) -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW)
    def stopped(day: date) -> pa.Table:
        raise interrupt

    with suppress(interrupt):  # Dagster lets some of them through
        lake.run(stopped)
    (run,) = lake.instance.get_runs()
    assert recorded_failures(lake.instance, run.run_id) == ()


# --- processes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(retried.FOLDER, str(tmp_path))
    return tmp_path


def test_without_retries_in_the_executor_the_wait_is_left_to_whoever_requests_runs(folder: Path) -> None:
    retried.write_script(folder, 0, "reset")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.execute_job(
            dg.reconstructable(retried.one_process),
            instance=instance,
            tags={"dagster/partition": key(0)},
            run_config={**QUIET, "execution": {"config": {"retries": {"disabled": {}}}}},
        ) as result,
    ):
        assert not result.success
        assert retried.calls(folder) == {key(0): 1}
        assert only(recorded_failures(instance, result.run_id)).may_retry
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert run.tags["dagster/max_retries"] == "0"


@pytest.mark.slow(10)
def test_attempts_that_are_processes_of_their_own_count_together(folder: Path) -> None:
    retried.write_script(folder, 1, "broken")
    retried.write_script(folder, 2, "reset", "reset", "ok")
    retried.write_script(folder, 3, "conflict")
    with (
        open_instance(folder / "home") as instance,
        dg.execute_job(
            dg.reconstructable(retried.many_processes),
            instance=instance,
            tags={"dagster/asset_partition_range_start": key(0), "dagster/asset_partition_range_end": key(3)},
            run_config=QUIET,
        ) as result,
    ):
        assert not result.success
        assert retried.calls(folder) == {key(0): 1, key(1): 1, key(2): 3, key(3): 4}
        found = {each.kind: each for each in recorded_failures(instance, result.run_id)}
        assert {kind: each.failed_days for kind, each in found.items()} == {
            "contract": (day(1),),
            "conflict": (day(3),),
        }
        assert not any(each.may_retry for each in found.values())
        made = instance.get_materialized_partitions(dg.AssetKey(retried.TABLE))
        assert made == {key(0), key(2)}
