"""How a comparison of two lakes is told: sentences, tables, Markdown, JSON."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from pipeline_assets.report.lake_diff import conclusion, explanation, headline, lake_diff_markdown, overview, values
from pipeline_assets.report.lake_diff_json import lake_diff_json
from pipeline_assets.rules.tolerance import Tolerance
from pipeline_assets.store.comparison import DayStatus, TableDiff
from pipeline_assets.store.row_diff import ColumnDiff, RowDiff, Total, TypeChange, ValueChange

FIRST = date(2026, 3, 1)
EQUAL = RowDiff(0, 0, 0, {})


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def doubled(number: int) -> RowDiff:
    """One of four rows a day has twice the amount."""
    example = ValueChange("event_type=purchase", "1.00", "2.00")
    amount = ColumnDiff(1, Total(4, Decimal("1234.50")), Total(4, Decimal("1235.50")), (example,))
    users = ColumnDiff(0, Total(4, 40), Total(4, 40))
    return RowDiff(0, 0, 1, {"amount": amount, "users": users})


def sales(days: int = 3) -> TableDiff:
    table = TableDiff("daily_sales", ("event_type",))
    for number in range(days):
        table.add_day(day(number), 4, 4, doubled(number))
    return table


def equal() -> TableDiff:
    table = TableDiff("events", ("event_id",))
    table.add_day(day(0), 1000, 1000, None)
    return table


def test_the_headline_counts_the_tables_that_differ() -> None:
    assert headline([sales(), equal()]) == "1 of 2 tables differs, 2026-03-01 to 2026-03-03."
    assert headline([equal()]) == "1 table compared, 2026-03-01 to 2026-03-01: no difference."


def test_every_table_has_a_row_in_the_overview() -> None:
    found = overview([sales(), equal()])
    assert found.rows == [["daily_sales", 0, 3, 0, 0, 12, 12, 0, 0, 3], ["events", 1, 0, 0, 0, 1000, 1000, 0, 0, 0]]
    assert len(found.names) == len(found.rows[0])


def test_days_are_told_as_stretches_and_many_of_them_are_counted() -> None:
    assert explanation(sales()) == [
        "Differs on 3 days (2026-03-01 to 2026-03-03): 3 rows (25 %) differ.",
        "Rows are matched by event_type.",
    ]
    apart = TableDiff("events")
    for number in range(0, 40, 2):
        apart.add_day_of_one(day(number), DayStatus.ONLY_BASE, 1)
    assert explanation(apart) == [
        "Only base has 20 days (2026-03-01, 2026-03-03, 2026-03-05, 2026-03-07, and 16 more stretches)."
    ]


def test_what_is_equal_needs_no_words() -> None:
    assert explanation(equal()) == []
    assert values(equal()).rows == []


def test_sums_and_means_are_told_with_their_difference() -> None:
    ((name, changed, total, mean, example),) = values(sales()).rows
    assert (name, changed) == ("amount", 3)
    assert total == "3,703.50 → 3,706.50 (+3.00)"
    assert mean == "308.625 → 308.875 (+0.25)"
    assert str(example).startswith("2026-03-01, event_type=purchase: 1.00 → 2.00; 2026-03-02")


def test_a_sum_that_only_other_rows_moved_is_told() -> None:
    table = TableDiff("events", ("event_id",))
    moved = RowDiff(1, 0, 0, {"n": ColumnDiff(0, Total(1, 1), Total(2, 3)), "event_id": ColumnDiff(0, None, None)})
    table.add_day(day(0), 1, 2, moved)
    assert [row[:3] for row in values(table).rows] == [["n", 0, "1 → 3 (+2)"]]


def test_the_order_in_which_floats_were_added_up_is_no_difference() -> None:
    table = TableDiff("events")
    sums = (Total(3, 0.1 + 0.2 + 0.3), Total(3, 0.3 + 0.2 + 0.1))
    assert sums[0] != sums[1]
    table.add_day(day(0), 3, 3, RowDiff(1, 1, None, {"x": ColumnDiff(0, *sums)}))
    assert values(table).rows == []


def test_values_that_are_null_empty_or_long_can_be_told() -> None:
    table = TableDiff("events", ("id",))
    changes = (ValueChange("id=1", None, ""), ValueChange("id=2", "x" * 200, "y"))
    table.add_day(day(0), 2, 2, RowDiff(0, 0, 2, {"note": ColumnDiff(2, None, None, changes)}))
    ((*_, example),) = values(table).rows
    assert "id=1: null → ''" in str(example)
    assert f"{'x' * 79}… → y" in str(example)


def test_changes_of_the_schema_and_other_bytes_are_told() -> None:
    table = TableDiff("events")
    gone, new = TypeChange("note", "string", None), TypeChange("note", None, "string")
    table.add_day(day(0), 1, 1, RowDiff(0, 0, None, {}, (gone,)))
    table.add_day(day(1), 1, 1, RowDiff(0, 0, None, {}, (new,)))
    table.add_day(day(2), 1, 1, RowDiff(0, 0, None, {}))
    assert explanation(table)[1:] == [
        "Without a key rows are compared whole.",
        "The same rows in other bytes: 1 day (2026-03-03).",
        "Column note: string → not there, on 1 day (2026-03-01).",
        "Column note: not there → string, on 1 day (2026-03-02).",
    ]


@pytest.mark.parametrize(
    ("tolerance", "said"),
    [
        (Tolerance(), []),
        (Tolerance(max_rows=3), ["Within the threshold: 3 rows of a table may differ."]),
        (
            Tolerance(max_rows=2),
            ["daily_sales is beyond the threshold: 3 rows (25 %) differ; 2 rows of a table may differ."],
        ),
        (
            Tolerance(max_rows=5, max_share=0.2),
            [
                (
                    "daily_sales is beyond the threshold: 3 rows (25 %) differ; "
                    "5 rows and 20 % of the rows of a table may differ."
                )
            ],
        ),
    ],
)
def test_the_conclusion_names_what_is_beyond_the_threshold(tolerance: Tolerance, said: list[str]) -> None:
    assert conclusion([sales(), equal()], tolerance) == said


def test_markdown_has_a_table_of_tables_and_one_of_values() -> None:
    text = lake_diff_markdown("base/lake", "head/lake", [sales(), equal()], Tolerance(max_rows=0))
    lines = text.splitlines()
    assert lines[0] == "### 1 of 2 tables differs, 2026-03-01 to 2026-03-03."
    assert "| daily_sales | 0 | 3 | 0 | 0 | 12 | 12 | 0 | 0 | 3 |" in lines
    assert "| events | 1 | 0 | 0 | 0 | 1,000 | 1,000 | 0 | 0 | 0 |" in lines
    assert "#### daily_sales" in lines
    assert "#### events" not in lines
    for before, after in pairwise(lines):
        if before.startswith("|") and after.startswith("|"):
            assert before.count("|") == after.count("|")


def test_markdown_shows_text_as_it_is() -> None:
    table = TableDiff("events", ("id",))
    change = ValueChange("id=1", "a|b\n<script>", "`[x](y)` *z* _w_ snake_case \\")
    table.add_day(day(0), 1, 1, RowDiff(0, 0, 1, {"note": ColumnDiff(1, None, None, (change,))}))
    text = lake_diff_markdown("b", "o", [table], Tolerance())
    (line,) = [line for line in text.splitlines() if line.startswith("| note")]
    assert line.endswith(r"a\|b \<script\> → \`\[x\](y)\` \*z\* \_w\_ snake_case \\ |")


def test_json_holds_every_figure() -> None:
    found = json.loads(lake_diff_json("base", "other", [sales(), equal()], Tolerance(max_share=0.2)))
    assert (found["base"], found["within"], found["max_changed_share"]) == ("base", False, 0.2)
    first, second = found["tables"]
    assert (first["table"], first["within"], second["within"]) == ("daily_sales", False, True)
    assert (first["added"], first["removed"], first["changed"], first["differing"]) == (0, 0, 3, 3)
    assert first["days"]["different"] == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert first["columns"]["amount"]["sum_base"] == "3703.50"
    assert first["columns"]["users"]["sum_base"] == 120
    assert first["columns"]["amount"]["examples"][0] == {
        "day": "2026-03-01",
        "row": "event_type=purchase",
        "base": "1.00",
        "other": "2.00",
    }


def test_json_says_null_where_there_is_no_key_to_tell_a_changed_row_by() -> None:
    table = TableDiff("events")
    table.add_day(day(0), 1, 1, RowDiff(1, 1, None, {"n": ColumnDiff(0, None, None)}))
    (found,) = json.loads(lake_diff_json("base", "other", [table], Tolerance()))["tables"]
    assert (found["changed"], found["columns"]["n"]["changed"]) == (None, None)
