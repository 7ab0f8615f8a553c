"""A check is a named function; its docstring is what the UI shows."""

from __future__ import annotations

from datetime import date

import pytest

from pipeline_assets.rules.checks import Finding, check


@check(blocking=True)
def day_is_not_empty(day: date, rows: list[int]) -> Finding:
    """
    The day holds rows.
    """
    return Finding(bool(rows), f"{len(rows)} rows on {day}", {"rows": len(rows)})


@check(blocking=False)
def undescribed() -> Finding:
    return Finding(passed=True, message="fine")


def test_a_check_has_the_name_and_the_docstring_of_its_function() -> None:
    assert (day_is_not_empty.name, day_is_not_empty.description) == ("day_is_not_empty", "The day holds rows.")
    assert (undescribed.name, undescribed.description) == ("undescribed", "")
    assert day_is_not_empty.blocking
    assert not undescribed.blocking
    assert not undescribed.alert


def test_only_a_check_that_warns_may_alert() -> None:
    def told() -> Finding:
        return Finding(passed=True, message="fine")

    assert check(blocking=False, alert=True)(told).alert
    with pytest.raises(ValueError, match="alert=True is for a check that only warns"):
        check(blocking=True, alert=True)


def test_a_check_finds_what_its_function_does() -> None:
    found = day_is_not_empty.function(date(2026, 6, 10), [])

    assert found == Finding(passed=False, message="0 rows on 2026-06-10", numbers={"rows": 0})
    assert undescribed.function().numbers == {}
