"""Messages that wait to be delivered: tried later and later, none twice, none for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.outbox import (
    FIRST_DELAY_SECONDS,
    GIVE_UP_SECONDS,
    LONGEST_DELAY_SECONDS,
    MESSAGES_KEPT,
    Outbox,
    id_of,
    postponed,
    put,
    ready,
    without,
)

START = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def filled(*alerts: tuple[str, Severity]) -> Outbox:
    outbox = Outbox()
    for number, (key, severity) in enumerate(alerts):
        outbox, _ = put(outbox, Alert(key, severity, key, "t", [], "bug", "why"), now=at(number / 1000))
    return outbox


def keys(outbox: Outbox, seconds: float) -> list[str]:
    return [each.alert.key for each in ready(outbox, now=at(seconds))]


def test_an_alert_is_put_in_once() -> None:
    outbox = filled(("a", Severity.ALERT), ("a", Severity.ALERT))
    assert keys(outbox, 1) == ["a"]
    assert outbox.messages[0].id == id_of("a") != id_of("b")


def test_the_loudest_go_first_then_the_oldest() -> None:
    outbox = filled(("a", Severity.INFO), ("b", Severity.ALERT), ("c", Severity.ALERT), ("d", Severity.PAGE))
    assert keys(outbox, 1) == ["d", "b", "c", "a"]


def test_the_wait_doubles_up_to_a_limit() -> None:
    outbox, now, waits = filled(("a", Severity.ALERT)), at(1), []
    for _ in range(9):
        (message,) = ready(outbox, now=now)
        outbox, is_given_up = postponed(outbox, message, now=now)
        assert not is_given_up
        later = outbox.messages[0].not_before
        assert ready(outbox, now=later - timedelta(seconds=1)) == []
        waits.append((later - now).total_seconds())
        now = later
    assert waits == [min(FIRST_DELAY_SECONDS * 2**number, LONGEST_DELAY_SECONDS) for number in range(9)]
    assert waits[-1] == LONGEST_DELAY_SECONDS


def test_one_that_failed_holds_up_no_other() -> None:
    outbox = filled(("bad", Severity.PAGE), ("good", Severity.INFO))
    outbox, _ = postponed(outbox, ready(outbox, now=at(1))[0], now=at(1))
    assert keys(outbox, 2) == ["good"]
    assert keys(outbox, 100) == ["good", "bad"]


def test_a_server_that_asks_for_time_gets_it_for_all_messages_within_bounds() -> None:
    outbox = filled(("a", Severity.ALERT), ("b", Severity.ALERT))
    message = ready(outbox, now=at(1))[0]
    waiting, _ = postponed(outbox, message, now=at(1), retry_after_seconds=100)
    assert keys(waiting, 100) == []
    assert keys(waiting, 101) == ["b", "a"]
    waiting, _ = postponed(outbox, message, now=at(1), retry_after_seconds=10**9)
    assert keys(waiting, 1 + LONGEST_DELAY_SECONDS) == ["b", "a"]


def test_what_was_delivered_is_gone_and_the_others_may_go() -> None:
    outbox = filled(("a", Severity.ALERT), ("b", Severity.ALERT))
    assert keys(without(outbox, outbox.messages[0]), 1) == ["b"]


def test_a_message_is_given_up_after_days() -> None:
    outbox = filled(("a", Severity.ALERT))
    outbox, is_given_up = postponed(outbox, outbox.messages[0], now=at(GIVE_UP_SECONDS - 1))
    assert not is_given_up
    outbox, is_given_up = postponed(outbox, outbox.messages[0], now=at(GIVE_UP_SECONDS))
    assert is_given_up
    assert list(outbox.messages) == []


def test_a_full_outbox_drops_the_least_loud_and_says_so() -> None:
    outbox = filled(("good news", Severity.INFO), *((f"a{number}", Severity.ALERT) for number in range(99)))
    assert len(outbox.messages) == MESSAGES_KEPT
    outbox, dropped = put(outbox, Alert("page", Severity.PAGE, "page", "t", [], "bug", "why"), now=at(5))
    assert [each.alert.key for each in dropped] == ["good news"]
    outbox, dropped = put(outbox, Alert("late", Severity.ALERT, "late", "t", [], "bug", "why"), now=at(6))
    assert [each.alert.key for each in dropped] == ["a0"]
    assert len(outbox.messages) == MESSAGES_KEPT
    assert keys(outbox, 10)[0] == "page"
