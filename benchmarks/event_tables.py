"""Event-like tables for the benchmarks: seeded, so that every run measures the same rows."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline_assets.rules.contract import Column, Contract

DAY = date(2026, 6, 10)
DAY_MICROSECONDS = 86_400_000_000
EVENT_TYPES = ("page_view", "add_to_cart", "purchase", "refund")
COUNTRIES = ("DE", "FR", "GB", "US", "NL", "PL", "ES", "IT", "SE", "AT", "BE", "CH")
WIDE_EVENTS = Contract(
    (
        Column("event_id", pa.string()),
        Column("user_id", pa.string()),
        Column("event_type", pa.string(), one_of=EVENT_TYPES),
        Column("amount", pa.decimal128(18, 4)),
        Column("event_time", pa.timestamp("us", "UTC")),
        Column("country", pa.string()),
        Column("qty", pa.int64(), minimum=1),
        Column("price", pa.float64()),
        Column("score", pa.float64()),
        Column("session", pa.int64()),
    ),
    key=("event_id",),
    day_column="event_time",
)


def event_rows(rows: int, *, seed: int, day: date = DAY) -> pa.Table:
    """One day of ten columns, ascending by event_id."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "event_id": pc.take(ids := hex_ids(rng, rows), pc.sort_indices(ids)),
            "user_id": numbered("u", rng.integers(50_000, size=rows)),
            "event_type": pa.array(EVENT_TYPES).take(pa.array(rng.choice(4, rows, p=(0.78, 0.13, 0.08, 0.01)))),
            "amount": money(rng, rows).cast(pa.decimal128(18, 4)),
            "event_time": times_of(rng, rows, day),
            "country": pa.array(COUNTRIES).take(pa.array(rng.integers(len(COUNTRIES), size=rows))),
            "qty": pa.array(rng.integers(1, 20, rows)),
            "price": pa.array(np.round(rng.lognormal(3, 1, rows), 2)),
            "score": pa.array(rng.random(rows)),
            "session": pa.array(rng.integers(0, 1 << 40, rows)),
        }
    )


def hex_ids(rng: np.random.Generator, rows: int) -> pa.Array:
    """Ids of 32 hex digits."""
    raw = np.frombuffer(rng.bytes(16 * rows), np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.empty(32 * rows, np.uint8)
    text[0::2], text[1::2] = digits[raw >> 4], digits[raw & 15]
    offsets = np.arange(0, 32 * rows + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))


def numbered(prefix: str, numbers: NDArray[np.int64]) -> pa.Array:
    """Names such as u01234."""
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 6, "0"), "")


def money(rng: np.random.Generator, rows: int) -> pa.Array:
    """Amounts with two decimal places."""
    return pa.array(rng.lognormal(3, 1, rows)).cast(pa.decimal128(18, 2))


def times_of(rng: np.random.Generator, rows: int, day: date) -> pa.Array:
    """Times of the day, in no order."""
    epoch_day = (day - date(1970, 1, 1)).days
    return pa.array(epoch_day * DAY_MICROSECONDS + rng.integers(DAY_MICROSECONDS, size=rows), pa.timestamp("us", "UTC"))
