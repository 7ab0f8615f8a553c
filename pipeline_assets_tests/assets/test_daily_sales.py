"""`daily_sales`: equal to a computation in plain Python, and its check sees what does not add up."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.assets.daily_sales import DAILY_SALES, daily_sales, sales_add_up_to_events
from pipeline_assets.assets.raw_events import EVENT_COLUMNS
from pipeline_assets.rules.contract import Audit
from pipeline_assets_tests.assets.landed import DAY
from pipeline_assets_tests.support.properties import examples

EVENT = pa.schema([(column.name, column.type) for column in EVENT_COLUMNS])
LARGEST = Decimal("99999999999999.9999")
Sale = tuple[str | None, str, Decimal | None]


def table(sales: list[Sale]) -> pa.Table:
    noon = datetime(2026, 6, 10, 12, tzinfo=UTC)
    rows = [
        {"event_id": str(n), "user_id": user, "event_type": kind, "amount": amount, "event_time": noon}
        for n, (user, kind, amount) in enumerate(sales)
    ]
    return pa.Table.from_pylist(rows, EVENT)


def made(sales: list[Sale]) -> pa.Table:
    rows = DAILY_SALES.conform(daily_sales(DAY, table(sales).to_reader(2)))
    audit = Audit(DAILY_SALES, DAY, "UTC")
    audit.watch(rows)
    audit.close()
    return rows


def test_guests_count_as_events_and_not_as_users_and_missing_amounts_add_nothing() -> None:
    sales: list[Sale] = [
        ("u1", "sale", Decimal("1.50")),
        ("u1", "sale", None),
        (None, "sale", Decimal("2.25")),
        (None, "view", None),
        ("u2", "refund", Decimal(-1)),
    ]
    assert made(sales).to_pylist() == [
        {"sales_date": DAY, "event_type": "refund", "events": 1, "users": 1, "amount": Decimal("-1.0000")},
        {"sales_date": DAY, "event_type": "sale", "events": 3, "users": 1, "amount": Decimal("3.7500")},
        {"sales_date": DAY, "event_type": "view", "events": 1, "users": 0, "amount": Decimal("0.0000")},
    ]


def test_a_day_without_events_has_no_sales() -> None:
    assert made([]).num_rows == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_beyond_eighteen_digits_are_exact(sign: int) -> None:
    (row,) = made([(str(n), "sale", sign * LARGEST) for n in range(1_234)]).to_pylist()
    assert row["amount"] == sign * LARGEST * 1_234
    assert len(row["amount"].as_tuple().digits) > 18


AMOUNTS = st.decimals(-LARGEST, LARGEST, places=4)
SALES = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "ä"]), st.sampled_from(["sale", "refund"]), st.none() | AMOUNTS),
    max_size=12,
)


@examples(60)
@given(sales=SALES)
def test_sales_are_those_of_a_plain_computation_and_pass_their_check(sales: list[Sale]) -> None:
    by_type: dict[str, list[Sale]] = defaultdict(list)
    for sale in sales:
        by_type[sale[1]].append(sale)
    rows = made(sales)
    assert rows.to_pylist() == [
        {
            "sales_date": DAY,
            "event_type": kind,
            "events": len(of_type),
            "users": len({user for user, _, _ in of_type} - {None}),
            "amount": sum((amount for _, _, amount in of_type if amount is not None), Decimal(0)),
        }
        for kind, of_type in sorted(by_type.items())
    ]
    assert sales_add_up_to_events.function(DAY, rows, table(sales).to_reader()).passed


SOLD: list[Sale] = [("u1", "sale", LARGEST), (None, "sale", Decimal("0.0001")), ("u2", "refund", None)]


@pytest.mark.parametrize(
    "broken",
    [
        {"events": [1, 3]},
        {"events": [1, 1]},
        {"amount": [Decimal(0), LARGEST]},
        {"amount": [Decimal("0.0001"), LARGEST + Decimal("0.0001")]},
        {"users": [2, 1]},
    ],
)
def test_sales_that_do_not_add_up_to_the_events_do_not_pass(broken: dict[str, list[Any]]) -> None:
    good = made(SOLD)
    ((name, values),) = broken.items()
    index = good.column_names.index(name)
    rows = good.set_column(index, name, pa.array(values, good.schema.field(name).type))
    assert sales_add_up_to_events.function(DAY, good, table(SOLD).to_reader()).passed
    assert not sales_add_up_to_events.function(DAY, rows, table(SOLD).to_reader()).passed
    assert not sales_add_up_to_events.function(DAY, good.slice(1), table(SOLD).to_reader()).passed
    assert sales_add_up_to_events.blocking
