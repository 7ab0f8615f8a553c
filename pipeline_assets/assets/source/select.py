"""The SELECT of a source: one landing row in, one event out, and never a row lost.

A source is one SQL file: `SELECT <expressions> FROM landing [WHERE ...]`, run by DuckDB over the landing rows of a day,
all of them text. It names the five columns of the event contract and may name `reject_reason`: rows for which that is
not null are rejected with it. Expressions may fail on a row (a cast, a date that is none): that row is rejected, the
others are not. To that end the SELECT is taken apart with DuckDB's own parser and each expression is evaluated in a
`TRY([...])`, which is null where the expression fails and a list of null where it is null.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from pipeline_assets.assets.database import cursor, single_row
from pipeline_assets.assets.source.landing_rows import FILE, LINE, TEXT
from pipeline_assets.errors import LandingError, SourceError

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    import pyarrow as pa

TYPES = {
    "event_id": "VARCHAR",
    "user_id": "VARCHAR",
    "event_type": "VARCHAR",
    "amount": "DECIMAL(18, 4)",
    "event_time": "TIMESTAMP WITH TIME ZONE",
}
REQUIRED = ("event_id", "event_type", "event_time")
REASON = "reject_reason"


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed SELECT. `expressions` are its columns, `where` its condition, `columns` the landing columns it uses."""

    name: str
    expressions: dict[str, str]
    where: str | None
    columns: tuple[str, ...]

    def judge(self, landing: pa.Table, *, day: date, timezone: str, lateness_days: int) -> pa.Table:
        """Every landing row with its event columns, and the rule and reason by which it is rejected, or null.

        Args:
            landing: columns of text, and source_file, source_line, source_text.
            day: arrival day.
            timezone: of days, and of times without a zone.

        Raises:
            LandingError: a column that the SELECT uses is not there. SourceError: DuckDB refuses the SELECT.
        """
        with cursor() as connection:
            connection.execute(f"SET TimeZone = '{timezone}'")
            connection.register("landing", landing)
            try:
                judged = connection.sql(
                    self._judging(), params={"day": day, "timezone": timezone, "lateness_days": lateness_days}
                ).to_arrow_table()
            except duckdb.BinderException as error:
                first = landing[FILE][0].as_py()
                found = ", ".join(name for name in landing.column_names if name not in {FILE, LINE, TEXT})
                msg = f"{first}: {self.name} cannot be run on its columns ({found}): {_first_line(error)}"
                raise LandingError(msg) from error
            except duckdb.Error as error:
                msg = f"{self.name}: {_first_line(error)}"
                raise SourceError(msg) from error
        if judged.num_rows != landing.num_rows:
            msg = (
                f"{self.name}: made {judged.num_rows} rows of {landing.num_rows} landing rows. A source turns one "
                "landing row into one event; aggregate, join and unnest in an asset of its own."
            )
            raise SourceError(msg)
        return judged

    def _judging(self) -> str:
        tried = [
            f"TRY([CAST(({text}) AS {TYPES[name]})]) AS {name}"
            for name, text in self.expressions.items()
            if name in TYPES
        ]
        tried.append(f"TRY([CAST(({self.expressions.get(REASON, 'NULL')}) AS VARCHAR)]) AS {REASON}")
        tried.append(f"TRY([CAST(({self.where or 'TRUE'}) AS BOOLEAN)]) AS wanted")
        failing = "\n".join(
            f"WHEN {name} IS NULL THEN {_verdict('cast', f'{name} cannot be computed: {self.expressions.get(name)}')}"
            for name in (*TYPES, REASON)
        )
        missing = "\n".join(
            f"WHEN {name}[1] IS NULL THEN {_verdict('required', name + ' is missing')}" for name in REQUIRED
        )
        # Every part was parsed by DuckDB or stands above; values come in as parameters.
        return f"""
            WITH tried AS (SELECT {FILE}, {LINE}, {TEXT}, {", ".join(tried)} FROM landing),
            placed AS (SELECT *, CAST(timezone($timezone, event_time[1]) AS DATE) AS event_day FROM tried)
            SELECT {", ".join(f"{name}[1] AS {name}" for name in TYPES)}, {FILE}, {LINE}, {TEXT},
                unnest(CASE
                    WHEN wanted IS NULL THEN {_verdict("cast", "WHERE cannot be computed: " + (self.where or ""))}
                    WHEN wanted[1] IS NOT TRUE THEN {_verdict("filtered", "left out by WHERE " + (self.where or ""))}
                    {failing}
                    WHEN {REASON}[1] IS NOT NULL THEN {{'rule': 'source_rule', 'reason': {REASON}[1]}}
                    {missing}
                    WHEN event_day > CAST($day AS DATE) + 1 THEN {{'rule': 'too_early', 'reason': 'event of '
                        || event_day || ' arrived on ' || CAST($day AS DATE)}}
                    WHEN event_day < CAST($day AS DATE) - CAST($lateness_days AS INTEGER) THEN {{'rule': 'too_late',
                        'reason': 'event of ' || event_day || ' arrived on ' || CAST($day AS DATE)
                        || ', more than ' || $lateness_days || ' days later'}}
                    ELSE {{'rule': NULL::VARCHAR, 'reason': NULL::VARCHAR}}
                END)
            FROM placed
        """  # noqa: S608 - see above


