"""Contracts: what conforms, what is refused and in which words, the same for a stream as for a frame."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.errors import ContractBroken, PartitionMismatch, PipelineError
from pipeline_assets.rules.calendar import day_bounds, zone
from pipeline_assets.rules.contract import Audit, Column, Contract, is_strictly_ascending

DAY = date(2026, 6, 10)
LONDON = "Europe/London"
MICROSECOND = timedelta(microseconds=1)

SALES = Contract(
    (
        Column("shop", pa.string(), one_of=("north", "south")),
        Column("number", pa.int64()),
        Column("amount", pa.decimal128(18, 4), minimum=0),
        Column("note", pa.string(), nullable=True),
        Column("sold_on", pa.date32()),
    ),
    key=("shop", "number"),
    day_column="sold_on",
)


def sales(**columns: list[Any]) -> pa.Table:
    """Three good rows, some columns replaced."""
    good: dict[str, list[Any]] = {
        "shop": ["north", "north", "south"],
        "number": [1, 2, 1],
        "amount": [Decimal("1.5"), Decimal(0), Decimal(2)],
        "note": ["x", None, None],
        "sold_on": [DAY] * 3,
    }
    return pa.table({**good, **columns}, schema=pa.schema([(c.name, c.type) for c in SALES.columns]))


def verdict(
    batches: list[pa.Table], contract: Contract = SALES, *, day: date = DAY, timezone: str = "UTC"
) -> PipelineError | None:
    audit = Audit(contract, day, timezone)
    for batch in batches:
        audit.watch(batch)
    try:
        audit.close()
    except PipelineError as error:
        assert audit.is_broken
        return error
    assert not audit.is_broken
    assert audit.rows == sum(batch.num_rows for batch in batches)
    return None


# --- Audit: one rule at a time


def test_good_rows_pass_and_are_handed_on_as_they_are() -> None:
    audit = Audit(SALES, DAY, "UTC")
    rows = sales()

    assert audit.watch(rows) is rows
    assert verdict([rows]) is None
    assert verdict([]) is None
    assert verdict([rows.slice(0, 0)]) is None


BROKEN_ONCE = {
    "a null": (sales(amount=[None, Decimal(0), None]), "amount is null (2 of 3 rows)"),
    "another value": (sales(shop=["east", "north", "south"]), "shop is none of north, south (1 of 3 rows)"),
    "too little": (sales(amount=[Decimal("-0.0001"), Decimal(0), Decimal(1)]), "amount is below 0 (1 of 3 rows)"),
    "a duplicate": (sales(number=[1, 1, 1]), "rows are not unique and ascending by shop, number (1 of 3 rows)"),
    "out of order": (
        sales(shop=["south", "north", "north"], number=[1, 2, 1]),
        "rows are not unique and ascending by shop, number (2 of 3 rows)",
    ),
}


@pytest.mark.parametrize("what", BROKEN_ONCE)
def test_a_broken_rule_is_told_with_its_column_and_how_many_rows(what: str) -> None:
    rows, message = BROKEN_ONCE[what]
    error = verdict([rows])

    assert isinstance(error, ContractBroken)
    assert str(error) == message


def test_rules_that_are_broken_together_are_all_told_in_the_contracts_order() -> None:
    rows = sales(shop=[None, "east", "east"], number=[3, 2, 2], amount=[Decimal(-1), None, Decimal(1)])

    assert str(verdict([rows])) == (
        "shop is null (1 of 3 rows); shop is none of north, south (2 of 3 rows); amount is null (1 of 3 rows); "
        "amount is below 0 (1 of 3 rows); rows are not unique and ascending by shop, number (1 of 3 rows)"
    )


def test_a_null_where_it_may_be_breaks_no_other_rule() -> None:
    contract = Contract(
        (
            Column("word", pa.string(), nullable=True, one_of=("a",)),
            Column("number", pa.int64(), nullable=True, minimum=1),
        )
    )

    assert verdict([pa.table({"word": ["a", None], "number": [None, 1]}, schema=contract.schema)], contract) is None


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.int32(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(5, 2), pa.decimal128(38, 4)],
    ids=str,
)
def test_a_minimum_is_kept_by_every_type_of_number(kind: pa.DataType) -> None:
    contract = Contract((Column("number", kind, minimum=1),))
    rows = pa.table({"number": pa.array([0, 1, 2], pa.int8())}).cast(pa.schema([("number", pa.float64())]))

    error = verdict([rows.cast(contract.schema)], contract)
    assert str(error) == "number is below 1 (1 of 3 rows)"


def test_without_a_key_rows_may_repeat_in_any_order() -> None:
    contract = replace(SALES, key=())

    assert verdict([sales(shop=["south", "north", "south"], number=[1, 1, 1])], contract) is None


@pytest.mark.parametrize(
    ("values", "ascending"),
    [
        ([], True),
        ([1], True),
        ([1, 2, 5], True),
        ([1, 1], False),
        ([2, 1], False),
        (["a", "aa", "b"], True),
        (["ä", "z"], False),  # by bytes, not by any language
        ([Decimal("-1.5"), Decimal("1.5")], True),
        ([float("nan"), 1.0], False),
        ([datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)], True),
    ],
)
def test_ascending_means_sorted_and_unique(values: list[Any], ascending: bool) -> None:  # noqa: FBT001
    assert is_strictly_ascending(pa.table({"key": values}), ["key"]) == ascending


# --- Audit: a stream


@st.composite
def suspicious_sales(draw: st.DrawFn) -> pa.Table:
    """Some rows, a few of them wrong; most are in order."""
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["north", "south", "south", "east", None]),
                st.integers(0, 9) | st.none(),
                st.sampled_from([Decimal(1), Decimal(0), Decimal(-1), None]),
                st.sampled_from([DAY, DAY, DAY, DAY + timedelta(days=1), None]),
            ),
            max_size=12,
        )
    )
    if draw(st.booleans()):
        rows.sort(key=lambda row: (row[0] or "", row[1] or 0))
    shops, numbers, amounts, days = zip(*rows, strict=True) if rows else ([], [], [], [])
    return sales(
        shop=list(shops), number=list(numbers), amount=list(amounts), sold_on=list(days), note=[None] * len(rows)
    )


@given(rows=suspicious_sales(), inner=st.lists(st.integers(0, 12), max_size=5))
def test_a_stream_gets_the_verdict_of_its_rows_in_one_frame(rows: pa.Table, inner: list[int]) -> None:
    cuts = [0, *sorted(min(cut, rows.num_rows) for cut in inner), rows.num_rows]
    batches = [rows.slice(first, last - first) for first, last in pairwise(cuts)]
    at_once, in_batches = verdict([rows]), verdict(batches)

    assert type(in_batches) is type(at_once)
    assert str(in_batches) == str(at_once)


@pytest.mark.parametrize("cut", [1, 2])
def test_order_and_uniqueness_hold_across_the_borders_of_batches(cut: int) -> None:
    for numbers, shops in [([1, 1, 1], ["north", "north", "south"]), ([1, 2, 1], ["north", "south", "south"])]:
        rows = sales(shop=shops, number=numbers)
        error = verdict([rows.slice(0, cut), rows.slice(0, 0), rows.slice(cut)])
        assert str(error) == "rows are not unique and ascending by shop, number (1 of 3 rows)"


# --- Audit: the day


def test_rows_of_another_day_are_a_mismatch_that_names_one_whatever_else_is_broken() -> None:
    rows = sales(sold_on=[DAY, date(2026, 6, 11), date(2026, 6, 12)], amount=[None, None, None])
    error = verdict([rows], timezone=LONDON)

    assert isinstance(error, PartitionMismatch)
    assert str(error) == (
        "2 of 3 rows belong to another day than 2026-06-10 (Europe/London): sold_on is 2026-06-11, for one"
    )


@pytest.mark.parametrize("timezone", ["UTC", LONDON, "Asia/Kathmandu", "America/Sao_Paulo"])
@pytest.mark.parametrize(
    "kind", [pa.timestamp("us", "UTC"), pa.timestamp("ns", LONDON), pa.timestamp("s", "UTC")], ids=str
)
@pytest.mark.parametrize(
    "day",
    [DAY, date(2026, 3, 29), date(2026, 10, 25), date(2018, 11, 4)],
    ids=["an ordinary day", "23 hours in London", "25 hours in London", "no midnight in Sao Paulo"],
)
def test_a_timestamp_is_of_the_day_from_its_first_instant_to_the_last_before_the_next(
    day: date, kind: pa.DataType, timezone: str
) -> None:
    contract = Contract((Column("at", kind),), day_column="at")
    start, end = day_bounds(day, timezone)
    step = timedelta(seconds=1) if kind.unit == "s" else MICROSECOND

    def about(*moments: datetime) -> PipelineError | None:
        return verdict([pa.table({"at": pa.array(moments, kind)})], contract, day=day, timezone=timezone)

    assert about(start, start + (end - start) / 2, end - step) is None
    assert isinstance(about(start - step), PartitionMismatch)
    assert isinstance(about(end), PartitionMismatch)


def test_the_long_day_and_the_short_day_hold_their_hours() -> None:
    contract = Contract((Column("at", pa.timestamp("us", "UTC")),), day_column="at")
    for day, hours in [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)]:
        midnight = datetime.combine(day, time.min, zone(LONDON)).astimezone(UTC)
        moments = [midnight + timedelta(hours=n) for n in range(26)]
        error = verdict(
            [pa.table({"at": pa.array(moments, contract.schema.field("at").type)})], contract, day=day, timezone=LONDON
        )

        assert str(error).startswith(f"{26 - hours} of 26 rows")


@pytest.mark.parametrize("timezone", ["UTC", LONDON, "Asia/Kathmandu"])
def test_a_time_without_a_zone_is_read_in_the_partitions_own(timezone: str) -> None:
    contract = Contract((Column("at", pa.timestamp("us")),), day_column="at")
    midnight = datetime.combine(DAY, time.min)

    def about(*moments: datetime) -> PipelineError | None:
        return verdict([pa.table({"at": pa.array(moments, pa.timestamp("us"))})], contract, timezone=timezone)

    assert about(midnight, midnight + timedelta(days=1) - MICROSECOND) is None
    assert isinstance(about(midnight - MICROSECOND), PartitionMismatch)
    assert isinstance(about(midnight + timedelta(days=1)), PartitionMismatch)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_a_date_is_of_its_day_in_every_zone(kind: pa.DataType) -> None:
    contract = Contract((Column("on", kind),), day_column="on")
    for timezone in ("UTC", LONDON, "Pacific/Apia"):
        assert verdict([pa.table({"on": pa.array([DAY], kind)})], contract, timezone=timezone) is None
        for other in (DAY - timedelta(days=1), DAY + timedelta(days=1)):
            error = verdict([pa.table({"on": pa.array([other], kind)})], contract, timezone=timezone)
            assert isinstance(error, PartitionMismatch)


# --- Conform


def test_conform_puts_columns_and_rows_in_order_and_casts() -> None:
    frame = pa.table(
        {
            "sold_on": pa.array([datetime.combine(DAY, time.min)] * 3, pa.timestamp("ns")),
            "note": pa.nulls(3),
            "amount": pa.array(["2", "1.5", "0.0001"]),
            "number": pa.array([1, 2, 1], pa.int8()),
            "shop": pa.array(["south", "north", "north"]).dictionary_encode(),
        }
    )
    expected = sales(
        shop=["north", "north", "south"],
        number=[1, 2, 1],
        amount=[Decimal("0.0001"), Decimal("1.5"), Decimal(2)],
        note=[None, None, None],
    )

    assert SALES.conform(frame).equals(expected)
    assert verdict([SALES.conform(frame)]) is None


@given(order=st.permutations(range(3)), columns=st.permutations(sales().column_names))
def test_rows_and_columns_in_any_order_conform_to_the_same(order: list[int], columns: list[str]) -> None:
    assert SALES.conform(sales().take(pa.array(order)).select(columns)).equals(sales())


def test_rows_without_a_key_stay_in_the_order_in_which_they_were_returned() -> None:
    rows = sales(shop=["south", "north", "north"])

    assert replace(SALES, key=()).conform(rows).equals(rows)


def test_what_pandas_says_about_a_frame_does_not_stay_on_it() -> None:
    frame = pa.Table.from_pandas(sales().to_pandas(), preserve_index=False)

    assert SALES.conform(frame).schema.metadata is None


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (sales().drop_columns(["note", "shop"]), r"missing: \['shop', 'note'\], not in the contract: none"),
        (sales().append_column("extra", pa.nulls(3)), r"missing: none, not in the contract: \['extra'\]"),
        (sales().rename_columns(["Shop", "number", "amount", "note", "sold_on"]), r"\['shop'\].*\['Shop'\]"),
        (sales().append_column("note", pa.nulls(3)), r"columns are \[.*'note'.*'note'\]"),
        (pa.table({}), r"columns are \[\]"),
    ],
    ids=["missing", "extra", "renamed", "twice", "none at all"],
)
def test_other_columns_are_named(frame: pa.Table, message: str) -> None:
    with pytest.raises(ContractBroken, match=message):
        SALES.conform(frame)


MIDNIGHT, MORNING = datetime(2026, 6, 10, tzinfo=UTC), datetime(2026, 6, 10, 5, tzinfo=UTC)
SAFE_CASTS: list[tuple[pa.Array, pa.DataType]] = [
    (pa.array([1, None], pa.int8()), pa.int64()),
    (pa.array([1, 0], pa.int64()), pa.bool_()),
    (pa.array([1.0, None]), pa.int32()),
    (pa.array([0.5, float("inf"), float("nan")]), pa.float32()),
    (pa.array([0.5, None]), pa.float16()),
    (pa.array([19.99, 0.1, -1e13, None]), pa.decimal128(18, 4)),
    (pa.array([Decimal("19.99")]), pa.float64()),
    (pa.array([Decimal("19.9900")]), pa.decimal128(18, 2)),
    (pa.array(["19.99"]), pa.decimal128(18, 4)),
    (pa.array([MORNING], pa.timestamp("us", "UTC")), pa.timestamp("s", LONDON)),
    (pa.array([MIDNIGHT], pa.timestamp("us", "UTC")), pa.date32()),
    (pa.array([DAY]), pa.timestamp("us", "UTC")),
    (pa.array(["a", "b"]).dictionary_encode(), pa.large_string()),
    (pa.nulls(2), pa.decimal128(18, 4)),
    (pa.array([MORNING.replace(tzinfo=None)]), pa.timestamp("us", "UTC")),
]
LOSSY_CASTS: list[tuple[pa.Array, pa.DataType]] = [
    (pa.array([300]), pa.uint8()),
    (pa.array([-1]), pa.uint64()),
    (pa.array([2**53 + 1]), pa.float64()),
    (pa.array([2, 1]), pa.bool_()),
    (pa.array([0.5]), pa.bool_()),
    (pa.array([1.5]), pa.int64()),
    (pa.array([float("nan")]), pa.int64()),
    (pa.array([0.1]), pa.float32()),
    (pa.array([1e10]), pa.float16()),
    (pa.array([1e300]), pa.float32()),
    (pa.array([0.12345]), pa.decimal128(18, 4)),
    (pa.array([float("nan")]), pa.decimal128(18, 4)),
    (pa.array([Decimal("0.12345")]), pa.decimal128(18, 4)),
    (pa.array(["0.12345"]), pa.decimal128(18, 4)),
    (pa.array([Decimal("12345678901234567890.1234")]), pa.float64()),
    (pa.array(["one"]), pa.int64()),
    (pa.array([MORNING], pa.timestamp("us", "UTC")), pa.date32()),
    (pa.array([MORNING], pa.timestamp("us")), pa.time64("us")),
    (pa.array([MORNING + MICROSECOND], pa.timestamp("us", "UTC")), pa.timestamp("ms", "UTC")),
    (pa.array([timedelta(microseconds=1)]), pa.duration("s")),
    (pa.array([b"\xff"]), pa.string()),
    (pa.array([[1]]), pa.int64()),
]


def described(case: Any) -> str:
    return f"{case.type} {case.to_pylist()}" if isinstance(case, pa.Array) else str(case)


@pytest.mark.parametrize(("values", "kind"), SAFE_CASTS, ids=described)
def test_a_cast_that_keeps_every_value_is_made(values: pa.Array, kind: pa.DataType) -> None:
    contract = Contract((Column("value", kind, nullable=True),))
    conformed = contract.conform(pa.table({"value": values}))

    assert conformed.schema == contract.schema
    assert conformed["value"].null_count == values.null_count


@pytest.mark.parametrize(("values", "kind"), LOSSY_CASTS, ids=described)
def test_a_cast_that_would_alter_a_value_is_refused_with_column_and_types(values: pa.Array, kind: pa.DataType) -> None:
    contract = Contract((Column("value", kind, nullable=True),))

    with pytest.raises(ContractBroken) as refused:
        contract.conform(pa.table({"value": values}))
    assert str(refused.value).startswith(f"value is {values.type}, the contract says {kind}")


def test_how_many_values_a_cast_would_alter_is_told() -> None:
    contract = Contract((Column("share", pa.float32()),))

    with pytest.raises(ContractBroken, match="which would alter 2 of 4 values"):
        contract.conform(pa.table({"share": [0.1, 0.5, None, 0.3]}))


def test_nulls_are_left_to_the_audit_which_names_them() -> None:
    rows = SALES.conform(sales(number=[1, None, 1]))

    assert str(verdict([rows])) == "number is null (1 of 3 rows)"


# --- The contract itself


def test_the_schema_says_what_the_columns_do() -> None:
    assert SALES.schema == pa.schema(
        [
            pa.field("shop", pa.string(), nullable=False),
            pa.field("number", pa.int64(), nullable=False),
            pa.field("amount", pa.decimal128(18, 4), nullable=False),
            pa.field("note", pa.string(), nullable=True),
            pa.field("sold_on", pa.date32(), nullable=False),
        ]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": ("shop", "nobody")}, r"unknown=\['nobody'\]"),
        ({"day_column": "someday"}, r"unknown=\['someday'\]"),
        ({"columns": (*SALES.columns, Column("note", pa.string()))}, "each named once"),
        ({"key": ("note",)}, "note cannot be nullable"),
        (
            {"columns": (Column("on", pa.date32(), nullable=True),), "key": (), "day_column": "on"},
            "on cannot be nullable",
        ),
        ({"day_column": "shop"}, "day_column shop is string; a date or a timestamp"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SALES, **options)
