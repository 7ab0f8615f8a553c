"""The verdict on how much of a table may differ."""

from __future__ import annotations

import pytest

from pipeline_assets.rules.tolerance import Tolerance


@pytest.mark.parametrize(
    ("tolerance", "rows", "share", "exceeded"),
    [
        (Tolerance(), 10**9, 1.0, False),
        (Tolerance(max_rows=0), 0, 0.0, False),
        (Tolerance(max_rows=0), 1, 0.0, True),
        (Tolerance(max_rows=10), 10, 1.0, False),
        (Tolerance(max_rows=10), 11, 0.0, True),
        (Tolerance(max_share=0.0), 0, 0.0, False),
        (Tolerance(max_share=0.0), 1, 1e-9, True),
        (Tolerance(max_share=0.5), 10**9, 0.5, False),
        (Tolerance(max_share=1.0), 10**9, 1.0, False),
        (Tolerance(max_rows=10, max_share=0.5), 10, 0.51, True),
        (Tolerance(max_rows=10, max_share=0.5), 11, 0.5, True),
        (Tolerance(max_rows=10, max_share=0.5), 10, 0.5, False),
    ],
)
def test_a_table_is_beyond_the_tolerance_when_either_bound_is_passed(
    tolerance: Tolerance, rows: int, share: float, *, exceeded: bool
) -> None:
    assert tolerance.is_exceeded(rows, share) is exceeded


def test_nothing_is_beyond_a_tolerance_without_bounds() -> None:
    assert [each.is_open for each in (Tolerance(), Tolerance(max_rows=0), Tolerance(max_share=0.0))] == [
        True,
        False,
        False,
    ]
