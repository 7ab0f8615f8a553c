"""The sensor `alerts` with real runs, a real instance and a real webhook: each cause arrives once, whatever happens."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.errors import AccessDenied, PipelineError, StorageFull
from pipeline_assets.orchestration.alerts import ended_runs
from pipeline_assets.orchestration.alerts.channel import Answer, Channel, PostOutcome
from pipeline_assets.orchestration.alerts.ended_runs import FIRST_LOOK_SECONDS, RETRY_SECONDS, SeenRuns, finished_runs
from pipeline_assets.orchestration.alerts.sensor import Gatherer, alerts_sensor, missed_slas
from pipeline_assets.orchestration.alerts.webhook import Links, Webhook
from pipeline_assets.orchestration.history.tags import RANGE_END, RANGE_START
from pipeline_assets.orchestration.process import PlannedRun, execute, open_instance, was_interrupted
from pipeline_assets.orchestration.sla.sensor import sla_sensor
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.outbox import LONGEST_DELAY_SECONDS, Message
from pipeline_assets_tests.orchestration import promised
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, Lake, day, key, numbers
from pipeline_assets_tests.orchestration.past import Past, at
from pipeline_assets_tests.support.webhook_server import SECRET, Receiver, Reply, url_of_nobody, webhook

UI = "http://dagster.example:3000"
broken: set[date] = set()
"""Days on which the assets below fail; a test fills it, and a fixture empties it."""


@pytest.fixture(autouse=True)
def _all_is_well() -> Iterator[None]:
    yield
    broken.clear()


@daily_asset(partitions_def=DAYS, contract=ROW, owners=["team:data"])
def fragile(day: date) -> pa.Table:
    """Fails on broken days."""
    if day in broken:
        raise ValueError(f"no rows for {day}")
    return numbers(day.day)


@check(blocking=False, alert=True)
def is_odd(day: date, rejecting: pa.Table) -> Finding:
    """Half of the days warn."""
    share = day.day / 2
    return Finding(day not in broken, f"{day}: {day.day} of 100 rows rejected ({share:.2f}%)")


@check(blocking=False)
def is_calm(day: date, rejecting: pa.Table) -> Finding:
    """Warns on the same days, and nobody is to be told."""
    return Finding(day not in broken, f"{day}: {rejecting.num_rows} rows")


@daily_asset(partitions_def=DAYS, contract=ROW, owners=["team:landing"], checks=[is_odd, is_calm])
def rejecting(day: date) -> pa.Table:
    """Warns on broken days."""
    return numbers(day.day)


@daily_asset(partitions_def=DAYS, contract=ROW)
def locked_out(day: date) -> pa.Table:
    """Has no access."""
    raise AccessDenied("the token is not accepted")


@daily_asset(partitions_def=DAYS, contract=ROW)
def full(day: date) -> pa.Table:
    """Has no space."""
    raise StorageFull(f"full dt={day}: no space left")


@daily_asset(partitions_def=DAYS, contract=ROW)
def stopped(day: date) -> pa.Table:
    """Somebody presses Ctrl-C."""
    raise KeyboardInterrupt


ASSETS = [fragile, rejecting, locked_out, full, stopped]


@dataclass
class Desk:
    """The sensor on an instance, with a clock that the test moves."""

    lake: Lake
    url: str | None
    gather: Sequence[Gatherer] = ()
    others: Sequence[Channel] = ()
    offset: timedelta = timedelta()
    how: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sensor = alerts_sensor(
            dagster_url=UI,
            channels=[*([Webhook(self.url, Links(UI))] if self.url else []), *self.others],
            gather=self.gather,
            now=lambda: datetime.now(UTC) + self.offset,
            **self.how,
        )
        self.definitions = dg.Definitions(ASSETS, resources={"io_manager": self.lake.manager}, sensors=[self.sensor])

    def tick(self, later: float = 0) -> str:
        """Evaluate the sensor that many seconds later; what it says."""
        self.offset += timedelta(seconds=later)
        context = dg.build_sensor_context(
            self.lake.instance, definitions=self.definitions, sensor_name="alerts", repository_name="__repository__"
        )
        result = self.sensor(context)
        assert isinstance(result, dg.SkipReason)
        return result.skip_message or ""

    def moment(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture
def desk(lake: Lake, hook: Receiver) -> Desk:
    """The first tick has been: nothing of the past is told."""
    made = Desk(lake, hook.url)
    made.tick()
    return made


def titles(receiver: Receiver) -> list[str]:
    return [body["title"] for body in receiver.accepted]


def a_run(
    lake: Lake, status: dg.DagsterRunStatus, *assets: str, number: int = 0, tags: dict[str, str] | None = None
) -> str:
    """A run that some other process has, as the instance knows it."""
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        status=status,
        tags={"dagster/partition": key(number), **(tags or {})},
        asset_selection=frozenset(dg.AssetKey(name) for name in assets),
    )
    return lake.instance.add_run(run).run_id


def fails(lake: Lake, run_id: str, at: datetime | None = None, message: str = "the worker is gone") -> None:
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, job_name="__ASSET_JOB", message=message)
    lake.instance.report_dagster_event(event, run_id, timestamp=None if at is None else at.timestamp())


def test_forty_runs_of_a_backfill_that_fail_alike_are_one_post(lake: Lake, desk: Desk, hook: Receiver) -> None:
    broken.update(day(number) for number in range(40))
    waiting = a_run(lake, dg.DagsterRunStatus.STARTED, "fragile")
    for number in range(40):
        lake.run_key(fragile, number)
        if number % 8 == 7:
            desk.tick(later=10)  # the backfill goes on for minutes
    assert hook.received == []
    run = lake.instance.get_run_by_id(waiting)
    assert run is not None
    lake.instance.report_run_canceled(run)
    desk.tick(later=15)
    desk.tick(later=15)
    (body,) = hook.received
    assert body["title"] == "fragile failed: 40 days in 40 runs"
    assert body["day_ranges"] == [[key(0), key(39)]]
    assert len(body["days"]) == 40
    assert (body["severity"], body["owners"], body["table"]) == ("alert", ["team:data"], "fragile")
    assert body["reason"] == f"ValueError: no rows for {key(0)}"
    assert body["run_url"] == f"{UI}/runs/{body['run_id']}"
    desk.tick(later=3600)
    assert len(hook.received) == 1


def test_forty_days_of_one_run_are_one_post_and_so_are_runs_that_join_it(
    lake: Lake, desk: Desk, hook: Receiver
) -> None:
    broken.update(day(number) for number in range(42))
    lake.run(fragile, 0, 39)
    lake.run_key(fragile, 40)
    desk.tick()
    lake.run_key(fragile, 41)
    desk.tick(later=15)
    desk.tick(later=15)
    assert titles(hook) == ["fragile failed: 42 days in 3 runs"]


def test_a_failure_is_told_once_whatever_restarts(tmp_path: Path, hook: Receiver) -> None:
    broken.add(day(1))
    for restart in range(3):
        with open_instance(tmp_path / "home") as instance:
            lake = Lake(tmp_path / "lake", instance)
            desk = Desk(lake, hook.url)
            desk.tick()
            if not restart:
                lake.run(fragile, 0, 3)
            desk.tick()
            desk.tick(later=20)
            desk.tick(later=20)
    assert titles(hook) == [f"fragile failed: {key(1)}"]


def test_what_was_stored_but_not_posted_is_posted_after_a_restart(tmp_path: Path) -> None:
    broken.add(day(0))
    with open_instance(tmp_path / "home") as instance:
        lake = Lake(tmp_path / "lake", instance)
        desk = Desk(lake, url_of_nobody())
        desk.tick()
        lake.run_key(fragile, 0)
        assert "1 to be delivered" in desk.tick(later=20)
    with webhook() as receiver, open_instance(tmp_path / "home") as instance:
        desk = Desk(Lake(tmp_path / "lake", instance), receiver.url, offset=timedelta(seconds=60))
        assert "1 messages delivered, 0 to be delivered" in desk.tick()
        assert desk.tick(later=3600).startswith("0 messages delivered")
    assert [(body["title"], body["attempt"]) for body in receiver.accepted] == [(f"fragile failed: {key(0)}", 2)]


def test_a_process_that_dies_after_the_post_repeats_it_with_the_same_id(
    lake: Lake, desk: Desk, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.add(day(0))
    lake.run_key(fragile, 0)
    desk.tick()
    storage = lake.instance.daemon_cursor_storage
    stored: list[bool] = []
    store = storage.set_cursor_values

    def dies_at_the_second(pairs: Any) -> None:
        stored.append(True)
        if len(stored) == 2:
            raise SystemExit
        store(pairs)

    monkeypatch.setattr(storage, "set_cursor_values", dies_at_the_second)
    with pytest.raises(SystemExit):
        desk.tick(later=20)
    monkeypatch.undo()
    desk.tick()
    desk.tick()
    first, second = hook.accepted
    assert first["id"] == second["id"]


def test_the_first_tick_tells_nothing_of_the_past(lake: Lake, hook: Receiver) -> None:
    broken.add(day(0))
    lake.run_key(fragile, 0)
    desk = Desk(lake, hook.url, offset=timedelta(seconds=FIRST_LOOK_SECONDS + 1))
    desk.tick()
    desk.tick(later=60)
    assert hook.received == []


def test_what_failed_while_the_daemon_was_down_is_told(lake: Lake, desk: Desk, hook: Receiver) -> None:
    broken.update([day(0), day(1)])
    lake.run(fragile, 0, 1)
    desk.tick(later=7200)
    assert titles(hook) == ["fragile failed: 2 days"]


def test_recovery_is_told_once_when_the_last_failed_day_is_there(lake: Lake, desk: Desk, hook: Receiver) -> None:
    broken.update(day(number) for number in range(3))
    lake.run(fragile, 0, 4)
    desk.tick(later=20)
    broken.clear()
    lake.run(fragile, 0, 1)
    desk.tick(later=15)
    assert titles(hook) == ["fragile failed: 3 days"]
    lake.run_key(fragile, 2)
    desk.tick(later=15)
    desk.tick(later=15)
    assert titles(hook) == ["fragile failed: 3 days", "fragile recovered: 3 days"]
    assert (hook.accepted[1]["severity"], hook.accepted[1]["verdict"]) == ("info", "recovered")
    broken.add(day(2))
    lake.run_key(fragile, 2)
    desk.tick(later=15)
    assert titles(hook)[2:] == [f"fragile failed: {key(2)}"]


def test_what_was_made_good_before_it_was_told_is_in_the_log_alone(
    lake: Lake, desk: Desk, hook: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    broken.add(day(0))
    lake.run_key(fragile, 0)
    broken.clear()
    lake.run_key(fragile, 0)
    desk.tick(later=20)
    assert hook.received == []
    assert "fragile failed: every day was committed before it was told" in capfd.readouterr().err


def test_the_verdict_makes_the_severity_and_a_page_is_told_at_once(lake: Lake, desk: Desk, hook: Receiver) -> None:
    a_run(lake, dg.DagsterRunStatus.STARTED, "full")
    lake.run(full, 0, 5)
    lake.run(locked_out, 0, 5)
    desk.tick()
    (page,) = hook.received
    assert (page["severity"], page["verdict"]) == ("page", "no space left")
    assert page["day_ranges"] == [[key(0), key(5)]]  # the days that were not attempted are not there either
    desk.tick(later=20)
    alert = hook.received[1]
    assert (alert["severity"], alert["verdict"]) == ("alert", "access denied")
    assert alert["reason"] == "AccessDenied: the token is not accepted"


def test_warnings_of_a_check_that_alerts_are_one_message_and_others_none(
    lake: Lake, desk: Desk, hook: Receiver
) -> None:
    broken.update(day(number) for number in range(5))
    lake.run(rejecting, 0, 6)
    lake.run_key(rejecting, 0)
    lake.run_key(rejecting, 6)
    desk.tick(later=20)
    desk.tick(later=20)
    (body,) = hook.received
    assert body["title"] == "rejecting: check is_odd warns: 5 days in 2 runs"
    assert (body["verdict"], body["owners"]) == ("check is_odd", ["team:landing"])
    assert body["reason"].startswith(f"{key(0)}: 27 of 100 rows rejected (13.50%)")
    assert desk.tick(later=3600).endswith("0 causes held back for now")
    assert len(hook.received) == 1


def test_a_run_whose_worker_died_is_told_with_its_days(lake: Lake, desk: Desk, hook: Receiver) -> None:
    tags = {RANGE_START: key(3), RANGE_END: key(5)}
    dead = a_run(lake, dg.DagsterRunStatus.STARTED, "fragile", "full", tags=tags)
    fails(lake, dead, message=f"the worker of run {dead} is gone")
    desk.tick(later=20)
    (body,) = hook.received
    assert body["title"] == "a run of fragile died: 3 days"
    assert (body["verdict"], body["run_id"]) == ("run died", dead)
    assert body["reason"] == f"the worker of run {dead} is gone It was a run of 2 tables."
    assert body["day_ranges"] == [[key(3), key(5)]]


def test_a_run_that_a_person_canceled_or_interrupted_is_none(lake: Lake, desk: Desk, hook: Receiver) -> None:
    canceled = a_run(lake, dg.DagsterRunStatus.STARTED, "fragile")
    run = lake.instance.get_run_by_id(canceled)
    assert run is not None
    lake.instance.report_run_canceled(run)
    defs = dg.Definitions([stopped], resources={"io_manager": lake.manager})
    assert was_interrupted(execute(defs, PlannedRun((dg.AssetKey("stopped"),), day(0), day(0)), lake.instance))
    desk.tick(later=60)
    assert hook.received == []


def test_runs_of_other_peoples_assets_are_none_of_ours(lake: Lake, desk: Desk, hook: Receiver) -> None:
    fails(lake, a_run(lake, dg.DagsterRunStatus.STARTED, "somebody_elses"))
    desk.tick(later=60)
    assert hook.received == []


def test_a_run_that_dagster_retries_is_told_only_if_it_does_not(lake: Lake, desk: Desk, hook: Receiver) -> None:
    runs = {
        name: a_run(lake, dg.DagsterRunStatus.STARTED, "fragile", number=number, tags={"dagster/will_retry": "true"})
        for number, name in enumerate(["retried", "not retried", "forgotten"])
    }
    for run_id in runs.values():
        fails(lake, run_id)
    desk.tick(later=60)
    lake.instance.add_run_tags(runs["retried"], {"dagster/auto_retry_run_id": "another"})
    lake.instance.add_run_tags(runs["not retried"], {"dagster/will_retry": "false"})
    assert hook.received == []
    desk.tick(later=60)
    assert titles(hook) == [f"a run of fragile died: {key(1)}"]
    desk.tick(later=RETRY_SECONDS)
    desk.tick(later=72_000)
    assert titles(hook)[1:] == ["a run of fragile died: 2 days in 2 runs"]


def test_a_failure_of_which_dagster_has_not_said_yet_whether_it_retries_is_waited_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("run_retries: {enabled: true, max_retries: 1}\ntelemetry: {enabled: false}\n")
    with webhook() as receiver, open_instance(home) as instance:
        lake = Lake(tmp_path / "lake", instance)
        desk = Desk(lake, receiver.url)
        desk.tick()
        run_id = a_run(lake, dg.DagsterRunStatus.FAILURE, "fragile")  # as after the status, before the tag
        assert desk.tick().endswith("0 causes held back for now")
        instance.add_run_tags(run_id, {"dagster/will_retry": "false"})
        assert desk.tick().endswith("1 causes held back for now")
        desk.tick(later=20)
        assert titles(receiver) == [f"a run of fragile died: {key(0)}"]


def test_runs_that_end_at_one_moment_or_are_seen_late_are_looked_at_once_each(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_runs, "RUNS_PER_LOOK", 2)
    now = datetime.now(UTC)

    def ends(seconds: float) -> str:
        run_id = a_run(lake, dg.DagsterRunStatus.STARTED, "fragile")
        fails(lake, run_id, now + timedelta(seconds=seconds))
        return run_id

    def look(known: SeenRuns) -> tuple[list[str], SeenRuns]:
        records, known = finished_runs(lake.instance, known, now=now + timedelta(seconds=300))
        return [record.dagster_run.run_id for record in records], known

    runs = [ends(10), ends(10), ends(10), ends(20)]
    first, known = look(SeenRuns.first(now))
    second, known = look(known)
    assert sorted(first + second) == sorted(runs)
    late = ends(5)
    found, known = look(known)
    assert found == [late]
    assert look(known)[0] == []
    newer = ends(250)
    assert look(known)[0] == [newer]
    assert set(look(known)[1].known) == {newer}  # what is out of the overlap is forgotten


def test_a_run_that_was_deleted_is_waited_for_no_more(lake: Lake) -> None:
    now = datetime.now(UTC)
    run_id = a_run(lake, dg.DagsterRunStatus.STARTED, "fragile", tags={"dagster/will_retry": "true"})
    fails(lake, run_id)
    _, known = finished_runs(lake.instance, SeenRuns.first(now), now=now)
    assert set(known.to_be_retried) == {run_id}
    lake.instance.delete_run(run_id)
    assert finished_runs(lake.instance, known, now=now)[1].to_be_retried == {}


def test_a_clock_that_is_ahead_hides_no_other_run(lake: Lake) -> None:
    now = datetime.now(UTC)
    ahead, normal = (a_run(lake, dg.DagsterRunStatus.STARTED, "fragile") for _ in range(2))
    fails(lake, ahead, now + timedelta(hours=5))
    records, known = finished_runs(lake.instance, SeenRuns.first(now), now=now)
    fails(lake, normal, now + timedelta(seconds=1))
    later, known = finished_runs(lake.instance, known, now=now + timedelta(seconds=15))
    assert [each.dagster_run.run_id for each in (*records, *later)] == [ahead, normal]
    assert finished_runs(lake.instance, known, now=now + timedelta(hours=6))[0] == []


def sla(missed: Sequence[date]) -> Callable[..., list[Alert]]:
    def sla_alerts(_: dg.SensorEvaluationContext, __: datetime, told: Container[str]) -> list[Alert]:
        alerts = [
            Alert(f"sla/{each}", Severity.ALERT, f"{each} missed", "fragile", [each], "missing", f"{each} is not there")
            for each in missed
        ]
        return [
            *alerts,
            *(
                replace(each, key=f"{each.key}/recovered", severity=Severity.INFO, verdict="late")
                for each in alerts
                if each.key in told
            ),
        ]

    return sla_alerts


def test_gathered_alerts_are_told_once_a_key_however_often_they_are_gathered(lake: Lake, hook: Receiver) -> None:
    missed = [day(0)]
    desk = Desk(lake, hook.url, gather=[sla(missed)])
    desk.tick()
    assert titles(hook) == [f"{key(0)} missed"]
    desk.tick(later=15)
    assert [body["severity"] for body in hook.accepted] == ["alert", "info"]
    missed += [day(1), day(2)]
    for _ in range(3):
        desk.tick(later=86_400)
    assert titles(hook)[2:] == ["fragile: missing: 2 days", "fragile: late: 2 days"]


def test_a_missed_deadline_and_its_recovery_arrive_once_each(past: Past, hook: Receiver) -> None:
    clock = [promised.NOW]
    sla = sla_sensor(promised.WATCHED, clock=lambda: clock[0])
    sensor = alerts_sensor(
        dagster_url=UI,
        channels=[Webhook(hook.url, Links(UI))],
        gather=[missed_slas(promised.WATCHED)],
        now=lambda: clock[0],
    )
    promised.known(past, 28)
    cursor = None

    def ticks(now: datetime) -> None:
        nonlocal cursor
        clock[0] = now
        found = sla(dg.build_sensor_context(past.instance, cursor=cursor))
        assert isinstance(found, dg.SensorResult)
        cursor = found.cursor
        for event in found.asset_events:
            assert isinstance(event, dg.AssetCheckEvaluation)
            past.instance.report_runless_asset_event(event)
        for _ in range(2):
            sensor(dg.build_sensor_context(past.instance, definitions=promised.WATCHED, sensor_name="alerts"))

    last = promised.day(29)
    ticks(at(last, "05:31"))
    ticks(at(last, "07:00"))
    past.report("landing", last, at(last, "07:00"))
    promised.run(past, "events", 29, "07:01", "07:01", "07:05")
    promised.run(past, "sales", 29, "07:06", "07:06", "07:10")
    ticks(at(last, "07:15"))
    ticks(at(last, "09:00"))
    told = [(body["severity"], body["title"], body["day_ranges"]) for body in hook.accepted]
    days = [[str(last), str(last)]]
    assert told == [
        ("alert", f"events {last} missed its deadline", days),
        ("alert", f"sales {last} missed its deadline", days),
        ("info", f"events {last} is there", days),
        ("info", f"sales {last} is there", days),
    ]
    assert hook.accepted[0]["owners"] == ["team:shop"]


def test_a_gatherer_that_raises_stops_nothing_and_fails_the_tick(
    lake: Lake, hook: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    def bad(*_: object) -> list[Alert]:
        raise LookupError("the ledger is gone")

    desk = Desk(lake, hook.url, gather=[bad, sla([day(0)])])
    broken.add(day(0))
    lake.run_key(fragile, 0)
    with pytest.raises(PipelineError, match="bad could not be gathered: LookupError: the ledger is gone"):
        desk.tick(later=20)
    assert titles(hook) == [f"fragile failed: {key(0)}", f"{key(0)} missed"]
    assert "in bad\n    raise LookupError(" in capfd.readouterr().err
    with pytest.raises(PipelineError):
        desk.tick()
    assert len([title for title in titles(hook) if "failed" in title]) == 1


def test_a_webhook_that_fails_is_tried_again_later_and_only_then(lake: Lake) -> None:
    broken.add(day(0))
    with webhook(Reply(500), Reply(503, {"Retry-After": "300"}), Reply()) as receiver:
        desk = Desk(lake, receiver.url)
        result = lake.run_key(fragile, 0)
        assert not result.success  # by its own failure; no run knows of webhooks
        assert "0 messages delivered, 1 to be delivered" in desk.tick(later=20)
        assert len(receiver.received) == 1
        desk.tick()  # too early
        assert len(receiver.received) == 1
        desk.tick(later=16)
        assert len(receiver.received) == 2
        desk.tick(later=290)
        assert len(receiver.received) == 2
        assert desk.tick(later=20).startswith("1 messages delivered, 0 to be delivered")
        desk.tick(later=LONGEST_DELAY_SECONDS)
    assert len({body["id"] for body in receiver.received}) == 1
    assert len(receiver.received) == 3
    assert len(receiver.accepted) == 1


def test_a_webhook_that_is_down_is_asked_once_a_tick(lake: Lake) -> None:
    with webhook(Reply(500)) as receiver:
        desk = Desk(lake, receiver.url)
        lake.run(full, 0)
        lake.run(locked_out, 0)
        assert "2 to be delivered" in desk.tick(later=20)
    assert [body["severity"] for body in receiver.received] == ["page"]


@dataclass
class Pigeon:
    """A channel that answers as it is told to, or raises."""

    name: str
    answers: list[Answer | Exception]
    carried: list[str] = field(default_factory=list)

    def deliver(self, message: Message, *, now: datetime) -> Answer:
        self.carried.append(message.alert.title)
        answer = self.answers.pop(0) if self.answers else Answer(PostOutcome.DELIVERED, "carried")
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_every_channel_gets_every_message_and_one_that_is_down_holds_up_no_other(lake: Lake, hook: Receiver) -> None:
    pigeon = Pigeon("pigeon", [Answer(PostOutcome.TRY_AGAIN, "a storm", retry_after_seconds=60)])
    desk = Desk(lake, hook.url, others=[pigeon])
    lake.run(full, 0)
    lake.run(locked_out, 0)
    assert desk.tick(later=20).startswith("2 messages delivered, 2 to be delivered")
    desk.tick(later=20)  # too early
    assert len(pigeon.carried) == 1
    assert desk.tick(later=60).startswith("2 messages delivered, 0 to be delivered")
    assert sorted(pigeon.carried[1:]) == sorted(titles(hook))


def test_a_channel_that_raises_fails_the_tick_and_is_tried_again(lake: Lake, hook: Receiver) -> None:
    pigeon = Pigeon("pigeon", [ValueError("no wings")])
    desk = Desk(lake, hook.url, others=[pigeon])
    lake.run(full, 0)
    with pytest.raises(PipelineError, match=r"not delivered: .*: the channel pigeon raised ValueError: no wings"):
        desk.tick(later=20)
    assert len(hook.accepted) == 1
    assert desk.tick(later=20).startswith("1 messages delivered, 0 to be delivered")
    assert len(pigeon.carried) == 2
    assert len(hook.received) == 1


def test_two_channels_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two channels have one name: pigeon, pigeon"):
        alerts_sensor(dagster_url=UI, channels=[Pigeon("pigeon", []), Pigeon("pigeon", [])])


def test_messages_that_were_stored_while_there_were_only_webhooks_are_delivered(lake: Lake) -> None:
    slot = "pipeline_assets/alerts/__repository__"
    storage = lake.instance.daemon_cursor_storage
    with webhook(Reply(500)) as receiver:
        desk = Desk(lake, receiver.url)
        lake.run(full, 0)
        assert "1 to be delivered" in desk.tick(later=20)
    stored = json.loads(storage.get_cursor_values({slot})[slot])
    stored["outbox"] = stored.pop("outboxes")["webhook"]
    storage.set_cursor_values({slot: json.dumps(stored)})
    with webhook() as receiver:
        later = Desk(lake, receiver.url, offset=desk.offset)
        assert later.tick(later=20).startswith("1 messages delivered, 0 to be delivered")


def test_deliveries_end_when_the_time_of_a_tick_is_up(lake: Lake, hook: Receiver) -> None:
    clock = iter([0.0, 0.0, 21.0, 100.0, 100.0])
    desk = Desk(lake, hook.url, how={"monotonic": lambda: next(clock)})
    lake.run(full, 0)
    lake.run(locked_out, 0)
    assert desk.tick(later=20).startswith("1 messages delivered, 1 to be delivered")
    assert desk.tick().startswith("1 messages delivered, 0 to be delivered")


def test_a_refusal_is_shown_and_not_repeated(lake: Lake) -> None:
    broken.add(day(0))
    with webhook(Reply(404, body="no_service"), Reply()) as receiver:
        desk = Desk(lake, receiver.url)
        lake.run_key(fragile, 0)
        with pytest.raises(PipelineError, match=f"not tried again: fragile failed: {key(0)}: .* 404: no_service"):
            desk.tick(later=20)
        assert desk.tick(later=3600).startswith("0 messages delivered, 0 to be delivered")
    assert len(receiver.received) == 1


def test_without_a_webhook_alerts_are_in_the_log(lake: Lake, capfd: pytest.CaptureFixture[str]) -> None:
    broken.add(day(0))
    desk = Desk(lake, None)
    lake.run_key(fragile, 0)
    capfd.readouterr()
    desk.tick(later=20)
    (told,) = [told for told in capfd.readouterr().err.splitlines() if "fragile failed" in told]
    assert f"WARNING - __repository__ - alerts - [alert] fragile failed: {key(0)} | verdict: not named" in told
    assert f"reason: ValueError: no rows for {key(0)} | days: {key(0)} | owner: team:data | {UI}/runs/" in told
    assert desk.tick(later=20).startswith("0 messages delivered, 0 to be delivered, 0 causes")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("reply", [Reply(), Reply(500, echoes=True), Reply(403, echoes=True)])
def test_the_secret_is_in_no_log_error_or_storage(
    reply: Reply, lake: Lake, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    broken.add(day(0))
    said = ""
    with webhook(reply) as receiver:
        desk = Desk(lake, receiver.url)
        lake.run_key(fragile, 0)
        try:
            said = desk.tick(later=20)
        except PipelineError as error:
            said = f"{error!r} {error}"
        assert len(receiver.received) == 1
    slot = "pipeline_assets/alerts/__repository__"
    stored = lake.instance.daemon_cursor_storage.get_cursor_values({slot})[slot]
    everything = "".join([said, caplog.text, stored, *capfd.readouterr()])
    for secret in SECRET.split("/"):
        assert secret not in everything


def test_a_memory_that_cannot_be_read_is_said_and_begun_anew(lake: Lake, desk: Desk, hook: Receiver) -> None:
    slot = "pipeline_assets/alerts/__repository__"
    lake.instance.daemon_cursor_storage.set_cursor_values({slot: '{"looked_at": 7}'})
    broken.add(day(0))
    lake.run_key(fragile, 0)
    with pytest.raises(PipelineError, match="cannot be read and is begun anew"):
        desk.tick()
    desk.tick(later=20)
    assert titles(hook) == [f"fragile failed: {key(0)}"]


def test_a_tick_in_which_nothing_happened_stores_nothing(
    lake: Lake, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.tick()
    stored: list[object] = []
    monkeypatch.setattr(lake.instance.daemon_cursor_storage, "set_cursor_values", stored.append)
    desk.tick(later=15)
    assert stored == []
