"""A miss is put down to the first thing on its way that came too late for a run of usual length."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.rules.delivery import (
    FirstCommit,
    RunAttempt,
    Timeline,
    day_counts,
    delivery_of,
    span,
    status_of,
    usual_seconds,
)
from pipeline_assets.rules.due import by
from pipeline_assets.rules.sla import Cause, Delivery, DeliveryStatus

DAY = date(2026, 11, 19)
DUE = by("06:00", timezone="UTC", warn="05:30")
DEADLINE = datetime(2026, 11, 20, 6, tzinfo=UTC)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at(clock: str) -> datetime:
    """A time of the morning of the deadline."""
    return datetime.combine(DEADLINE.date(), time.fromisoformat(clock), UTC)


def run(asked: str, started: str | None = None, ended: str | None = None, *, failed: bool = False) -> RunAttempt:
    """An attempt of that morning."""
    name = f"{asked.replace(':', '')}aaaaaaaaaa"
    return RunAttempt(name, at(asked), at(started) if started else None, at(ended) if ended else None, failed)


def judged(
    *attempts: RunAttempt,
    inputs: dict[str, str | None] | None = None,
    came: str | None = None,
    now: datetime = NOON,
    usual: float | None = 600,
) -> Delivery:
    """The day, whose inputs came at 02:00 unless stated; runs usually take ten minutes."""
    arrived = {"events": "02:00"} if inputs is None else inputs
    timeline = Timeline({name: at(when) if when else None for name, when in arrived.items()}, attempts)
    commit = FirstCommit(at(came), 60.0, "cccccccccc") if came else None
    return delivery_of("sales", DUE, DAY, commit, timeline, now=now, usual_seconds=usual)


@pytest.mark.parametrize(
    ("came", "now", "status"),
    [
        (None, "05:29:59", DeliveryStatus.NOT_DUE),
        (None, "05:30:00", DeliveryStatus.WARNED),
        (None, "06:00:00", DeliveryStatus.WARNED),
        (None, "06:00:01", DeliveryStatus.MISSING),
        ("02:00", "03:00", DeliveryStatus.ON_TIME),
        ("06:00:00", "12:00", DeliveryStatus.ON_TIME),
        ("06:00:01", "12:00", DeliveryStatus.LATE),
    ],
)
def test_a_partition_stands_so(came: str | None, now: str, status: DeliveryStatus) -> None:
    commit = FirstCommit(at(came)) if came else None

    assert status_of(DUE, DAY, commit, at(now)) is status


def test_without_a_warning_there_is_none() -> None:
    assert status_of(by("06:00", timezone="UTC"), DAY, None, at("05:59")) is DeliveryStatus.NOT_DUE


@pytest.mark.parametrize("seconds", [0.0, 60.0, 3600.0])
def test_it_does_not_matter_when_somebody_looks(seconds: float) -> None:
    late = judged(run("05:55", "05:56"), came="07:00", now=NOON)

    assert replace(judged(run("05:55", "05:56"), came="07:00", now=NOON + timedelta(seconds=seconds))) == late
    assert (late.late_seconds, late.delivered, late.duration_seconds) == (3600, at("07:00"), 60)


def test_a_partition_on_time_has_no_cause() -> None:
    delivery = judged(run("05:00", "05:01", "05:30", failed=True), came="05:59", inputs={"events": None})

    assert delivery == Delivery(
        "sales", DAY, DEADLINE, DeliveryStatus.ON_TIME, at("05:59"), duration_seconds=60, run_id="cccccccccc"
    )


LATE_UPSTREAM = Cause.UPSTREAM_LATE
CASES: dict[str, tuple[Delivery, Cause, str]] = {
    "upstream is missing": (judged(inputs={"events": None}), LATE_UPSTREAM, "Waited for events, which is not there."),
    "upstream came after the deadline": (
        judged(run("03:00", "03:01"), inputs={"events": "06:20", "landing": "01:00"}, came="06:30"),
        LATE_UPSTREAM,
        "Waited for events, which came at 06:20.",
    ),
    "two inputs are late": (
        judged(inputs={"events": "06:20", "landing": None}),
        LATE_UPSTREAM,
        "Waited for events, which came at 06:20 and landing, which is not there.",
    ),
    "upstream came too late for a usual run": (
        judged(run("05:50", "05:51"), inputs={"events": "05:49"}, came="06:01"),
        LATE_UPSTREAM,
        "Waited for events, which came at 05:49, too late for a run of usual length (15 min).",
    ),
    "a failed run is not put down to inputs that were there in time for another one": (
        judged(run("05:50", "05:51", "05:52", failed=True), inputs={"events": "05:49"}),
        Cause.FAILED,
        "Run 0550aaaa failed at 05:52.",
    ),
    "a run failed before its inputs were there": (
        judged(run("01:00", "01:00", "01:01", failed=True)),
        Cause.NEVER_REQUESTED,
        "No run had been asked for it; its inputs were there at 02:00.",
    ),
    "nobody asked": (judged(), Cause.NEVER_REQUESTED, "No run had been asked for it; its inputs were there at 02:00."),
    "nobody asked for a table without inputs": (
        judged(inputs={}),
        Cause.NEVER_REQUESTED,
        "No run had been asked for it.",
    ),
    "asked for after the deadline": (
        judged(run("06:10", "06:11"), came="06:30"),
        Cause.NEVER_REQUESTED,
        "No run had been asked for it; its inputs were there at 02:00.",
    ),
    "asked for too late": (
        judged(run("05:50", "05:51"), came="06:01"),
        Cause.NEVER_REQUESTED,
        "Run 0550aaaa was only asked for at 05:50; its inputs were there at 02:00.",
    ),
    "a run that ended without it does not count": (
        judged(run("03:00", "03:01", "03:02")),
        Cause.NEVER_REQUESTED,
        "No run had been asked for it; its inputs were there at 02:00.",
    ),
    "not started": (judged(run("02:05")), Cause.QUEUED, "Run 0205aaaa, asked for at 02:05, had not started."),
    "started after the deadline": (
        judged(run("02:05", "06:10"), came="06:20"),
        Cause.QUEUED,
        "Run 0205aaaa, asked for at 02:05, only started at 06:10.",
    ),
    "started too late for a usual run": (
        judged(run("02:05", "05:50"), came="06:01"),
        Cause.QUEUED,
        "Run 0205aaaa, asked for at 02:05, only started at 05:50.",
    ),
    "runs long": (
        judged(run("02:05", "02:06")),
        Cause.RUNNING_LONG,
        "Run 0205aaaa was running since 02:06; other days took 10 min.",
    ),
    "runs long, and nobody knows what is usual": (
        judged(run("05:50", "05:51"), usual=None),
        Cause.RUNNING_LONG,
        "Run 0550aaaa was running since 05:51.",
    ),
    "runs long, another one waits": (
        judged(run("02:05", "02:06"), run("02:06")),
        Cause.RUNNING_LONG,
        "Run 0205aaaa was running since 02:06; other days took 10 min.",
    ),
    "failed": (judged(run("02:05", "02:06", "02:20", failed=True)), Cause.FAILED, "Run 0205aaaa failed at 02:20."),
    "failed, and tried again": (
        judged(
            run("02:05", "02:06", "02:20", failed=True),
            run("03:05", "03:06", "03:20", failed=True),
            run("05:59", "05:59", "06:20"),
            came="06:20",
        ),
        Cause.FAILED,
        "Run 0205aaaa failed at 02:20, and 1 more after it.",
    ),
    "failed after the deadline": (
        judged(run("02:05", "02:06", "06:20", failed=True)),
        Cause.RUNNING_LONG,
        "Run 0205aaaa was running since 02:06; other days took 10 min.",
    ),
    "days ago": (
        judged(replace(run("02:05"), requested=DEADLINE - timedelta(days=1))),
        Cause.QUEUED,
        "Run 0205aaaa, asked for at 2026-11-19 06:00, had not started.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_miss_has_this_cause(case: str) -> None:
    delivery, cause, detail = CASES[case]

    assert (delivery.cause, delivery.detail) == (cause, detail)


def test_times_in_a_sentence_are_those_of_the_clock_that_the_promise_was_made_on() -> None:
    due = by("06:00", timezone="Asia/Kathmandu")
    asked = RunAttempt("aaaaaaaa", due.deadline(DAY) - timedelta(hours=3))
    delivery = delivery_of("sales", due, DAY, None, Timeline({}, [asked]), now=NOON, usual_seconds=None)

    assert delivery.detail == "Run aaaaaaaa, asked for at 03:00, had not started."


def test_a_missing_partition_is_broken_while_its_newest_run_has_failed() -> None:
    failed = run("05:50", "05:51", "06:30", failed=True)

    assert judged(failed).status is DeliveryStatus.BROKEN
    assert judged(failed, run("06:40", "06:41")).status is DeliveryStatus.MISSING
    assert judged(run("06:40", "06:41"), failed).status is DeliveryStatus.MISSING, "in whatever order"
    assert judged(run("05:50", "05:51")).status is DeliveryStatus.MISSING
    assert judged(failed, came="06:50").status is DeliveryStatus.LATE


def test_the_run_of_a_miss_is_the_one_that_made_it_or_else_the_newest() -> None:
    assert judged(run("05:50"), run("06:40")).run_id == "0640aaaaaaaaaa"
    assert judged(run("05:50"), run("06:40"), came="06:45").run_id == "cccccccccc"
    assert judged().run_id is None


def test_lateness_of_what_is_missing_grows() -> None:
    assert judged(now=at("06:30")).late_seconds == 1800
    assert judged(now=at("07:30")).late_seconds == 5400


CLOCK = st.integers(1, 12 * 3600 - 1).map(lambda seconds: datetime(2026, 11, 20, tzinfo=UTC) + seconds * SECOND)


@st.composite
def attempts(draw: st.DrawFn) -> RunAttempt:
    """Asked for, started, ended, in this order, or not."""
    asked, started, ended = sorted(draw(st.tuples(CLOCK, CLOCK, CLOCK)))
    far = draw(st.integers(0, 2))
    return RunAttempt(
        str(draw(st.integers(0, 99))),
        asked,
        started if far > 0 else None,
        ended if far > 1 else None,
        failed=far > 1 and draw(st.booleans()),
    )


@given(
    inputs=st.dictionaries(st.sampled_from("abc"), st.none() | CLOCK),
    runs=st.lists(attempts(), max_size=4),
    usual=st.none() | st.floats(0, 7200),
    came=st.none() | CLOCK.filter(lambda instant: instant > DEADLINE),
)
def test_every_miss_has_a_cause_and_what_happened_after_the_deadline_does_not_change_it(
    inputs: dict[str, datetime | None], runs: list[RunAttempt], usual: float | None, came: datetime | None
) -> None:
    commit = FirstCommit(came) if came else None
    whole = delivery_of("sales", DUE, DAY, commit, Timeline(inputs, runs), now=NOON, usual_seconds=usual)
    then = Timeline(
        {name: instant if instant and instant <= DEADLINE else None for name, instant in inputs.items()},
        [
            replace(
                each,
                started=each.started if each.started and each.started <= DEADLINE else None,
                ended=each.ended if each.ended and each.ended <= DEADLINE else None,
                failed=each.failed and each.ended is not None and each.ended <= DEADLINE,
            )
            for each in runs
            if each.requested <= DEADLINE
        ],
    )

    assert whole.cause is not None
    assert whole.detail.endswith(".")
    assert whole.cause == delivery_of("sales", DUE, DAY, None, then, now=DEADLINE + SECOND, usual_seconds=usual).cause
    assert whole.late_seconds == ((came or NOON) - DEADLINE).total_seconds()
    if whole.cause is Cause.QUEUED or whole.cause is Cause.RUNNING_LONG or whole.cause is Cause.FAILED:
        assert any(each.requested <= DEADLINE for each in runs)
    if any(instant is None or instant > DEADLINE for instant in inputs.values()):
        assert whole.cause is Cause.UPSTREAM_LATE


def test_a_new_table_is_not_judged_for_the_days_before_it() -> None:
    assert not day_counts(DUE, DAY, None)
    assert not day_counts(DUE, DAY, DEADLINE + SECOND)
    assert not day_counts(DUE, DAY, DEADLINE)
    assert day_counts(DUE, DAY, DEADLINE - SECOND)


def test_a_promise_with_a_first_day_is_judged_from_that_day_on_however_new_the_table_is() -> None:
    due = by("06:00", timezone="UTC", since=DAY)

    assert day_counts(due, DAY, None)
    assert day_counts(due, DAY, NOON)
    assert not day_counts(due, DAY - timedelta(days=1), None)


def test_a_holiday_is_not_judged() -> None:
    due = by("06:00", timezone="UTC", holidays=[DAY])

    assert not day_counts(due, DAY, DEADLINE - timedelta(days=9))


def test_what_is_usual_is_the_median_of_the_other_days() -> None:
    def made(*seconds: float | None) -> dict[date, FirstCommit]:
        return {DAY + timedelta(days=n): FirstCommit(NOON, each) for n, each in enumerate(seconds)}

    assert usual_seconds(made(900, 10, 20, 600), apart_from=DAY) == 20
    assert usual_seconds(made(900, 10, None, 20), apart_from=DAY) == 15
    assert usual_seconds(made(900, None), apart_from=DAY) is None
    assert usual_seconds({}, apart_from=DAY) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h 00 min"),
        (11100, "3 h 05 min"),
        (172800, "2 d 0 h"),
        (187200, "2 d 4 h"),
    ],
)
def test_a_span_is_said_in_two_units_at_most(seconds: float, words: str) -> None:
    assert span(seconds) == words
