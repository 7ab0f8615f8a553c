"""The books of a partition: rows read = rows kept + duplicates + rejected."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.rules.accounting import Accounting

COUNTS = st.integers(0, 10**9)


@given(kept=COUNTS, duplicates=COUNTS, rejected=COUNTS, lost=st.integers(-(10**9), 10**9))
def test_what_is_neither_kept_nor_a_duplicate_nor_rejected_is_unaccounted_for(
    kept: int, duplicates: int, rejected: int, lost: int
) -> None:
    books = Accounting(kept + duplicates + rejected + lost, kept, duplicates, rejected)

    assert books.unaccounted == lost
    assert ("unaccounted" in str(books)) == (lost != 0)


def test_the_books_read_as_an_equation() -> None:
    assert str(Accounting(10, 7, 2, 1)) == "10 read = 7 kept + 2 duplicates + 1 rejected"
    assert str(Accounting(10, 7)) == "10 read = 7 kept + 0 duplicates + 0 rejected + 3 unaccounted for"
    assert str(Accounting(6, 7)) == "6 read = 7 kept + 0 duplicates + 0 rejected + -1 unaccounted for"
