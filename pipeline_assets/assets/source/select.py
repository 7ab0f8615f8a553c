"""The SELECT of a source: one landing row in, one event out, and never a row lost.

A source is one SQL file: `SELECT <expressions> FROM landing [WHERE ...]`, run by DuckDB over the landing rows of a day,
all of them text. It names the five columns of the event contract and may name `reject_reason`: rows for which that is
not null are rejected with it. Expressions see the columns of their row, not each other, no other row and no clock.

They may fail on a row (a cast, a date that is none): that row is rejected, the others are not. To that end the SELECT
is taken apart with DuckDB's own parser and each expression is evaluated in a `TRY([...])`, which is null where the
expression fails and a list of null where it is null. An amount with more decimals than the contract has is rejected,
not rounded, unless it is a floating-point number; what the SELECT rounds by a cast of its own stays rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline_assets.assets.database import cursor
from pipeline_assets.assets.source.records import FILE, LINE, TEXT
from pipeline_assets.assets.source.syntax import check_shape, functions_in, inputs_of, name_of, select_node, sql_of
from pipeline_assets.errors import SourceError
from pipeline_assets.rules.calendar import day_bounds

TYPES = {
    "event_id": "VARCHAR",
    "user_id": "VARCHAR",
    "event_type": "VARCHAR",
    "amount": "DECIMAL(18, 4)",
    "event_time": "TIMESTAMP WITH TIME ZONE",
}
REQUIRED = ("event_id", "event_type", "event_time")
REASON = "reject_reason"
WHERE = "WHERE"
SHOWN_CHARACTERS = 60
"""Of a value that an expression fails on, in the reason."""
_IMPURE = {
    *("now", "today", "get_current_time", "get_current_timestamp", "transaction_timestamp", "txid_current"),
    *("current_database", "current_date", "current_schema", "current_schemas", "in_search_path"),
    *("current_setting", "getvariable"),
}
"""DuckDB's functions whose value depends on when and where they run; the volatile ones it refuses in TRY by itself."""
_REFUSALS = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed SELECT.

    Args:
        expressions: by column.
        where: the condition.
        alias: of `landing`.
        inputs: landing columns that each expression, and the condition as WHERE, is computed from.
    """

    name: str
    expressions: dict[str, str]
    where: str | None
    alias: str
    inputs: dict[str, tuple[str, ...]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Landing columns that the SELECT uses, in small letters."""
        return tuple(sorted({column.lower() for columns in self.inputs.values() for column in columns}))

    def judge(self, landing: pa.Table, *, day: date, timezone: str, lateness_days: int) -> pa.Table:
        """Every landing row with its event columns, and the rule and reason by which it is rejected, or null.

        Args:
            landing: `columns` as text, and source_file, source_line, source_text.
            day: arrival day.
            timezone: of days, and of times without a zone.

        Raises:
            SourceError: DuckDB refuses the SELECT.
        """
        late = f"event of {{}} arrived on {day}, more than {lateness_days} days later"
        results = [
            *self._results(),
            _RowResult("too_early", '"event_time?"[1] >= $too_early', f"event of {{}} arrived on {day}"),
            _RowResult("too_late", '"event_time?"[1] < $earliest', late),
        ]
        values = {
            "timezone": timezone,
            "earliest": day_bounds(day - timedelta(days=lateness_days), timezone)[0],
            "too_early": day_bounds(day + timedelta(days=1), timezone)[1],
        }
        judged = self._run(self._query(results), landing, values)
        if landing.num_rows == 0:
            # Nothing to look up, and the first look-up of a process makes pyarrow import pandas.
            empty = pa.schema([pa.field(name, pa.string()) for name in ("rule", "reason")])
            schema = pa.unify_schemas([judged.drop_columns(["result", "detail"]).schema, empty])
            return pa.Table.from_batches([], schema)
        rules = pa.array([result.rule for result in results]).take(judged["result"].combine_chunks())
        reasons = _reasons(judged, landing, results)
        return judged.drop_columns(["result", "detail"]).append_column("rule", rules).append_column("reason", reasons)

    def _run(self, sql: str, landing: pa.Table, values: Mapping[str, object]) -> pa.Table:
        with cursor() as connection:
            connection.execute(f"SET TimeZone = '{values['timezone']}'")
            connection.register("landing", landing)
            try:
                return connection.sql(sql, params=dict(values)).to_arrow_table()
            except _REFUSALS as error:
                raise SourceError(f"{self.name}: DuckDB refuses the SELECT: {_first_line(error)}") from error

    def _results(self) -> Iterator[_RowResult]:
        """What may be wrong with a row, but for its time; the first that is true counts."""
        condition = _braced(self.where or "")
        used = self.inputs.get
        yield _RowResult("cast", f'"{WHERE}?" IS NULL', f"WHERE cannot be computed: {condition}", used(WHERE, ()))
        yield _RowResult("filtered", f'"{WHERE}?"[1] IS NOT TRUE', f"left out by WHERE {condition}", used(WHERE, ()))
        for name, text in self.expressions.items():
            yield _RowResult(
                "cast", f'"{name}?" IS NULL', f"{name} cannot be computed: {_braced(text)}", used(name, ())
            )
        amount = _braced(self.expressions["amount"])
        yield _RowResult("cast", 'NOT "exact?"', f"amount has more than 4 decimals: {amount}", used("amount", ()))
        yield _RowResult("source_rule", f'"{REASON}?"[1] IS NOT NULL', "{}")
        for name in REQUIRED:
            yield _RowResult("required", f'"{name}?"[1] IS NULL', f"{name} is missing")

    def _query(self, results: list[_RowResult]) -> str:
        types = {**TYPES, REASON: "VARCHAR", WHERE: "BOOLEAN"}
        texts = {REASON: "NULL", **self.expressions, WHERE: self.where or "TRUE"}
        typed = {name: f"CAST(({text}) AS {types[name]})" for name, text in texts.items()}
        # An empty text is null, of a landing row and of an expression alike.
        typed |= {name: f"nullif({typed[name]}, '')" for name in typed if types[name] == "VARCHAR"}
        tried = ", ".join(f'TRY([{text}]) AS "{name}?"' for name, text in typed.items())
        cases = " ".join(f"WHEN {result.condition} THEN {code}" for code, result in enumerate(results))
        # Every part was parsed by DuckDB or stands above; values come in as parameters.
        return f"""
            WITH tried AS (
                SELECT {FILE}, {LINE}, {TEXT}, {tried},
                    TRY(typeof({texts["amount"]}) IN ('FLOAT', 'DOUBLE')
                        OR CAST(({texts["amount"]}) AS DECIMAL(38, 20)) = {typed["amount"]}) AS "exact?"
                FROM landing AS {_identifier(self.alias)}
            )
            SELECT {", ".join(f'"{name}?"[1] AS {name}' for name in TYPES)}, {FILE}, {LINE}, {TEXT},
                CASE {cases} END AS result,
                CASE WHEN "{REASON}?"[1] IS NOT NULL THEN "{REASON}?"[1]
                    WHEN "event_time?"[1] >= $too_early OR "event_time?"[1] < $earliest
                    -- the last instants that DuckDB knows are in no day of zones east of Greenwich
                    THEN coalesce(TRY(CAST(CAST(timezone($timezone, "event_time?"[1]) AS DATE) AS VARCHAR)), 'infinity')
                END AS detail
            FROM tried
        """  # noqa: S608 - see above


