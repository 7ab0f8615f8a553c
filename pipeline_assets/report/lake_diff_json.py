"""How two lakes differ, for programs."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline_assets.rules.tolerance import Tolerance
from pipeline_assets.store.comparison import ColumnTally, TableDiff


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
    listed = [
        {**_table(each), "within": not tolerance.is_exceeded(each.differing, each.differing_share)} for each in tables
    ]
    value = {
        "base": base,
        "other": other,
        "max_changed_rows": tolerance.max_rows,
        "max_changed_share": tolerance.max_share,
        "within": all(each["within"] for each in listed),
        "tables": listed,
    }
    # Of what JSON does not have, there are days and decimals.
    return json.dumps(value, default=str, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _table(table: TableDiff) -> dict[str, Any]:
    types = sorted(table.types.items(), key=lambda item: item[0].column)
    return {
        "table": table.table,
        "key": table.key,
        "days": table.days,
        "rows_base": table.rows_base,
        "rows_other": table.rows_other,
        "added": table.added,
        "removed": table.removed,
        "changed": table.changed if table.key else None,
        "differing": table.differing,
        "differing_share": table.differing_share,
        "types": [{**change._asdict(), "days": days} for change, days in types],
        "columns": {name: _column(table, column) for name, column in table.columns.items()},
        "added_rows": [{"day": day, "row": row} for day, row in table.added_rows],
        "removed_rows": [{"day": day, "row": row} for day, row in table.removed_rows],
    }


def _column(table: TableDiff, column: ColumnTally) -> dict[str, Any]:
    return {
        "changed": column.changed if table.key else None,
        "sum_base": column.base and column.base.sum,
        "sum_other": column.other and column.other.sum,
        "mean_base": column.base and column.base.mean,
        "mean_other": column.other and column.other.mean,
        "examples": [{"day": day, **each._asdict()} for day, each in column.examples],
    }
