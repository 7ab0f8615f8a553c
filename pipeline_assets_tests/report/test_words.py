"""What a report says in words."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime

import pytest

from pipeline_assets.report import words
from pipeline_assets.rules.sla import Cause, DeliveryStatus
from pipeline_assets_tests.report import reports
from pipeline_assets_tests.report.reports import FIRST, LAST, miss, on_time, report_of, table_of

OCTOBER = [date(2026, 10, day) for day in range(22, 32)]
SPAN = "from 22 October to 20 November 2026"


def test_the_headline_says_how_many_tables_kept_their_promise() -> None:
    kept = table_of("sales", [on_time("sales", day) for day in OCTOBER])
    broken = table_of("events", [miss("events", day) for day in OCTOBER])

    assert words.headline(report_of(kept, broken, kept)) == f"2 of 3 tables kept their promise {SPAN}"
    assert words.headline(report_of(broken, broken)) == f"None of 2 tables kept their promise {SPAN}"
    assert words.headline(report_of(kept, kept)) == f"Both tables kept their promise {SPAN}"
    assert words.headline(report_of(kept, kept, kept)) == f"All 3 tables kept their promise {SPAN}"
    assert words.headline(report_of(kept)) == f"sales kept its promise {SPAN}"
    assert words.headline(report_of(broken)) == f"events did not keep its promise {SPAN}"


def test_a_table_of_which_nothing_was_due_is_not_counted() -> None:
    kept, new = table_of("sales", [on_time("sales", day) for day in OCTOBER]), table_of("new", [])

    assert words.headline(report_of(kept, new)) == f"sales kept its promise {SPAN}"
    assert words.explanation(report_of(kept, new)) == [
        "10 deliveries of 10 came in time.",
        "new: nothing was due yet; the first deadline is 22 Nov 2026, 06:00 GMT.",
    ]
    assert words.headline(report_of(new)) == f"Nothing was due {SPAN}"
    assert words.headline(report_of()) == "No table has a deadline"
    assert "due=by(...)" in words.explanation(report_of())[0]


def test_misses_are_explained_by_what_the_budget_allows() -> None:
    days = [on_time("events", day) for day in OCTOBER[:-2]]
    two = [*days, *(miss("events", day) for day in OCTOBER[-2:])]

    def said(objective: float) -> list[str]:
        return words.explanation(report_of(table_of("events", two, objective=objective)))

    assert said(0.9) == ["events missed 2 of 10 days; its error budget of 1 day is overspent by 1 day."]
    assert said(0.8) == ["events missed 2 of 10 days; its error budget of 2 days is used up."]
    assert said(0.75) == ["events missed 2 of 10 days; its error budget of 2.5 days has 0.5 days left."]
    assert said(1.0) == ["events missed 2 of 10 days; its objective of 100 % allows no miss."]
    assert words.promise(table_of("events", two, objective=0.8)) is words.Promise.KEPT
    assert words.promise(table_of("events", two, objective=0.81)) is words.Promise.BROKEN


def test_the_budget_of_a_table_that_must_never_miss_is_not_called_used_up_before_it_misses() -> None:
    never = table_of("events", [on_time("events", day) for day in OCTOBER], objective=1)

    assert words.budget_left(never) == "0 days left"
    assert words.promise(never) is words.Promise.KEPT


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.0042, "4 ms"),
        (1, "1 s"),
        (1.25, "1.2 s"),
        (9.99, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3599.6, "1 h"),
        (3660, "1 h 1 min"),
        (5400, "1 h 30 min"),
        (86_399, "1 d"),
        (90_000, "1 d 1 h"),
        (400 * 86_400.0, "400 d"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float | None, told: str) -> None:
    assert words.duration(seconds) == told


def test_a_share_is_100_percent_only_when_it_is_all() -> None:
    assert [words.share(value) for value in (1, 0.9999, 0.95, 0.966_67, 0, None)] == [
        "100 %",
        "99.9 %",
        "95 %",
        "96.7 %",
        "0 %",
        "-",
    ]


def test_a_trend_is_steady_until_it_moves_the_duration_by_a_twentieth() -> None:
    def told(per_day: float) -> str:
        deliveries = [on_time("events", day, seconds=100 + per_day * number) for number, day in enumerate(OCTOBER)]
        return words.trend(table_of("events", deliveries))

    assert told(1.2) == "grows by 1.2 s a day"
    assert told(-2) == "shrinks by 2 s a day"
    assert told(0.4) == "steady"
    assert told(0) == "steady"
    one = table_of("events", [on_time("events", OCTOBER[0])])
    assert words.trend(one) == "-"


def test_causes_are_counted_the_most_frequent_first() -> None:
    causes = [Cause.QUEUED, Cause.FAILED, Cause.FAILED, None, Cause.NEVER_REQUESTED]
    table = table_of("events", [miss("events", day, cause=cause) for day, cause in zip(OCTOBER, causes, strict=False)])

    assert words.why(table) == "2 failed, 1 cause unknown, 1 never requested, 1 waiting in the queue"


def test_an_hour_that_comes_twice_is_told_apart() -> None:
    first, second = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))

    assert words.local(first, "Europe/London") == "25 Oct 2026, 01:30 BST"
    assert words.local(second, "Europe/London") == "25 Oct 2026, 01:30 GMT"
    assert words.local(None, "Europe/London") == "-"


def test_days_of_a_span_are_named_without_repeating_the_year() -> None:
    assert words.span_of(FIRST, LAST) == SPAN
    assert words.span_of(LAST, LAST) == "on 20 November 2026"
    assert words.span_of(date(2025, 12, 31), date(2026, 1, 1)) == "from 31 December 2025 to 1 January 2026"


def test_every_standing_and_number_that_may_be_absent_has_words() -> None:
    assert words.STATUSES.keys() >= {status for status in DeliveryStatus if status.name not in ("NOT_DUE", "WARNED")}
    bare = dataclasses.replace(table_of("events", [on_time("events", LAST)]), duration_mean_seconds=None)
    assert words.trend(bare) == "-"
    assert words.headline(reports.month()) == f"3 of 4 tables kept their promise {SPAN}"