def load_source(path: Path) -> Source:
    """Read and take apart the SELECT in a file.

    Raises:
        SourceError: the file cannot be read, or is no SELECT of the event contract from `landing`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: the source cannot be read: {error}. PIPELINE_SOURCE is the path of a file with one SELECT."
        raise SourceError(msg) from error
    return parse_source(text, name=path.name)


def parse_source(text: str, *, name: str) -> Source:
    """Take a SELECT apart.

    Raises:
        SourceError: it is no SELECT of the event contract from `landing`.
    """
    node = _select_node(text, name)
    forbidden = [
        words
        for words, used in {
            "GROUP BY": node["group_expressions"] or node["group_sets"],
            "HAVING": node["having"],
            "QUALIFY": node["qualify"],
            "SAMPLE": node["sample"],
            "DISTINCT, ORDER BY or LIMIT": node["modifiers"],
            "WITH": node["cte_map"]["map"],
        }.items()
        if used
    ]
    from_table = node["from_table"]
    if from_table["type"] != "BASE_TABLE" or from_table["table_name"].lower() != "landing" or forbidden:
        found = f"; it has {', '.join(forbidden)}" if forbidden else ""
        msg = f"{name}: a source is SELECT ... FROM landing [WHERE ...], one landing row to one event{found}"  # noqa: S608 - prose
        raise SourceError(msg)
    expressions = {_name_of(item): _sql_of(node, item) for item in node["select_list"]}
    missing = [column for column in TYPES if column not in expressions]
    extra = [column for column in expressions if column not in TYPES and column != REASON]
    if missing or extra:
        msg = (
            f"{name}: the SELECT gives {', '.join(expressions)}. The event contract is {', '.join(TYPES)} "
            f"(and {REASON}, if wanted). Missing: {', '.join(missing) or 'none'}; not in the contract: "
            f"{', '.join(extra) or 'none'}."
        )
        raise SourceError(msg)
    where = node["where_clause"]
    used = sorted({column for part in (node["select_list"], where) for column in _columns_in(part)})
    return Source(name, expressions, _sql_of(node, where) if where else None, tuple(used))


def _select_node(text: str, name: str) -> dict[str, Any]:
    with cursor() as connection:
        (serialized,) = single_row(connection, "SELECT json_serialize_sql(?)", [text])
    parsed = json.loads(serialized)
    if parsed.get("error"):
        msg = f"{name}: not a SELECT that DuckDB understands: {parsed.get('error_message', '')}"
        raise SourceError(msg)
    statements = parsed["statements"]
    if len(statements) != 1 or statements[0]["node"]["type"] != "SELECT_NODE":
        msg = f"{name}: a source is one SELECT; found {len(statements)} statements"
        raise SourceError(msg)
    node: dict[str, Any] = statements[0]["node"]
    return node


def _name_of(item: dict[str, Any]) -> str:
    return str(item.get("alias") or (item.get("column_names") or [item["type"].lower()])[-1]).lower()


def _sql_of(node: dict[str, Any], expression: dict[str, Any]) -> str:
    """One expression as SQL text, without its alias."""
    alone = {
        **node,
        "select_list": [{**expression, "alias": ""}],
        "where_clause": None,
        "from_table": _NO_TABLE,
    }
    statement = json.dumps({"error": False, "statements": [{"node": alone}]})
    with cursor() as connection:
        (text,) = single_row(connection, "SELECT json_deserialize_sql(?)", [statement])
    return str(text).removeprefix("SELECT ").strip()


_NO_TABLE = {"type": "EMPTY", "alias": "", "sample": None, "query_location": 0}


def _columns_in(part: object) -> set[str]:
    if isinstance(part, list):
        return {name for each in part for name in _columns_in(each)}
    if isinstance(part, dict):
        own = {str(part["column_names"][-1])} if part.get("class") == "COLUMN_REF" else set()
        return own | {name for each in part.values() for name in _columns_in(each)}
    return set()


def _verdict(rule: str, reason: str) -> str:
    return f"{{'rule': {_quoted(rule)}, 'reason': {_quoted(reason)}}}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).split("\n\n")[0].replace("\n", " ")
