"""What alerts of one cause have in common, and when a cause is told: never too often, never not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.rules.alerts import (
    REASON_CHARACTERS,
    TITLE_CHARACTERS,
    Alert,
    Severity,
    cause_of,
    folded,
    loudest,
    pattern_of,
    shortened,
)
from pipeline_assets.rules.troubles import (
    CAUSES_OF_A_TABLE,
    HOLD_SECONDS,
    KEPT_SECONDS,
    QUIET_SECONDS,
    REMIND_SECONDS,
    SETTLE_SECONDS,
    Incident,
    Trouble,
    mended,
    note,
    settle,
)

START = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
DAYS = [date(2026, 10, 1) + timedelta(days=number) for number in range(40)]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def alert(
    *days: date,
    reason: str = "disk on fire",
    severity: Severity = Severity.ALERT,
    table: str = "events",
    run: str = "r",
) -> Alert:
    return Alert(
        f"run|{run}", severity, f"{table} failed", table, days, "bug", reason, owners=["team:data"], run_id=run
    )


def incident(seconds: float, *days: date, overdue: float | None = None, ends: bool = True, **how: object) -> Incident:
    told = alert(*days, **how)  # type: ignore[arg-type]
    return Incident(told, at(seconds), ends, None if overdue is None else at(overdue))


@dataclass
class Watch:
    """Troubles as they go from tick to tick."""

    troubles: dict[str, Trouble] = field(default_factory=dict)
    unsaid: list[str] = field(default_factory=list)

    def happens(self, *incidents: Incident) -> None:
        for each in incidents:
            self.troubles = note(self.troubles, each)

    def commits(self, seconds: float, *days: date) -> None:
        times = dict.fromkeys(days, at(seconds))
        self.troubles = {cause: mended(trouble, times) for cause, trouble in self.troubles.items()}

    def tick(self, seconds: float, *, busy: Sequence[str] = ()) -> Sequence[Alert]:
        settled = settle(self.troubles, now=at(seconds), busy=busy)
        self.troubles = dict(settled.troubles)
        self.unsaid += settled.unsaid
        return settled.messages


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2026-11-20: no rows", "2026-11-21: no rows"),
        ("run 2f1c8a7e-5f0b-4d5e-9c1a-0123456789ab died", "run 99999999-5f0b-4d5e-9c1a-0123456789ab died"),
        ("head is 9f86d081884c7d65, seen was 2c26b46b", "head is a3c1, seen was 77ff"),
        ("60 of 1,000 rows rejected (6.00%)", "7 of 9 rows rejected (77.78%)"),
        ("days 2026-11-01, 2026-11-02 and 2026-11-03 are missing", "days 2026-11-07 are missing"),
        ("KeyError: 'u4711'", "KeyError: 'u1'"),
        ("landing/dt=2026-11-20/part-1.csv is cut off", "landing/dt=2026-11-21/part-22.csv is cut off"),
    ],
)
def test_what_differs_by_day_or_run_makes_no_other_cause(one: str, other: str) -> None:
    assert pattern_of(one) == pattern_of(other)


def test_other_words_another_table_or_another_verdict_make_another_cause() -> None:
    first = alert(DAYS[0], reason="column amount is null")
    others = [
        alert(DAYS[0], reason="column user_id is null"),
        alert(DAYS[0], reason="column amount is null", table="daily_sales"),
        replace(first, verdict="contract broken"),
    ]
    assert len({cause_of(each) for each in (first, *others)}) == 4


def test_the_loudest_severity_is_page() -> None:
    assert loudest(Severity.INFO, Severity.PAGE, Severity.ALERT) is Severity.PAGE
    assert loudest(Severity.ALERT, Severity.INFO) is Severity.ALERT


def test_forty_runs_over_minutes_are_one_message_that_names_every_day_and_the_count() -> None:
    watch = Watch()
    told: list[Alert] = []
    for number, day in enumerate(DAYS):  # one every 20 seconds, for more than 13 minutes
        watch.happens(incident(number * 20, day, reason=f"{day}: no rows", run=f"run{number}"))
        told += watch.tick(number * 20 + 19, busy=["events"])
    assert told == []
    (message,) = watch.tick(39 * 20 + 30)
    assert message.title == "events failed: 40 days in 40 runs"
    assert list(message.days) == DAYS
    assert message.run_id == "run0"
    assert watch.tick(3600) == []


def test_a_single_failure_is_told_at_the_next_tick_and_its_title_names_the_day() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0]))
    assert watch.tick(QUIET_SECONDS - 1) == []
    (message,) = watch.tick(QUIET_SECONDS)
    assert message.title == f"events failed: {DAYS[0]}"


def test_a_page_does_not_wait() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0], severity=Severity.PAGE))
    (message,) = watch.tick(0, busy=["events"])
    assert message.severity is Severity.PAGE


def test_a_page_takes_along_what_was_held_and_is_told_even_after_an_alert() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0]), incident(1, DAYS[1], severity=Severity.PAGE), incident(2, DAYS[2]))
    (message,) = watch.tick(2, busy=["events"])
    assert (message.severity, list(message.days)) == (Severity.PAGE, DAYS[:3])
    watch = Watch()
    watch.happens(incident(0, DAYS[0]))
    assert [each.severity for each in watch.tick(60)] == [Severity.ALERT]
    watch.happens(incident(61, DAYS[1], severity=Severity.PAGE))
    assert [each.severity for each in watch.tick(62)] == [Severity.PAGE]


def test_runs_that_hang_do_not_hold_a_message_for_ever() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0]))
    assert watch.tick(SETTLE_SECONDS - 1, busy=["events"]) == []
    assert len(watch.tick(SETTLE_SECONDS, busy=["events"])) == 1


def test_failures_that_never_cease_are_told_after_the_longest_hold() -> None:
    watch = Watch()
    told = []
    for seconds in range(0, HOLD_SECONDS + 60, 30):
        watch.happens(incident(seconds, DAYS[seconds // 30]))
        told += [(seconds, each) for each in watch.tick(seconds, busy=["events"])]
    ((seconds, message),) = told
    assert seconds == HOLD_SECONDS
    assert len(message.days) == HOLD_SECONDS // 30 + 1


def test_a_cause_that_goes_on_is_told_again_the_next_morning_and_nothing_of_it_is_lost() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0]))
    assert len(watch.tick(60)) == 1
    watch.happens(incident(600, DAYS[1]))
    assert watch.tick(REMIND_SECONDS) == []
    (message,) = watch.tick(60 + REMIND_SECONDS)
    assert list(message.days) == DAYS[:2]
    assert watch.tick(60 + 2 * REMIND_SECONDS) == []  # nothing new


def test_recovery_is_told_once_when_every_day_was_committed_since() -> None:
    watch = Watch()
    watch.happens(incident(0, *DAYS[:3]))
    assert len(watch.tick(60)) == 1
    watch.commits(70, DAYS[0], DAYS[2])
    assert watch.tick(80) == []
    watch.commits(90, DAYS[1])
    (message,) = watch.tick(100)
    assert (message.severity, message.verdict) == (Severity.INFO, "recovered")
    assert message.title == "events recovered: 3 days"
    assert list(message.days) == DAYS[:3]
    assert "disk on fire" in message.reason
    assert watch.tick(110) == []
    watch.happens(incident(120, DAYS[0]))
    assert len(watch.tick(180)) == 1  # it has begun anew


def test_a_commit_before_the_failure_mends_nothing() -> None:
    watch = Watch()
    watch.happens(incident(50, DAYS[0]))
    watch.commits(50, DAYS[0])
    assert [each.severity for each in watch.tick(120)] == [Severity.ALERT]


def test_what_was_mended_before_it_was_told_is_not_told() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0]))
    watch.commits(5, DAYS[0])
    assert watch.tick(60) == []
    assert watch.unsaid == ["events failed: every day was committed before it was told"]


def test_an_attempt_that_was_announced_is_waited_for() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0], overdue=2000))
    assert watch.tick(1999) == []
    assert len(watch.tick(2000)) == 1


def test_an_attempt_that_was_the_last_is_told_though_others_were_announced() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0], overdue=2000))
    watch.happens(incident(100, DAYS[0]))
    (message,) = watch.tick(100 + QUIET_SECONDS)
    assert message.title == f"events failed: {DAYS[0]} in 2 runs"


def test_a_warning_is_not_ended_by_a_commit_and_names_only_days_that_were_not_told() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0], ends=False))
    watch.commits(1, DAYS[0])
    assert [list(each.days) for each in watch.tick(60)] == [[DAYS[0]]]
    watch.happens(incident(100, DAYS[1], ends=False))
    assert [list(each.days) for each in watch.tick(60 + REMIND_SECONDS)] == [[DAYS[1]]]


def test_a_trouble_is_forgotten_after_a_while() -> None:
    watch = Watch()
    watch.happens(incident(0, DAYS[0]), incident(0, DAYS[0], ends=False, reason="rejects"))
    assert len(watch.tick(60)) == 2
    watch.tick(KEPT_SECONDS - 1)
    assert len(watch.troubles) == 1
    watch.tick(KEPT_SECONDS)
    assert watch.troubles == {}


def test_reasons_that_never_repeat_do_not_flood_anybody() -> None:
    watch = Watch()
    words = [f"word{'x' * number}".replace("d", "") for number in range(30)]
    watch.happens(*(incident(number, DAYS[number], reason=word) for number, word in enumerate(words)))
    messages = watch.tick(600)
    assert len(messages) == CAUSES_OF_A_TABLE + 1
    assert sorted(day for each in messages for day in each.days) == DAYS[:30]


def test_gathered_alerts_of_one_cause_are_folded_and_others_are_left_alone() -> None:
    missed = [
        replace(alert(day, reason=f"{day} is not there"), key=f"sla/{day}", verdict="missing") for day in DAYS[:3]
    ]
    other = alert(DAYS[5], reason="something else")
    (merged, alone) = folded([*missed[:2], other, missed[2]])
    assert (merged.key, merged.title, list(merged.days)) == (missed[0].key, "events: missing: 3 days", DAYS[:3])
    assert merged.reason == f"{DAYS[0]} is not there And 2 similar alerts."
    assert alone == shortened(other)
    assert [each.severity for each in folded([alert(), alert(severity=Severity.INFO)])] == ["alert", "info"]


def test_texts_are_cut_to_what_can_be_kept() -> None:
    long = shortened(replace(alert(reason="x" * 9999), title="y" * 999))
    assert (len(long.reason), len(long.title)) == (REASON_CHARACTERS, TITLE_CHARACTERS)
    assert long.reason.endswith("x…")


@dataclass(frozen=True)
class Step:
    """Between two ticks."""

    seconds: int
    incidents: list[tuple[str, list[date], Severity]]
    commits: list[date]
    is_busy: bool


DAY = st.sampled_from(DAYS[:4])
HAPPENING = st.tuples(
    st.sampled_from(["fire", "water", "no space 1", "no space 2"]),
    st.lists(DAY, min_size=1, unique=True).map(sorted),
    st.sampled_from([Severity.ALERT, Severity.ALERT, Severity.PAGE]),
)
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([1, 15, 15, 60, 130, 1000, REMIND_SECONDS]),
        st.lists(HAPPENING, max_size=3),
        st.lists(DAY, max_size=3, unique=True),
        st.booleans(),
    ),
    max_size=25,
)


@dataclass
class Reader:
    """Who gets the messages, and knows what happened."""

    told: dict[str, tuple[int, Severity]] = field(default_factory=dict)
    untold: dict[str, dict[date, list[Severity]]] = field(default_factory=lambda: defaultdict(dict))
    keys: set[str] = field(default_factory=set)

    def learns(self, step: Step) -> None:
        for reason, days, severity in step.incidents:
            for day in days:
                self.untold[pattern_of(reason)].setdefault(day, []).append(severity)
        for day in step.commits:
            for open_days in self.untold.values():
                open_days.pop(day, None)

    def reads(self, message: Alert, seconds: int) -> None:
        assert message.key not in self.keys, "two messages of one key"
        self.keys.add(message.key)
        if message.severity is Severity.INFO:
            cause = pattern_of(message.reason.partition("It was: ")[2])
            assert cause in self.told, "a recovery of what nobody heard of"
            assert not self.untold[cause], "a recovery of what is not over"
            return
        cause = pattern_of(message.reason)
        if cause in self.told:
            before, severity = self.told[cause]
            is_louder = (severity, message.severity) == (Severity.ALERT, Severity.PAGE)
            assert is_louder or seconds - before >= REMIND_SECONDS, "told twice while it lasts"
        waiting = self.untold.pop(cause, {})
        assert waiting, "nothing has happened"
        assert set(waiting) <= set(message.days)
        assert loudest(message.severity, *(each for found in waiting.values() for each in found)) is message.severity
        self.told[cause] = (seconds, message.severity)


@given(STEPS)
def test_a_cause_is_told_once_while_it_lasts_and_no_failed_day_is_lost(steps: list[Step]) -> None:
    watch, reader, seconds = Watch(), Reader(), 0
    end = [Step(HOLD_SECONDS + SETTLE_SECONDS, [], [], is_busy=False), Step(REMIND_SECONDS, [], [], is_busy=False)]
    for step in [*steps, *end]:
        seconds += step.seconds
        watch.happens(
            *(incident(seconds - 1, *days, reason=why, severity=severity) for why, days, severity in step.incidents)
        )
        watch.commits(seconds, *step.commits)
        reader.learns(step)
        for message in watch.tick(seconds, busy=["events"] if step.is_busy else []):
            reader.reads(message, seconds)
        lasting = {pattern_of(each.alert.reason) for each in watch.troubles.values()}
        reader.told = {cause: told for cause, told in reader.told.items() if cause in lasting}
    assert {cause: days for cause, days in reader.untold.items() if days} == {}


@given(STEPS)
def test_no_failure_waits_longer_than_the_longest_hold(steps: list[Step]) -> None:
    watch, seconds = Watch(), 0
    for step in steps:
        seconds += step.seconds
        watch.happens(
            *(incident(seconds, *days, reason=why, severity=severity) for why, days, severity in step.incidents)
        )
        watch.tick(seconds, busy=["events"])
        for trouble in watch.troubles.values():
            waited = (at(seconds) - trouble.waiting_since).total_seconds()
            is_reminder = trouble.told is not None and (at(seconds) - trouble.told).total_seconds() < REMIND_SECONDS
            assert not trouble.untold or waited < HOLD_SECONDS or is_reminder
