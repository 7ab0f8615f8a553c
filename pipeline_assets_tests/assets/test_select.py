"""The SELECT of a source: what is accepted, what is refused in one readable message, and how rows are judged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.assets.source.records import FILE, LINE, TEXT
from pipeline_assets.assets.source.select import TYPES, Source, load_source, parse_source
from pipeline_assets.errors import SourceError
from pipeline_assets_tests.assets.landed import DAY, SOURCES
from pipeline_assets_tests.support.properties import examples

Row = Mapping[str, str | None]
COLUMNS = {
    "event_id": "id",
    "user_id": "who",
    "event_type": "kind",
    "amount": "amount",
    "event_time": "CAST(time AS TIMESTAMPTZ)",
}
GOOD = {"id": "e1", "who": "u1", "kind": "sale", "amount": "1.50", "time": "2026-06-10T12:00:00Z"}
SELECT = ", ".join(f"{expression} AS {name}" for name, expression in COLUMNS.items())


@cache
def source_of(where: str = "", **expressions: str) -> Source:
    columns = ", ".join(f"{expression} AS {name}" for name, expression in {**COLUMNS, **expressions}.items())
    return parse_source(f"SELECT {columns} FROM landing {where}", name="test.sql")


def sort_out(source: Source, *rows: Row, day: date = DAY, timezone: str = "UTC", lateness_days: int = 3) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in {**GOOD, **row})
    table = pa.table(
        {
            **{name: pa.array([{**GOOD, **row}.get(name) for row in rows], pa.string()) for name in names},
            FILE: pa.array(["file.csv"] * len(rows)),
            LINE: pa.array(range(2, len(rows) + 2), pa.int64()),
            TEXT: pa.array(["text"] * len(rows)),
        }
    )
    result = source.judge(table, day=day, timezone=timezone, lateness_days=lateness_days)
    assert result.select([FILE, LINE, TEXT]) == table.select([FILE, LINE, TEXT])
    return result


def sorted_rows(source: Source, *rows: Row, **arguments: Any) -> list[dict[str, Any]]:
    return list(sort_out(source, *rows, **arguments).to_pylist())


def verdicts(source: Source, *rows: Row, **arguments: Any) -> list[tuple[str | None, str | None]]:
    table = sort_out(source, *rows, **arguments)
    return list(zip(table["rule"].to_pylist(), table["reason"].to_pylist(), strict=True))


def rules(source: Source, *rows: Row, **arguments: Any) -> list[str | None]:
    return [rule for rule, _ in verdicts(source, *rows, **arguments)]


# --- What a source may be


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("demo.sql", ("amount", "event_id", "event_time", "event_type", "user_id")),
        ("online_retail.sql", ("customerid", "invoicedate", "invoiceno", "quantity", "source_text", "unitprice")),
        ("git_commits.sql", ("author_key", "author_ts", "commit_hash", "deletions", "event_type", "insertions")),
    ],
)
def test_the_shipped_sources_parse_and_know_the_columns_that_they_use(name: str, columns: tuple[str, ...]) -> None:
    source = load_source(SOURCES / name)
    assert source.columns == columns
    assert set(source.expressions) - {"reject_reason"} == set(TYPES)


def test_there_is_no_shipped_source_that_is_not_tested() -> None:
    assert sorted(path.name for path in SOURCES.iterdir()) == ["demo.sql", "git_commits.sql", "online_retail.sql"]


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT {SELECT} FROM landing;",
        f"-- a comment\n/* another */ select {SELECT}\nfrom LANDING -- the end",
        f"FROM landing SELECT {SELECT}",
        f"SELECT {SELECT} FROM landing AS l",
        f"SELECT {SELECT.replace('id AS', 'l.id AS')} FROM landing AS l WHERE l.id = 'e1'",
        f"SELECT {SELECT.replace('id AS', 'landing.id AS')} FROM landing",
        f"SELECT {SELECT.replace('id AS', 'ID AS').replace('AS event_id', 'AS EVENT_ID')} FROM landing",
        f"SELECT reject_reason, {SELECT} FROM landing".replace("reject_reason", "NULL AS reject_reason"),
        f'SELECT {SELECT} FROM "landing" WHERE TRUE',
    ],
)
def test_a_source_may_be_written_in_several_ways(text: str) -> None:
    (row,) = sorted_rows(parse_source(text, name="test.sql"), {})
    assert row["rule"] is None
    assert row["event_id"] == "e1"
    assert row["amount"] == Decimal("1.5000")
    assert row["event_time"] == datetime(2026, 6, 10, 12, tzinfo=UTC)


def test_a_source_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text(f"SELECT {SELECT} FROM landing", encoding="utf-8-sig")
    assert load_source(tmp_path / "mine.sql").name == "mine.sql"


WRONG = {
    "nothing": ("", "one SELECT; found 0 statements"),
    "comments only": ("-- SELECT\n/* FROM landing */", "one SELECT; found 0 statements"),
    "two statements": (f"SELECT {SELECT} FROM landing; SELECT 1", "one SELECT; found 2 statements"),
    "syntax": (f"SELECT {SELECT}\nFORM landing", 'line 2: not a SELECT that DuckDB understands: .* near "FORM"'),
    "unclosed": (f"SELECT ({SELECT} FROM landing", "not a SELECT that DuckDB understands"),
    "no SELECT": ("CREATE TABLE landing (id TEXT)", "not a SELECT that DuckDB understands"),
    "writes a file": (f"COPY (SELECT {SELECT} FROM landing) TO 'x'", "not a SELECT that DuckDB understands"),
    "lacks a column": ("SELECT id AS event_id FROM landing", "Missing: user_id, event_type, amount, event_time"),
    "lacks the alias": (f"SELECT {SELECT.replace('AS event_id', '')} FROM landing", "Missing: event_id; not in .*: id"),
    "extra column": (f"SELECT {SELECT}, 1 AS one FROM landing", "Not in the contract: one"),
    "column twice": (f"SELECT {SELECT}, who AS event_id FROM landing", "More than once: event_id"),
    "star": ("SELECT * FROM landing", r"the SELECT gives \*\..* not in the contract: \*"),
    "star and columns": (f"SELECT *, {SELECT} FROM landing", r"Not in the contract: \*"),
    "columns by pattern": (f"SELECT {SELECT.replace('id AS', 'COLUMNS(c -> TRUE) AS', 1)} FROM landing", "refuses"),
    "aggregate": (f"SELECT {SELECT.replace('amount AS', 'max(amount) AS')} FROM landing", "aggregates are not allowed"),
    "GROUP BY": (f"SELECT {SELECT} FROM landing GROUP BY id", "it has GROUP BY"),
    "GROUP BY ALL": (f"SELECT {SELECT} FROM landing GROUP BY ALL", "it has GROUP BY"),
    "HAVING": (f"SELECT {SELECT} FROM landing HAVING TRUE", "it has HAVING"),
    "ORDER BY": (f"SELECT {SELECT} FROM landing ORDER BY id", "it has DISTINCT, ORDER BY or LIMIT"),
    "LIMIT": (f"SELECT {SELECT} FROM landing LIMIT 1", "it has DISTINCT, ORDER BY or LIMIT"),
    "OFFSET": (f"SELECT {SELECT} FROM landing OFFSET 1", "it has DISTINCT, ORDER BY or LIMIT"),
    "DISTINCT": (f"SELECT DISTINCT {SELECT} FROM landing", "it has DISTINCT, ORDER BY or LIMIT"),
    "QUALIFY": (f"SELECT {SELECT} FROM landing QUALIFY row_number() OVER () = 1", "it has QUALIFY"),
    "SAMPLE": (f"SELECT {SELECT} FROM landing USING SAMPLE 10%", "it has SAMPLE"),
    "TABLESAMPLE": (f"SELECT {SELECT} FROM landing TABLESAMPLE 10%", "it has SAMPLE"),
    "WITH": (f"WITH l AS (SELECT 1) SELECT {SELECT} FROM landing", "it has WITH"),
    "UNION": (f"SELECT {SELECT} FROM landing UNION ALL SELECT {SELECT} FROM landing", "it has another FROM, or none"),
    "other table": (f"SELECT {SELECT} FROM events", "it has another FROM, or none"),
    "other schema": (f"SELECT {SELECT} FROM lake.landing", "it has a schema"),
    "file": (f"SELECT {SELECT} FROM read_csv('x.csv')", "it has another FROM, or none"),
    "join": (f"SELECT {SELECT} FROM landing JOIN landing AS other USING (id)", "it has another FROM, or none"),
    "subquery": (f"SELECT {SELECT} FROM (SELECT * FROM landing)", "it has another FROM, or none"),
    "VALUES": ("VALUES (1)", "it has another FROM, or none"),
    "no FROM": ("SELECT 1 AS event_id", "it has another FROM, or none"),
    "names for columns": (f"SELECT {SELECT} FROM landing AS l (id, who)", "it has other names for the columns"),
    "window": (f"SELECT {SELECT.replace('amount AS', 'row_number() OVER () AS')} FROM landing", "window functions"),
    "UNNEST": (f"SELECT {SELECT.replace('id AS', 'unnest([id, who]) AS', 1)} FROM landing", "UNNEST not supported"),
    "scalar subquery": (f"SELECT {SELECT.replace('id AS', '(SELECT 1) AS', 1)} FROM landing", "scalar subquery"),
    "no such function": (f"SELECT {SELECT.replace('id AS', 'upcase(id) AS', 1)} FROM landing", "upcase does not exist"),
    "types that do not go together": (f"SELECT {SELECT.replace('amount AS', 'amount * id AS')} FROM landing", r"\*"),
    "parameter": (f"SELECT {SELECT.replace('id AS', '$id AS', 1)} FROM landing", "parameters: id"),
    "random": (f"SELECT {SELECT.replace('id AS', 'uuid() AS', 1)} FROM landing", "volatile"),
    "clock": (f"SELECT {SELECT} FROM landing WHERE CAST(time AS TIMESTAMPTZ) < now()", r"now\(\) gives another value"),
    "alias of another": (f"SELECT {SELECT} FROM somewhere AS landing", "it has another FROM, or none"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_select_that_is_no_source_is_refused_in_one_readable_line(wrong: str) -> None:
    text, reason = WRONG[wrong]
    with pytest.raises(SourceError, match=rf"^test\.sql.*{reason}") as caught:
        parse_source(text, name="test.sql")
    assert "\n" not in str(caught.value)


def test_a_source_that_cannot_be_read_is_refused_in_one_readable_line(tmp_path: Path) -> None:
    (tmp_path / "latin.sql").write_bytes("SELECT 'käse'".encode("latin-1"))
    for name in ("none.sql", "latin.sql", ""):
        with pytest.raises(SourceError, match=r"the source cannot be read: .*PIPELINE_SOURCE") as caught:
            load_source(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_functions_that_depend_on_when_or_where_they_run_are_refused() -> None:
    impure = duckdb.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE function_type = 'scalar' AND stability <> 'CONSISTENT'"
    ).fetchall()
    assert ("now",) in impure
    for (name,) in impure:
        for arguments in ("", "'x'", "'x', 'y'", "1", "TRUE"):
            with pytest.raises(SourceError):
                source_of(event_id=f"CAST({name}({arguments}) AS VARCHAR)")


# --- Expressions are what DuckDB makes of them


EXPRESSIONS = [
    "text",
    "text || '''' || other",
    "coalesce(nullif(trim(text), ''), 'none')",
    "CASE WHEN text LIKE 'a%' ESCAPE '!' THEN other ELSE upper(text) END",
    "CASE text WHEN 'abc' THEN 1 ELSE 2.50 END",
    "text IN ('abc', 'x') AND NOT text = 'x' OR other IS DISTINCT FROM 'b'",
    "text BETWEEN 'a' AND 'b'",
    "regexp_replace(text, '\\d+$', '<\\0>')",
    "regexp_extract(text, '(\\w)(\\w)', 2)",
    "text[1:2]",
    "length(text)::VARCHAR",
    "try_cast(number AS INTEGER)",
    "CAST(number AS DECIMAL(9, 2)) * -1.10",
    "CAST(number AS INTEGER) % 7 // 2 ^ 2",
    "CAST(number AS DOUBLE) / 3",
    "1e3 + 1_000",
    "date '2026-06-10' + INTERVAL 1 DAY",
    "TIMESTAMP '2026-06-10 12:00:00' AT TIME ZONE 'Europe/London'",
    "date_trunc('hour', strptime(moment, '%d/%m/%Y %H:%M'))",
    "extract(year FROM strptime(moment, '%d/%m/%Y %H:%M'))",
    "make_timestamp(CAST(number AS BIGINT) * 1000000)",
    "to_timestamp(CAST(number AS BIGINT))",
    "json ->> '$.a.b'",
    "json -> 'a' -> 'b'",
    "json_extract_string(json, ['$.a.b', '$.c'])[2]",
    "list_transform([text, other], lambda x: x || number)",
    "[x || number for x in [text, other] if x > 'a']",
    "list_contains(string_split(text, 'b'), 'a')",
    "{'a': text, 'b': [other]}.b[1]",
    "md5(source_text) || source_file || source_line",
    "hash(text, other)",
    '"Weird ""Name"" 1"',
    "'ünïcödé 🧀' || 'a''b' || E'\\n' || $$c'd$$",
    "NULL",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_means_in_a_source_what_it_means_in_duckdb(expression: str) -> None:
    rows: dict[str, Any] = {
        "text": ["abc", "x", "", None],
        "other": ["b", None, "c", "d"],
        "number": ["12", "-3", "0", "7"],
        "moment": ["10/06/2026 12:30"] * 4,
        "json": ['{"a": {"b": 12.10}, "c": "x"}'] * 4,
        'Weird "Name" 1': ["w"] * 4,
        FILE: ["f"] * 4,
        LINE: pa.array([2, 3, 4, 5], pa.int64()),
        TEXT: ["t1", "t2", "t3", "t4"],
    }
    landing = pa.table(rows)
    source = source_of(
        event_id=f"CAST(({expression}) AS VARCHAR)",
        user_id="NULL",
        event_type="'x'",
        amount="0",
        event_time="TIMESTAMPTZ '2026-06-10 00:00:00Z'",
    )
    assert set(source.columns) <= {name.lower() for name in rows}
    found = source.judge(landing, day=DAY, timezone="UTC", lateness_days=3)["event_id"].to_pylist()
    with duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'UTC'")
        plain.register("landing", landing)
        expected = plain.sql(f"SELECT CAST(({expression}) AS VARCHAR) FROM landing").fetchall()
    assert found == [value or None for (value,) in expected]


def test_the_columns_of_a_source_are_those_that_its_expressions_use() -> None:
    source = source_of(
        "WHERE l1 = 'x'", event_id="list_transform([A, b], lambda x: x || C)[1]", user_id="d -> '$.e' ->> 'f'"
    )
    assert source.columns == ("a", "amount", "b", "c", "d", "kind", "l1", "time")


def test_an_expression_does_not_see_the_other_expressions() -> None:
    source = source_of(event_type="upper(kind)", reject_reason="CASE event_type WHEN 'SALE' THEN 'no' END")
    assert "event_type" in source.columns
    assert rules(source, {"kind": "sale", "event_type": "x"}) == [None]
    assert rules(source, {"kind": "x", "event_type": "SALE"}) == ["source_rule"]


# --- Casts


def test_a_cast_that_fails_rejects_its_own_row_and_says_on_which_value() -> None:
    source = source_of(amount="CAST(amount AS DECIMAL(18, 4))")
    assert verdicts(source, {}, {"amount": "n/a"}, {"amount": "12,50"}, {}) == [
        (None, None),
        ("cast", "amount cannot be computed: CAST(amount AS DECIMAL(18, 4)); amount is 'n/a'"),
        ("cast", "amount cannot be computed: CAST(amount AS DECIMAL(18, 4)); amount is '12,50'"),
        (None, None),
    ]


def test_a_reason_shows_all_values_that_went_into_the_expression_shortened() -> None:
    source = source_of(amount="CAST(Pieces AS INTEGER) * CAST(price AS DECIMAL(18, 4))")
    failed = "amount cannot be computed: (CAST(Pieces AS INTEGER) * CAST(price AS DECIMAL(18, 4)))"
    assert verdicts(source, {"Pieces": "9" * 100, "price": None}, {"Pieces": "it's", "price": "1"}) == [
        ("cast", f"{failed}; Pieces is '{'9' * 60}'; price is null"),
        ("cast", f"{failed}; Pieces is 'it's'; price is '1'"),
    ]


def test_an_expression_that_stands_twice_still_fails_for_its_own_row_alone() -> None:
    # DuckDB would compute it once, outside of both TRY.
    source = source_of(
        "WHERE CAST(amount AS DECIMAL(18, 4)) <> 7",
        amount="CAST(amount AS DECIMAL(18, 4))",
        reject_reason="CASE WHEN CAST(amount AS DECIMAL(18, 4)) < 0 THEN 'negative' END",
    )
    rows = [{"amount": amount} for amount in ("1", "x", "-1", "7", "2")]
    assert rules(source, *rows) == [None, "cast", "source_rule", "filtered", None]


def test_one_failing_row_among_many_rejects_no_other() -> None:
    rows = [{"amount": "1"} for _ in range(5_000)]
    rows[4_321] = {"amount": "x"}
    assert [n for n, rule in enumerate(rules(source_of(), *rows)) if rule] == [4_321]


@pytest.mark.parametrize(
    "time", ["", "yesterday", "2026-06-31", "2026-06-10T25:00:00Z", "12", "2026-06-10 00:00:00 Mars/Base", "10/06/2026"]
)
def test_a_time_that_is_none_is_rejected(time: str) -> None:
    rule, reason = verdicts(source_of(), {"time": time or None})[0]
    assert rule == ("cast" if time else "required")
    assert reason == (
        f"event_time cannot be computed: CAST(\"time\" AS TIMESTAMPTZ); time is '{time}'"
        if time
        else "event_time is missing"
    )


def test_a_strptime_that_fails_rejects_its_own_row() -> None:
    source = source_of(event_time="strptime(time, '%d/%m/%Y %H:%M')")
    assert rules(source, {"time": "10/06/2026 12:30"}, {"time": "2026-06-10"}, {"time": "31/06/2026 12:30"}) == [
        None,
        "cast",
        "cast",
    ]


@pytest.mark.parametrize("amount", ["amount", "CAST(amount AS DECIMAL(38, 10))"])
@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("99999999999999.9999", "99999999999999.9999"),
        ("-99999999999999.9999", "-99999999999999.9999"),
        ("1.2300000000", "1.2300"),
        ("1e3", "1000.0000"),
        ("12.10", "12.1000"),
        ("-0", "0.0000"),
        ("100000000000000", None),
        ("1e15", None),
        ("123456789012345678901234567890", None),
    ],
)
def test_an_amount_is_exact_or_beyond_what_fits_and_rejected(amount: str, written: str, kept: str | None) -> None:
    (row,) = sorted_rows(source_of(amount=amount), {"amount": written})
    assert (row["rule"], row["amount"]) == ((None, Decimal(kept)) if kept else ("cast", None))


@pytest.mark.parametrize("written", ["1.23456", "0.00001", "-0.00005", "1e-5", "99999999999999.99991", "1e-20"])
def test_an_amount_with_more_than_four_decimals_is_rejected_and_not_rounded(written: str) -> None:
    assert verdicts(source_of(), {"amount": written}) == [
        ("cast", f"amount has more than 4 decimals: amount; amount is '{written}'")
    ]
    assert rules(source_of(amount="CAST(amount AS DECIMAL(38, 20))"), {"amount": written}) == ["cast"]


def test_a_product_of_exact_numbers_is_exact_or_rejected() -> None:
    source = load_source(SOURCES / "online_retail.sql")
    row = {"InvoiceNo": "1", "CustomerID": "17850.0", "InvoiceDate": "2026-06-10 12:00:00"}
    factors = [("3", "0.1234"), ("2.5", "0.01"), ("144", "1.06"), ("-80995", "38970.0025"), ("99999999", "999999.9999")]
    found = sorted_rows(source, *({**row, "Quantity": quantity, "UnitPrice": price} for quantity, price in factors))
    assert [(each["rule"], each["amount"]) for each in found] == [
        (None, Decimal(quantity) * Decimal(price)) for quantity, price in factors
    ]
    ((rule, reason),) = verdicts(source, {**row, "Quantity": "3", "UnitPrice": "0.12345"})
    assert rule == "cast"
    assert reason is not None
    assert "more than 4 decimals" in reason


def test_a_floating_point_amount_is_rounded_to_four_decimals() -> None:
    rows = sorted_rows(source_of(amount="CAST(amount AS DOUBLE) * 3"), {"amount": "0.1"}, {"amount": "1e15"})
    assert [(row["rule"], row["amount"]) for row in rows] == [(None, Decimal("0.3000")), ("cast", None)]


# --- Rules


def test_a_row_that_where_leaves_out_is_rejected_as_filtered() -> None:
    source = source_of("WHERE kind <> 'test' AND id <> 'e2'")
    assert verdicts(source, {}, {"kind": "test"}, {"kind": None}) == [
        (None, None),
        ("filtered", "left out by WHERE ((kind != 'test') AND (id != 'e2')); kind is 'test'; id is 'e1'"),
        ("filtered", "left out by WHERE ((kind != 'test') AND (id != 'e2')); kind is null; id is 'e1'"),
    ]


def test_a_where_that_fails_rejects_its_own_row() -> None:
    source = source_of("WHERE CAST(amount AS INTEGER) > 0")
    assert verdicts(source, {"amount": "1"}, {"amount": "x"}, {"amount": "0"})[1:] == [
        ("cast", "WHERE cannot be computed: (CAST(amount AS INTEGER) > 0); amount is 'x'"),
        ("filtered", "left out by WHERE (CAST(amount AS INTEGER) > 0); amount is '0'"),
    ]


def test_a_row_with_a_reject_reason_is_rejected_with_it() -> None:
    source = source_of(reject_reason="CASE WHEN amount LIKE '-%' THEN 'negative: ' || amount END")
    assert verdicts(source, {}, {"amount": "-1"}) == [(None, None), ("source_rule", "negative: -1")]


def test_an_empty_reject_reason_is_none() -> None:
    assert rules(source_of(reject_reason="''"), {}) == [None]


def test_a_reject_reason_that_fails_rejects_its_own_row() -> None:
    source = source_of(amount="0", reject_reason="CASE WHEN CAST(amount AS INTEGER) < 0 THEN 'negative' END")
    assert rules(source, {"amount": "1"}, {"amount": "x"}) == [None, "cast"]


@pytest.mark.parametrize("column", ["event_id", "event_type", "event_time"])
def test_a_required_column_that_is_null_is_rejected(column: str) -> None:
    landing = {"event_id": "id", "event_type": "kind", "event_time": "time"}[column]
    assert verdicts(source_of(), {}, {landing: None}) == [(None, None), ("required", f"{column} is missing")]


def test_a_guest_and_an_event_without_an_amount_are_kept() -> None:
    (row,) = sorted_rows(source_of(), {"who": None, "amount": None})
    assert (row["rule"], row["user_id"], row["amount"]) == (None, None, None)


def test_an_empty_text_that_an_expression_gives_is_null() -> None:
    source = source_of(event_id="trim(id)", user_id="regexp_replace(who, '^guest$', '')")
    assert rules(source, {"id": "  "}) == ["required"]
    assert sorted_rows(source, {"who": "guest"})[0]["user_id"] is None


def test_the_first_rule_that_a_row_breaks_is_named() -> None:
    source = source_of("WHERE kind <> 'test'", reject_reason="CASE WHEN id IS NULL THEN 'no id' END")
    broken: dict[str, str | None] = {"kind": "test", "amount": "x", "id": None, "time": "1999-01-01"}
    found = []
    for mend in ("kind", "amount", "id", "time", "-"):
        found += rules(source, broken)
        broken[mend] = GOOD.get(mend, "-")
    assert found == ["filtered", "cast", "source_rule", "too_late", None]


# --- Early and late


ZONES = ["UTC", "Europe/London", "America/New_York", "Pacific/Auckland", "Pacific/Kiritimati", "Asia/Kolkata"]
DAYS = [DAY, date(2026, 3, 29), date(2026, 3, 30), date(2026, 10, 25), date(2026, 10, 28), date(2026, 11, 1)]


@pytest.mark.parametrize("timezone", ZONES)
def test_too_early_and_too_late_are_exact_to_the_microsecond(timezone: str) -> None:
    def midnight(of: date) -> datetime:
        return datetime(of.year, of.month, of.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)

    tick = timedelta(microseconds=1)
    for day, lateness_days in product(DAYS, [0, 1, 3, 30]):
        first, end = midnight(day - timedelta(days=lateness_days)), midnight(day + timedelta(days=2))
        times = [first - tick, first, end - tick, end]
        rows = [{"time": time.isoformat(timespec="microseconds")} for time in times]
        found = rules(source_of(), *rows, day=day, timezone=timezone, lateness_days=lateness_days)
        assert found == ["too_late", None, None, "too_early"], (day, lateness_days)


def test_the_reasons_of_early_and_late_rows_name_both_days_in_the_pipelines_zone() -> None:
    rows = [{"time": "2026-06-12T03:59:59Z"}, {"time": "2026-06-12T04:00:00Z"}]
    assert verdicts(source_of(), *rows, timezone="America/New_York") == [
        (None, None),
        ("too_early", "event of 2026-06-12 arrived on 2026-06-10"),
    ]
    assert verdicts(source_of(), {"time": "2026-06-07T03:59:59Z"}, timezone="America/New_York") == [
        ("too_late", "event of 2026-06-06 arrived on 2026-06-10, more than 3 days later")
    ]


@pytest.mark.parametrize(
    ("time", "rule"),
    [
        ("infinity", "too_early"),
        ("-infinity", "too_late"),
        ("9999-12-31T23:59:59.999999Z", "too_early"),
        ("10000-01-01T00:00:00Z", "too_early"),
        ("0001-01-01T00:00:00Z", "too_late"),
        ("1970-01-01", "too_late"),
        ("294247-01-10T04:00:54.775806Z", "too_early"),
        ("294300-01-01", "cast"),
    ],
)
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Auckland", "America/New_York"])
def test_times_far_away_are_rejected_and_not_an_error(time: str, rule: str, timezone: str) -> None:
    assert rules(source_of(), {}, {"time": time}, timezone=timezone) == [None, rule]


@pytest.mark.parametrize(
    ("written", "timezone", "instant"),
    [
        ("2026-06-10T12:00:00", "UTC", "2026-06-10T12:00:00+00:00"),
        ("2026-06-10T12:00:00", "Europe/London", "2026-06-10T11:00:00+00:00"),
        ("2026-06-10 12:00", "Asia/Kolkata", "2026-06-10T06:30:00+00:00"),
        ("2026-06-10", "America/New_York", "2026-06-10T04:00:00+00:00"),
        ("2026-06-10T12:00:00+05:30", "America/New_York", "2026-06-10T06:30:00+00:00"),
        ("2026-06-10T12:00:00 Europe/Paris", "America/New_York", "2026-06-10T10:00:00+00:00"),
        ("2026-06-10T12:00:00.123456789Z", "UTC", "2026-06-10T12:00:00.123456+00:00"),
        ("2026-06-10 12:00:00.000000+0100", "UTC", "2026-06-10T11:00:00+00:00"),
    ],
)
def test_a_time_without_a_zone_is_of_the_pipelines_zone(written: str, timezone: str, instant: str) -> None:
    (row,) = sorted_rows(source_of(), {"time": written}, timezone=timezone)
    assert (row["rule"], row["event_time"]) == (None, datetime.fromisoformat(instant))


@examples(60)
@given(
    amounts=st.lists(
        st.one_of(
            st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=6),
            st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=4),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_an_amount_comes_out_as_it_went_in_or_is_rejected(amounts: list[Decimal]) -> None:
    for amount, row in zip(amounts, sorted_rows(source_of(), *({"amount": str(a)} for a in amounts)), strict=True):
        fits = amount == amount.quantize(Decimal("0.0001")) and abs(amount) < 10**14
        assert (row["rule"], row["amount"]) == ((None, amount) if fits else ("cast", row["amount"]))
