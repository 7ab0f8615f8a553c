"""`user_segments`: every user in one segment, at the borders the one that the docstring says."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.assets.user_features import USER_FEATURES
from pipeline_assets.assets.user_segments import USER_SEGMENTS, every_user_has_a_segment, user_segments
from pipeline_assets.rules.contract import Audit
from pipeline_assets_tests.assets.landed import DAY
from pipeline_assets_tests.support.properties import examples


def features(*users: tuple[int, int, Decimal]) -> pa.Table:
    """Of users u00000, u00001, ...: recency, tenure, spend."""
    rows: list[dict[str, Any]] = [
        {
            "user_id": f"u{n:05}",
            "feature_date": DAY,
            **{f"events_{days}d": int(recency < days) for days in (1, 7, 28)},
            **{f"spend_{days}d": spend if recency < days else Decimal(0) for days in (1, 7, 28)},
            "recency_days": recency,
            "tenure_days": tenure,
            "active_days_28d": 1,
        }
        for n, (recency, tenure, spend) in enumerate(users)
    ]
    return pa.Table.from_pylist(rows, USER_FEATURES.schema)


def made(*users: tuple[int, int, Decimal]) -> list[str]:
    rows = USER_SEGMENTS.conform(user_segments(DAY, features(*users)))
    audit = Audit(USER_SEGMENTS, DAY, "UTC")
    audit.watch(rows)
    audit.close()
    assert every_user_has_a_segment.function(DAY, rows, features(*users)).passed
    assert rows["user_id"].to_pylist() == [f"u{n:05}" for n in range(len(users))]
    return list(rows["segment"].to_pylist())


def expected(recency: int, tenure: int, spend: Decimal) -> str:
    if recency >= 21:
        return "churned"
    if recency >= 7:
        return "dormant"
    if tenure < 7:
        return "new_users"
    return "high_value" if spend >= 500 else "mid_value"


@pytest.mark.parametrize(
    ("user", "segment"),
    [
        ((21, 27, Decimal(9_999)), "churned"),
        ((20, 27, Decimal(9_999)), "dormant"),
        ((7, 7, Decimal(0)), "dormant"),
        ((6, 6, Decimal(9_999)), "new_users"),
        ((0, 6, Decimal(0)), "new_users"),
        ((0, 7, Decimal(500)), "high_value"),
        ((6, 7, Decimal("499.9999")), "mid_value"),
        ((0, 27, Decimal(-5)), "mid_value"),
        ((0, 27, Decimal(10) ** 30), "high_value"),
    ],
)
def test_the_first_segment_that_fits_is_the_users(user: tuple[int, int, Decimal], segment: str) -> None:
    assert made(user) == [segment]


def test_every_combination_of_recency_tenure_and_spend_has_one_segment() -> None:
    spends = [Decimal(-1), Decimal("499.9999"), Decimal(500)]
    users = [(r, t, s) for r, t, s in product(range(28), range(28), spends) if r <= t]
    assert made(*users) == [expected(*user) for user in users]


@examples(30)
@given(
    users=st.lists(st.tuples(st.integers(0, 27), st.integers(0, 27), st.decimals(-1_000, 1_000, places=4)), max_size=20)
)
def test_segments_are_those_of_a_plain_computation(users: list[tuple[int, int, Decimal]]) -> None:
    assert made(*users) == [expected(*user) for user in users]


def test_a_user_too_many_too_few_or_another_one_does_not_pass() -> None:
    users = features((0, 0, Decimal(0)), (1, 1, Decimal(0)))
    others = users.set_column(0, "user_id", pa.array(["u00000", "u00009"]))
    segments = user_segments(DAY, users)
    check = every_user_has_a_segment.function
    assert check(DAY, segments, users).passed
    assert check(DAY, segments, users).numbers == {"new_users": 2}
    assert not check(DAY, segments.slice(1), users).passed
    assert not check(DAY, segments, users.slice(1)).passed
    assert not check(DAY, segments, others).passed
    assert not check(DAY, pa.concat_tables([segments, segments]), users).passed
    assert every_user_has_a_segment.blocking