@dataclass(frozen=True, slots=True)
class _RowResult:
    """A way to be rejected. `{}` in `reason` is what the row itself says; the values of `inputs` are appended."""

    rule: str
    condition: str
    reason: str
    inputs: tuple[str, ...] = ()


def _reasons(judged: pa.Table, landing: pa.Table, results: list[_RowResult]) -> pa.Array:
    """Reasons of rejected rows, null for the others."""
    is_rejected = pc.is_valid(judged["result"]).combine_chunks()
    rejected, rows = judged.filter(is_rejected), landing.filter(is_rejected)
    # The text of the row stands beside the reason anyway.
    values = {name.lower(): rows[name].to_pylist() for name in rows.column_names if name != TEXT}
    reasons = []
    codes_and_details = zip(rejected["result"].to_pylist(), rejected["detail"].to_pylist(), strict=True)
    for row, (code, detail) in enumerate(codes_and_details):
        result = results[code]
        inputs = [
            f"; {name} is {_shown(values[name.lower()][row])}" for name in result.inputs if name.lower() in values
        ]
        reasons.append(result.reason.format(detail) + "".join(inputs))
    return pc.replace_with_mask(pa.nulls(len(is_rejected), pa.string()), is_rejected, pa.array(reasons, pa.string()))


def _shown(value: object) -> str:
    return "null" if value is None else f"'{str(value)[:SHOWN_CHARACTERS]}'"


def load_source(path: Path) -> Source:
    """Read and take apart the SELECT in a file.

    Raises:
        SourceError: the file cannot be read, or is no SELECT of the event contract from `landing`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path}: the source cannot be read: {error}. PIPELINE_SOURCE is the path of a file with one SELECT."
        ) from error
    return parse_source(text, name=path.name)


def parse_source(text: str, *, name: str) -> Source:
    """Take a SELECT apart, and try it on no rows.

    Raises:
        SourceError: it is no SELECT of the event contract from `landing`.
    """
    node = select_node(text, name)
    check_shape(node, name)
    items = node["select_list"]
    names = [name_of(item) for item in items]
    _check_names(names, name)
    where = node["where_clause"]
    parts = dict(zip(names, items, strict=True)) | ({WHERE: where} if where else {})
    impure = sorted(functions_in(list(parts.values())) & _IMPURE)
    if impure:
        raise SourceError(
            f"{name}: {', '.join(impure)}() gives another value each time; an event is made of its landing row alone"
        )
    source = Source(
        name=name,
        expressions={column: sql_of(node, parts[column]) for column in names},
        where=sql_of(node, where) if where else None,
        alias=node["from_table"]["alias"] or "landing",
        inputs={column: tuple(inputs_of(part)) for column, part in parts.items()},
    )
    rows = dict.fromkeys(source.columns, pa.string()) | {FILE: pa.string(), LINE: pa.int64(), TEXT: pa.string()}
    source.judge(
        pa.Table.from_batches([], pa.schema(list(rows.items()))), day=date(2000, 1, 1), timezone="UTC", lateness_days=0
    )
    return source


def _check_names(names: list[str], name: str) -> None:
    missing = [column for column in TYPES if column not in names]
    extra = [column for column in names if column not in TYPES and column != REASON]
    twice = sorted({column for column in names if names.count(column) > 1})
    if missing or extra or twice:
        faults = {"missing": missing, "not in the contract": extra, "more than once": twice}
        found = "; ".join(f"{fault}: {', '.join(columns)}" for fault, columns in faults.items() if columns)
        raise SourceError(
            f"{name}: the SELECT gives {', '.join(names)}. The event contract is {', '.join(TYPES)} "
            f"(and {REASON}, if wanted). {found[0].upper()}{found[1:]}."
        )


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).split("\n\n")[0].replace("\n", " ")
