"""`user_features`: equal to a computation in plain Python, and its checks see what contradicts itself."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.assets.user_features import (
    USER_FEATURES,
    WINDOW_DAYS,
    todays_events_are_counted,
    user_features,
    windows_are_nested,
)
from pipeline_assets.rules.contract import Audit
from pipeline_assets_tests.assets.landed import DAY
from pipeline_assets_tests.support.properties import examples

SCHEMA = pa.schema([("user_id", pa.string()), ("amount", pa.decimal128(18, 4)), ("dt", pa.date32())])
LARGEST = Decimal("99999999999999.9999")
Event = tuple[str | None, Decimal | None, int]
"""User, amount, and how many days before the day."""


def table(events: list[Event]) -> pa.Table:
    rows = [{"user_id": user, "amount": amount, "dt": DAY - timedelta(days=age)} for user, amount, age in events]
    return pa.Table.from_pylist(rows, SCHEMA)


def made(events: list[Event]) -> pa.Table:
    rows = USER_FEATURES.conform(user_features(DAY, table(events).to_reader(2)))
    audit = Audit(USER_FEATURES, DAY, "UTC")
    audit.watch(rows)
    audit.close()
    return rows


def plainly(events: list[Event]) -> list[dict[str, Any]]:
    features = []
    for user in sorted({user for user, _, _ in events if user is not None}):
        own = [(amount or Decimal(0), age) for each, amount, age in events if each == user]
        ages = [age for _, age in own]
        row: dict[str, Any] = {"user_id": user, "feature_date": DAY}
        for days in (1, 7, 28):
            row[f"events_{days}d"] = sum(age < days for age in ages)
        for days in (1, 7, 28):
            row[f"spend_{days}d"] = sum((amount for amount, age in own if age < days), Decimal(0))
        row |= {"recency_days": min(ages), "tenure_days": max(ages), "active_days_28d": len(set(ages))}
        features.append(row)
    return features


def test_a_guest_has_no_features() -> None:
    assert made([(None, Decimal(1), 0)]).num_rows == 0


def test_a_day_without_events_in_its_window_has_no_features() -> None:
    assert made([]).num_rows == 0


def test_each_window_begins_with_its_own_first_day() -> None:
    (row,) = made([("u", Decimal(10**age if age < 9 else 1), age) for age in (0, 1, 6, 7, 27)]).to_pylist()
    assert [row[f"events_{days}d"] for days in (1, 7, 28)] == [1, 3, 5]
    assert [row[f"spend_{days}d"] for days in (1, 7, 28)] == [1, 1_000_011, 11_000_012]
    assert (row["recency_days"], row["tenure_days"], row["active_days_28d"]) == (0, 27, 5)


def test_spend_beyond_eighteen_digits_is_exact_and_missing_amounts_add_nothing() -> None:
    (row,) = made([("u", LARGEST, 0)] * 1_000 + [("u", None, 0)]).to_pylist()
    assert row["spend_28d"] == LARGEST * 1_000
    assert row["events_28d"] == 1_001


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b", "c"]),
        st.none() | st.decimals(-LARGEST, LARGEST, places=4),
        st.one_of(st.integers(0, WINDOW_DAYS - 1), st.sampled_from([0, 6, 7, 27])),
    ),
    max_size=15,
)


@examples(60)
@given(events=EVENTS)
def test_features_are_those_of_a_plain_computation_and_pass_their_checks(events: list[Event]) -> None:
    rows = made(events)
    assert rows.to_pylist() == plainly(events)
    assert windows_are_nested.function(DAY, rows).passed
    assert todays_events_are_counted.function(DAY, rows, table(events).to_reader()).passed


GOOD: dict[str, Any] = plainly([("u", Decimal(5), 0), ("u", Decimal(7), 3), ("u", Decimal(9), 20)])[0]


def features(**changes: Any) -> pa.Table:
    return USER_FEATURES.conform(pa.Table.from_pylist([{**GOOD, **changes}], _nullable()))


def _nullable() -> pa.Schema:
    return pa.schema([(field.name, field.type) for field in USER_FEATURES.schema])


@pytest.mark.parametrize(
    "changes",
    [
        {"events_1d": 3},
        {"events_7d": 4},
        {"recency_days": 21},
        {"tenure_days": 28},
        {"active_days_28d": 4},
        {"tenure_days": 1},
        {"recency_days": 1},
        {"events_1d": 0},
        {"events_7d": 0, "events_1d": 0, "spend_1d": Decimal(0), "spend_7d": Decimal(0)},
        {"events_1d": 0, "recency_days": 1},
        {"events_7d": 0, "events_1d": 0, "recency_days": 8, "spend_1d": Decimal(0)},
    ],
    ids=str,
)
def test_features_that_contradict_themselves_do_not_pass(changes: dict[str, Any]) -> None:
    assert windows_are_nested.function(DAY, features()).passed
    finding = windows_are_nested.function(DAY, features(**changes))
    assert not finding.passed
    assert "1 of 1 users" in finding.message
    assert windows_are_nested.blocking


@pytest.mark.parametrize("changes", [{"events_1d": 2}, {"spend_1d": Decimal("5.0001")}, {"events_1d": 0}], ids=str)
def test_features_that_miss_an_event_of_the_day_do_not_pass(changes: dict[str, Any]) -> None:
    events = table([("u", Decimal(5), 0), ("u", Decimal(7), 3), (None, Decimal(1), 0)])
    assert todays_events_are_counted.function(DAY, features(), events.to_reader()).passed
    assert not todays_events_are_counted.function(DAY, features(**changes), events.to_reader()).passed
    assert not todays_events_are_counted.function(DAY, features().slice(1), events.to_reader()).passed
    assert todays_events_are_counted.blocking


def test_features_are_of_their_day() -> None:
    assert {row["feature_date"] for row in made([("u", None, 5)]).to_pylist()} == {date(2026, 6, 10)}
