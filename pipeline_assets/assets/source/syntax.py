"""What DuckDB's parser says of a SELECT: its shape, its columns, an expression by itself."""

import json
from typing import Any

from pipeline_assets.assets.database import cursor, single_row
from pipeline_assets.errors import SourceError

_NO_TABLE = {"type": "EMPTY", "alias": "", "sample": None, "query_location": 0}


def select_node(text: str, name: str) -> dict[str, Any]:
    """The syntax tree of the only SELECT in a text.

    Raises:
        SourceError: there is another number of statements, or one that is no SELECT.
    """
    with cursor() as connection:
        (serialized,) = single_row(connection, "SELECT json_serialize_sql(?)", [text])
    parsed = json.loads(serialized)
    if parsed.get("error"):
        line = text.count("\n", 0, int(parsed.get("position", 0))) + 1
        raise SourceError(
            f"{name}, line {line}: not a SELECT that DuckDB understands: {parsed.get('error_message', '')}"
        )
    statements = parsed["statements"]
    if len(statements) != 1:
        raise SourceError(f"{name}: a source is one SELECT; found {len(statements)} statements")
    node: dict[str, Any] = statements[0]["node"]
    return node


def check_shape(node: dict[str, Any], name: str) -> None:
    """Make sure that it is SELECT ... FROM landing [WHERE ...].

    Raises:
        SourceError: names what else it has.
    """
    table = node.get("from_table", {})
    if table.get("type") == "BASE_TABLE" and table["table_name"].lower() == "landing":
        grouped = node["group_expressions"] or node["group_sets"] or node["aggregate_handling"] != "STANDARD_HANDLING"
        clauses = {
            "WITH": node["cte_map"]["map"],
            "a schema": table["schema_name"],
            "other names for the columns": table["column_name_alias"],
            "SAMPLE": node["sample"] or table["sample"],
            "GROUP BY": grouped,
            "HAVING": node["having"],
            "QUALIFY": node["qualify"],
            "DISTINCT, ORDER BY or LIMIT": node["modifiers"],
        }
        found = [words for words, clause in clauses.items() if clause]
    else:
        found = ["another FROM, or none"]
    if found:
        raise SourceError(
            f"{name}: a source is SELECT ... FROM landing [WHERE ...], one landing row to one event; it has "  # noqa: S608 - prose
            f"{', '.join(found)}. Aggregate, join and sort in an asset of its own."
        )


def name_of(item: dict[str, Any]) -> str:
    """The name of a column of the result, in small letters."""
    if item["class"] == "STAR" and not item["columns"]:
        return "*"
    return str(item.get("alias") or (item.get("column_names") or [item["type"].lower()])[-1]).lower()


def sql_of(node: dict[str, Any], expression: dict[str, Any]) -> str:
    """One expression as SQL text, without its alias."""
    alone = {**node, "select_list": [{**expression, "alias": ""}], "where_clause": None, "from_table": _NO_TABLE}
    statement = json.dumps({"error": False, "statements": [{"node": alone}]})
    with cursor() as connection:
        (text,) = single_row(connection, "SELECT json_deserialize_sql(?)", [statement])
    return str(text).removeprefix("SELECT ").strip()


def inputs_of(part: object) -> list[str]:
    """Columns that a part of the syntax tree refers to, each once."""
    if isinstance(part, list):
        names = [name for each in part for name in inputs_of(each)]
    elif not isinstance(part, dict):
        return []
    elif part.get("class") == "COLUMN_REF":
        return [str(part["column_names"][-1])]
    elif part.get("class") == "LAMBDA":
        left, right = inputs_of(part["lhs"]), inputs_of(part["expr"])
        # JSON's `a -> '$.b'` is parsed as a lambda as well: there the left is a column and not a parameter.
        is_arrow = part["syntax_type"] == "SINGLE_ARROW"
        names = left + right if is_arrow else [name for name in right if name not in left]
    else:
        names = inputs_of(list(part.values()))
    return list({name.lower(): name for name in names}.values())


def functions_in(part: object) -> set[str]:
    """Functions that a part of the syntax tree calls, in small letters."""
    if isinstance(part, list):
        return {name for each in part for name in functions_in(each)}
    if isinstance(part, dict):
        own = {str(part["function_name"]).lower()} if part.get("class") == "FUNCTION" else set()
        return own | functions_in(list(part.values()))
    return set()
