"""How two lakes differ, for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline_assets.rules.tolerance import Tolerance
from pipeline_assets.store.compare import ColumnTally, RunningTotal, TableDiff


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
    value = {
        "base": base,
        "other": other,
        "max_changed_rows": tolerance.max_rows,
        "max_changed_share": tolerance.max_share,
        "within": not beyond,
        "tables": [{**_table(each), "within": each.table not in beyond} for each in tables],
    }
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _table(table: TableDiff) -> dict[str, Any]:
    return {
        "table": table.table,
        "key": list(table.key),
        "days": {state.value: [day.isoformat() for day in days] for state, days in table.days.items()},
        "rows_base": table.rows_base,
        "rows_other": table.rows_other,
        "added": table.added,
        "removed": table.removed,
        "changed": table.changed if table.key else None,
        "differing": table.differing,
        "differing_share": table.differing_share,
        "types": [
            {
                "column": change.column,
                "base": change.base,
                "other": change.other,
                "days": [day.isoformat() for day in days],
            }
            for change, days in sorted(table.types.items(), key=lambda item: item[0].column)
        ],
        "columns": {name: _column(table, column) for name, column in table.columns.items()},
        "added_rows": [{"day": day.isoformat(), "row": row} for day, row in table.added_rows],
        "removed_rows": [{"day": day.isoformat(), "row": row} for day, row in table.removed_rows],
    }


def _column(table: TableDiff, column: ColumnTally) -> dict[str, Any]:
    return {
        "changed": column.changed if table.key else None,
        "sum_base": _sum(column.base),
        "sum_other": _sum(column.other),
        "mean_base": column.base.mean if column.base else None,
        "mean_other": column.other.mean if column.other else None,
        "examples": [
            {"day": day.isoformat(), "row": each.row, "base": each.base, "other": each.other}
            for day, each in column.examples
        ],
    }


def _sum(total: RunningTotal | None) -> str | float | None:
    if total is None:
        return None
    return str(total.sum) if isinstance(total.sum, Decimal) else total.sum
