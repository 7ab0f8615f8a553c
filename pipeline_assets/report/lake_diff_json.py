"""How two lakes differ, for programs."""

from collections.abc import Sequence
from typing import Any

from pipeline_assets.report.plain_json import fields, sorted_json
from pipeline_assets.rules.tolerance import Tolerance
from pipeline_assets.store.compare import ColumnTally, TableDiff

_OF_A_TABLE = ("table", "key", "days", "rows_base", "rows_other", "added", "removed", "differing", "differing_share")


def lake_diff_json(base: str, other: str, tables: Sequence[TableDiff], tolerance: Tolerance) -> str:
    """The comparison as JSON: keys sorted, days as YYYY-MM-DD, null where there is no value.

    `base`, `other`: folders; `max_changed_rows`, `max_changed_share`: the threshold;
    `within`: false if a table is beyond it; `tables`, each with
        `table`, `key`, `within`, `rows_base`, `rows_other`, `added`, `removed`, `changed` (null without a key),
        `differing`: rows, `differing_share`: from 0 to 1,
        `days`: lists by `equal`, `same_rows`, `different`, `only_base`, `only_other`,
        `types`: of columns that are not the same, each with `column`, `base`, `other`, `days`,
        `columns`: by name, of the days that differ: `changed`, `sum_base`, `sum_other` (decimals as text), `mean_base`,
            `mean_other`, `examples` with `day`, `row`, `base`, `other`,
        `added_rows`, `removed_rows`: a few, with `day` and `row`.
    """
    beyond = {each.table for each in tables if tolerance.is_exceeded(each.differing, each.differing_share)}
    return sorted_json(
        {
            "base": base,
            "other": other,
            "max_changed_rows": tolerance.max_rows,
            "max_changed_share": tolerance.max_share,
            "within": not beyond,
            "tables": [{**_table(each), "within": each.table not in beyond} for each in tables],
        }
    )


def _table(table: TableDiff) -> dict[str, Any]:
    types = sorted(table.types.items(), key=lambda item: item[0].column)
    return {
        **fields(table, _OF_A_TABLE),
        "changed": table.changed if table.key else None,
        "types": [{**fields(change, ("column", "base", "other")), "days": days} for change, days in types],
        "columns": {name: _column(table, column) for name, column in table.columns.items()},
        "added_rows": [{"day": day, "row": row} for day, row in table.added_rows],
        "removed_rows": [{"day": day, "row": row} for day, row in table.removed_rows],
    }


def _column(table: TableDiff, column: ColumnTally) -> dict[str, Any]:
    totals = {"base": column.base, "other": column.other}
    return {
        "changed": column.changed if table.key else None,
        **{f"sum_{lake}": total and total.sum for lake, total in totals.items()},
        **{f"mean_{lake}": total and total.mean for lake, total in totals.items()},
        "examples": [{"day": day, **fields(each, ("row", "base", "other"))} for day, each in column.examples],
    }
