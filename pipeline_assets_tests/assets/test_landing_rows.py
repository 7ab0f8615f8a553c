"""Reading landing files: every record is a row or is malformed, with its exact line; or the error names the file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import uuid
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_assets.assets.source import records
from pipeline_assets.assets.source.landing_rows import columns_of, read_rows
from pipeline_assets.assets.source.records import FILE, LINE, TEXT
from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import LandingZone
from pipeline_assets_tests.assets.landed import DAY, land


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of one file: values of the wanted columns by line, and what is malformed."""

    rows: list[tuple[Any, ...]]
    malformed: list[tuple[int, str]]
    reasons: list[str]
    texts: list[str]


def read(tmp_path: Path, name: str, data: bytes | str, *wanted: str) -> Content:
    land(tmp_path, name, data)
    (file,) = LandingZone(tmp_path).files(DAY)
    columns_of(file)
    content = Content([], [], [], [])
    for batch in read_rows(file, wanted or ("a", "b")):
        present = {column.lower(): column for column in batch.rows.column_names}
        assert batch.rows[FILE].to_pylist() == [file.name] * batch.rows.num_rows
        nothing = [None] * batch.rows.num_rows
        columns = [batch.rows[present[w]].to_pylist() if w in present else nothing for w in wanted or ("a", "b")]
        content.rows.extend(zip(batch.rows[LINE].to_pylist(), *columns, strict=True))
        content.texts.extend(batch.rows[TEXT].to_pylist())
        content.malformed.extend((each.line, each.text) for each in batch.malformed)
        content.reasons.extend(each.reason for each in batch.malformed)
    return content


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


# --- CSV


def test_csv_rows_come_with_their_lines_and_texts(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", "a,b\n1,2\n3,4")
    assert content.rows == [(2, "1", "2"), (3, "3", "4")]
    assert content.texts == ["1,2", "3,4"]
    assert content.malformed == []


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("b,a\n2,1\n", [(2, "1", "2")]),
        ("x,b,y,a,z\n0,2,0,1,0\n", [(2, "1", "2")]),
        ("A,B\n1,2\n", [(2, "1", "2")]),
        (" a ,b\t\n1,2\n", [(2, "1", "2")]),
        ('"a","b"\n"1","2"\n', [(2, "1", "2")]),
        ("a,c\n1,2\n", [(2, "1", None)]),
        ("a,b\n,\n", [(2, None, None)]),
        ('a,b\n"",""\n', [(2, None, None)]),
        ("a,b\n 1 ,NULL\n", [(2, " 1 ", "NULL")]),
    ],
    ids=["order", "extra", "capitals", "spaces", "quoted", "missing", "empty", "empty and quoted", "as it stands"],
)
def test_csv_columns_are_found_by_name_and_empty_values_are_null(
    tmp_path: Path, data: str, rows: list[tuple[Any, ...]]
) -> None:
    content = read(tmp_path, "x.csv", data)
    assert content.rows == rows
    assert content.malformed == []


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert read(tmp_path, "x.csv", b"\xef\xbb\xbfa,b\n1,2\n").rows == [(2, "1", "2")]
    assert read(tmp_path, "x.csv", b'\xef\xbb\xbf"a",b\n1,2\n').rows == [(2, "1", "2")]
    assert read(tmp_path, "x.csv", b"\xef\xbb\xbf").rows == []


def test_lines_may_end_in_cr_lf_and_in_both_kinds_in_one_file(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", b"a,b\r\n1,2\r\n3,4\n5,6\r\n\r\n7,8")
    assert content.rows == [(2, "1", "2"), (3, "3", "4"), (4, "5", "6"), (6, "7", "8")]
    assert content.texts == ["1,2", "3,4", "5,6", "7,8"]


def test_a_quoted_field_may_hold_commas_quotes_line_ends_and_any_character(tmp_path: Path) -> None:
    data = 'a,b\n"x, ""y""\nz","käse 🧀"\r\n"1\r\n\r\n2\r3",\u2028\n5,6\n'
    content = read(tmp_path, "x.csv", data)
    assert content.rows == [(2, 'x, "y"\nz', "käse 🧀"), (4, "1\r\n\r\n2\r3", "\u2028"), (7, "5", "6")]
    assert content.texts == ['"x, ""y""\nz","käse 🧀"', '"1\r\n\r\n2\r3",\u2028', "5,6"]


def test_a_quote_inside_an_unquoted_field_is_a_character(tmp_path: Path) -> None:
    assert read(tmp_path, "x.csv", "a,b\n5\" disk,it's\n").rows == [(2, '5" disk', "it's")]


def test_blank_lines_are_no_records_and_count_as_lines(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", "\n\r\na,b\n\n1,2\n\n\n3\n")
    assert content.rows == [(5, "1", "2")]
    assert content.malformed == [(8, "3")]


def test_a_trailing_comma_in_the_header_names_a_column_by_its_place(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", "a,b,\n1,2,3\n4,5\n", "a", "b", "column_3")
    assert content.rows == [(2, "1", "2", "3")]
    assert content.malformed == [(3, "4,5")]
    assert content.reasons == ["2 fields where the header has 3"]


def test_too_few_and_too_many_fields_are_malformed_and_their_neighbours_are_kept(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert content.rows == [(2, "1", "2"), (5, "7", "8")]
    assert content.malformed == [(3, "3"), (4, "4,5,6")]
    assert content.reasons == ["1 fields where the header has 2", "3 fields where the header has 2"]


def test_bytes_that_are_not_utf_8_are_malformed_and_their_neighbours_are_kept(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", b'a,b\n1,2\nk\xe4se,2\n3,"x\ny\xff\nz"\n5,\xc3\xa4\n')
    assert content.rows == [(2, "1", "2"), (7, "5", "ä")]
    assert content.malformed == [(3, "k\\xe4se,2"), (4, '3,"x\ny\\xff\nz"')]
    assert content.reasons == ["not UTF-8: byte 0xe4", "not UTF-8: byte 0xff"]


def test_nul_bytes_are_malformed_and_their_neighbours_are_kept(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", b"a,b\n1,2\n\0\0,3\n4,5\n")
    assert content.rows == [(2, "1", "2"), (4, "4", "5")]
    assert content.malformed == [(3, "\0\0,3")]
    assert content.reasons == ["holds a NUL byte"]


@pytest.mark.parametrize(
    "broken",
    ['2,"open', '"open,3', '2,"open,', '2,"closed"x', '2,"a ""quoted"" word'],
    ids=["at the end", "at the start", "before a comma", "after a closed one", "with quotes in it"],
)
def test_an_unclosed_quote_loses_its_own_line_alone(tmp_path: Path, broken: str) -> None:
    after = ["3,4", '"5\n6",7', '8,"9"', "10", '11,"12, ""13"""']
    content = read(tmp_path, "x.csv", "\n".join(["a,b", "0,1", broken, *after]) + "\n")
    assert content.rows == [(2, "0", "1"), (4, "3", "4"), (5, "5\n6", "7"), (7, "8", "9"), (9, "11", '12, "13"')]
    assert content.malformed == [(3, broken), (8, "10")]
    assert content.reasons[0].startswith("not CSV: ")


def test_an_unclosed_quote_in_the_last_line_loses_that_line(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", 'a,b\n0,1\n2,"3')
    assert content.rows == [(2, "0", "1")]
    assert content.malformed == [(3, '2,"3')]
    assert content.reasons == ["not CSV: unexpected end of data"]


def test_many_unclosed_quotes_lose_a_line_each(tmp_path: Path) -> None:
    lines = [f'{n},"open' if n % 3 == 0 else f"{n},x" for n in range(2, 5_000)]
    content = read(tmp_path, "x.csv", "\n".join(["a,b", *lines]))
    assert content.rows == [(n, str(n), "x") for n in range(2, 5_000) if n % 3]
    assert content.malformed == [(n, f'{n},"open') for n in range(3, 5_000, 3)]


def test_a_field_beyond_the_size_that_csv_takes_is_malformed_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    huge = "x" * (csv.field_size_limit() + 1)
    content = read(tmp_path, "x.csv", f'a,b\n1,{huge}\n2,"{huge}"\n3,4\n')
    assert content.rows == [(4, "3", "4")]
    assert content.malformed == [(2, f"1,{huge}"), (3, f'2,"{huge}"')]
    assert content.reasons == [f"not CSV: field larger than field limit ({csv.field_size_limit()})"] * 2


def test_an_unclosed_quote_far_from_the_end_of_a_long_file_loses_its_own_line_alone(tmp_path: Path) -> None:
    lines = [f"{n},some words to fill the line" for n in range(2, 20_000)]
    lines[98] = '100,"open'
    content = read(tmp_path, "x.csv", "\n".join(["a,b", *lines]))
    assert content.malformed == [(100, '100,"open')]
    assert [line for line, *_ in content.rows] == [n for n in range(2, 20_000) if n != 100]


def test_a_carriage_return_alone_inside_a_line_is_malformed(tmp_path: Path) -> None:
    content = read(tmp_path, "x.csv", b"a,b\n1,2\r3,4\n5,6\n")
    assert content.rows == [(3, "5", "6")]
    assert content.malformed == [(2, "1,2\r3,4")]
    assert content.reasons == ["not CSV: a carriage return inside a line"]


def test_malformed_lines_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BATCH_ROWS", 10)
    land(tmp_path, "x.csv", "a,b\n" + '1,"x"y\n' * 15 + "1\n" * 15)
    land(tmp_path, "y.jsonl", "x\n" * 30)
    for file in LandingZone(tmp_path).files(DAY):
        assert [(batch.rows.num_rows, len(batch.malformed)) for batch in read_rows(file, ["a"])] == [(0, 10)] * 3


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"a,b,a\n1,2,3\n", r"names a column more than once \(a\)"),
        (b"id,ID\n1,2\n", r"names a column more than once \(ID, id\)"),
        (b"column_2,\n1,2\n", r"names a column more than once \(column_2\)"),
        (b'a,"b\n1,2\n', "its header cannot be read: not CSV: unexpected end of data"),
        (b"a,b\r1,2\r3,4\r", "its header cannot be read: not CSV: a carriage return inside a line"),
        (b"n\xe4me,b\n1,2\n", "its header cannot be read: not UTF-8: byte 0xe4"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16.*Deliver it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-be"), "its header cannot be read: holds a NUL byte"),
        (b"\xfe\xff" + "a,b\n".encode("utf-16-be"), "is UTF-16"),
    ],
)
def test_a_header_that_cannot_be_read_is_an_error_that_names_the_file(
    tmp_path: Path, header: bytes, reason: str
) -> None:
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.csv: {reason}"):
        read(tmp_path, "x.csv", header)
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.csv: {reason}"):
        read(tmp_path, "x.csv", gzip.compress(header))


# --- Files as a whole


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.csv.zst", "x.jsonl", "x.json.gz", "x.parquet", "x.txt"])
def test_a_file_of_no_bytes_has_no_rows(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, b"") == Content([], [], [], [])


@pytest.mark.parametrize("data", [b"", b"\n\n", b"a,b\n", b"a,b", b"\xef\xbb\xbfa,b\r\n\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_a_header_alone_or_less_has_no_rows(tmp_path: Path, data: bytes, pack: Any) -> None:
    assert read(tmp_path, "x.csv.gz", pack(data)) == Content([], [], [], [])


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.csv.zst", "x.CSV.GZ", "x.csv.zstd"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_compression_is_told_by_content_whatever_the_name(tmp_path: Path, name: str, pack: Any) -> None:
    assert read(tmp_path, name, pack(b"a,b\n1,2\n")).rows == [(2, "1", "2")]


def test_compressed_files_may_be_parts_one_after_the_other(tmp_path: Path) -> None:
    parts = [b"a,b\n1,", b"2\n3,4\n"]
    assert read(tmp_path, "x.csv", b"".join(map(gzip.compress, parts))).rows == [(2, "1", "2"), (3, "3", "4")]
    assert read(tmp_path, "x.csv", b"".join(map(zstd, parts))).rows == [(2, "1", "2"), (3, "3", "4")]


LINES = "a,b\n" + "".join(f"{n},{n * 7919 % 1000}\n" for n in range(20_000))


def zipped(data: bytes) -> bytes:
    """The same bytes in every process: they become part of a test's name."""
    return gzip.compress(data, mtime=0)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at:][1:]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv.gz", zipped(LINES.encode())[:-100]),
        ("x.csv.gz", zipped(LINES.encode())[:-4]),
        ("x.csv.gz", zipped(LINES.encode())[:15]),
        ("x.csv.gz", flipped(zipped(LINES.encode()), -6)),
        ("x.csv.gz", flipped(zipped(LINES.encode()), -2)),
        ("x.csv.gz", flipped(zipped(LINES.encode()), 300)),
        ("x.csv.gz", zipped(LINES.encode()) + b"more"),
        ("x.csv.zst", zstd(LINES.encode())[:-100]),
        ("x.csv.zst", zstd(LINES.encode())[:12]),
        ("x.csv.zst", zstd(LINES.encode()) + b"more"),
        ("x.jsonl.gz", zipped(b'{"a": 1}\n' * 20_000)[:-10]),
        ("x.parquet", parquet(a=["1"] * 100)[:-1]),
        ("x.parquet", parquet(a=["1"] * 100)[:60]),
        ("x.csv", b"PAR1 is not a Parquet file"),
    ],
)
def test_a_damaged_or_cut_off_file_is_an_error_that_names_it(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(LandingError, match=rf"^dt={DAY}/{name}: cannot be read to its end .*deliver it again"):
        read(tmp_path, name, data)


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.json", "x.csv.gz", "x.bin"])
def test_parquet_is_told_by_content_whatever_the_name(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, parquet(a=["1"], b=["2"])).rows == [(None, "1", "2")]


def workbook() -> bytes:
    """The same at any time: all workers of pytest must call a test by the same name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("[Content_Types].xml"), "<Types/>")
        archive.writestr(zipfile.ZipInfo("xl/workbook.xml"), "<workbook/>")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.parquet", b"a,b\n1,2\n"),
        ("x.xlsx", workbook()),
        ("x.txt", b"a,b\n1,2\n"),
        ("x", b"a,b\n1,2\n"),
        ("x.csv.bz2", b"BZh9"),
        ("x.parquet.gz", zipped(parquet(a=["1"]))),
    ],
)
def test_a_file_of_an_unknown_kind_is_an_error_that_names_it(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(LandingError, match=rf"^dt={DAY}/{name}: neither Parquet .* nor CSV or JSON lines .*Rename it"):
        read(tmp_path, name, data)


@pytest.mark.parametrize("data", [workbook(), bytes(range(256)) * 10])
def test_something_else_that_is_named_csv_is_an_error_that_names_it(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.csv: its header cannot be read"):
        read(tmp_path, "x.csv", data)


# --- JSON lines


def test_json_lines_come_with_their_lines_and_texts(tmp_path: Path) -> None:
    content = read(tmp_path, "x.jsonl", '{"b": "2", "a": "1"}\n\n  \r\n {"A": "3", "z": 1}\r\n{}')
    assert content.rows == [(1, "1", "2"), (4, "3", None), (5, None, None)]
    assert content.texts == ['{"b": "2", "a": "1"}', ' {"A": "3", "z": 1}', "{}"]
    assert content.malformed == []


def test_a_byte_order_mark_is_no_part_of_the_first_object(tmp_path: Path) -> None:
    assert read(tmp_path, "x.jsonl", b'\xef\xbb\xbf{"a": "1"}\n').rows == [(1, "1", None)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.json", "x.json.gz", "x.JSONL.zst"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_json_lines_may_be_named_and_packed_in_several_ways(tmp_path: Path, name: str, pack: Any) -> None:
    assert read(tmp_path, name, pack(b'{"a": "1"}\n')).rows == [(1, "1", None)]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("12.10", "12.10"),
        ("1e3", "1e3"),
        ("-0.0", "-0.0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1" * 5_000, "1" * 5_000),
        ("NaN", "NaN"),
        ("true", "true"),
        ("null", None),
        ('""', None),
        ('" "', " "),
        ('"\\u00e4 \\ud83e\\uddc0 \\n \\\\u0000"', "ä 🧀 \n \\u0000"),
        ('{"x": [12.10, 1e3, null, true, "\\u00e4\\""], "y": {}}', '{"x": [12.10, 1e3, null, true, "ä\\""], "y": {}}'),
        ("[]", "[]"),
    ],
)
def test_json_values_are_the_text_that_was_written(tmp_path: Path, written: str, text: str | None) -> None:
    content = read(tmp_path, "x.jsonl", f'{{"a": {written}}}\n')
    assert content.rows == [(1, text, None)]
    assert content.malformed == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": 1} {"a": 2}', "Extra data"),
        (b'{"a": "\x01"}', "Invalid control character"),
        (b'"text"', "another kind of value"),
        (b"[1, 2]", "another kind of value"),
        (b"12.10", "another kind of value"),
        (b"null", "another kind of value"),
        (b'{"a": 1, "a": 2}', "a member is named twice"),
        (b'{"b": {"x": 1, "x": 1}}', "a member is named twice"),
        (b'{"a": 1, "A": 2}', "a member is named twice, but for capitals"),
        (b'{"a": "\\ud83e"}', "surrogates not allowed"),
        (b'{"a": "x\\u0000"}', "a NUL character"),
        (b"[" * 100_000, "maximum recursion depth"),
        (b'{"a": ' + b"[" * 990 + b"]" * 990 + b"}", "maximum recursion depth"),
    ],
)
def test_what_is_no_json_object_is_malformed_and_its_neighbours_are_kept(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    content = read(tmp_path, "x.jsonl", b'{"a": "1"}\n' + line + b'\n{"a": "3"}\n')
    assert content.rows == [(1, "1", None), (3, "3", None)]
    assert content.malformed == [(2, line.decode())]
    assert content.reasons[0].startswith("not a JSON object: ")
    assert reason in content.reasons[0]


def test_json_lines_that_are_not_utf_8_are_malformed_and_their_neighbours_are_kept(tmp_path: Path) -> None:
    content = read(tmp_path, "x.jsonl", b'{"a": "1"}\n{"a": "k\xe4se"}\n{"a": "\0"}\n{"a": "4"}')
    assert content.rows == [(1, "1", None), (4, "4", None)]
    assert content.malformed == [(2, '{"a": "k\\xe4se"}'), (3, '{"a": "\0"}')]
    assert content.reasons == ["not UTF-8: byte 0xe4", "holds a NUL byte"]


@pytest.mark.parametrize("data", ['[{"a": 1}, {"a": 2}]', '[\n  {"a": 1},\n  {"a": 2}\n]\n', "\n[]\n"])
def test_a_json_array_is_an_error_that_names_the_file_and_says_what_to_do(tmp_path: Path, data: str) -> None:
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.json: holds a JSON array.*jq -c"):
        read(tmp_path, "x.json", data)


def test_json_in_utf_16_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.json: is UTF-16"):
        read(tmp_path, "x.json", '{"a": 1}\n'.encode("utf-16"))


def test_every_line_may_have_members_of_its_own(tmp_path: Path) -> None:
    lines = [json.dumps({"a": n, f"only {n}": n}) for n in range(3_000)]
    assert read(tmp_path, "x.jsonl", "\n".join(lines)).rows == [(n + 1, str(n), None) for n in range(3_000)]


# --- Parquet


def test_parquet_values_are_text_whatever_their_type(tmp_path: Path) -> None:
    moment = datetime(2026, 6, 10, 12, 30, tzinfo=UTC)
    values = {
        "text": pa.array(["ä", ""]),
        "large": pa.array(["x", None], pa.large_string()),
        "view": pa.array(["x", None], pa.string_view()),
        "category": pa.array(["x", None]).dictionary_encode(),
        "bytes": pa.array([b"x", b"\xff"], pa.binary()),
        "large_bytes": pa.array([b"x", b"\xff"], pa.large_binary()),
        "fixed": pa.array([b"ab", None], pa.binary(2)),
        "integer": pa.array([9007199254740993, None], pa.int64()),
        "float": pa.array([0.1, float("nan")], pa.float64()),
        "single": pa.array([0.1, 1e-7], pa.float32()),
        "decimal": pa.array([Decimal("12.10"), Decimal("-99999999999999.99")], pa.decimal128(16, 2)),
        "small": pa.array([Decimal("1E-7"), None], pa.decimal128(16, 7)),
        "flag": pa.array([True, None]),
        "date": pa.array([date(2026, 6, 10), None]),
        "local": pa.array([moment.replace(tzinfo=None), None], pa.timestamp("us")),
        "utc": pa.array([moment, None], pa.timestamp("ms", "UTC")),
        "zoned": pa.array([moment, None], pa.timestamp("us", "Europe/London")),
        "nanos": pa.array([1_781_094_600_123_456_789, None], pa.timestamp("ns", "UTC")),
        "far": pa.array([316_516_204_800_000_000, None], pa.timestamp("us", "UTC")),
        "span": pa.array([timedelta(seconds=1), None]),
        "uuid": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
        "list": pa.array([[Decimal("1.50"), None], None]),
        "struct": pa.array([{"x": 1, "y": "ä"}, None]),
        "nothing": pa.nulls(2),
    }
    content = read(tmp_path, "x.parquet", parquet(**values), *values)
    first, second = (dict(zip(values, row[1:], strict=True)) for row in content.rows)
    assert first == {
        "text": "ä",
        "large": "x",
        "view": "x",
        "category": "x",
        "bytes": "x",
        "large_bytes": "x",
        "fixed": "ab",
        "integer": "9007199254740993",
        "float": "0.1",
        "single": "0.1",
        "decimal": "12.10",
        "small": "1E-7",
        "flag": "true",
        "date": "2026-06-10",
        "local": "2026-06-10 12:30:00.000000",
        "utc": "2026-06-10 12:30:00.000Z",
        "zoned": "2026-06-10 13:30:00.000000+0100",
        "nanos": "2026-06-10 12:30:00.123456789Z",
        "far": "12000-01-01 00:00:00.000000Z",
        "span": "1000000",
        "uuid": "00000000-0000-0000-0000-000000000005",
        "list": '["1.50", null]',
        "struct": '{"x": 1, "y": "ä"}',
        "nothing": None,
    }
    assert {name: value for name, value in second.items() if value is not None} == {
        "bytes": "\\xff",
        "large_bytes": "\\xff",
        "float": "nan",
        "single": "1e-7",
        "decimal": "-99999999999999.99",
    }
    assert json.loads(content.texts[0]) == {**first, "text": "ä"}


def test_parquet_rows_have_no_line_and_their_columns_as_text(tmp_path: Path) -> None:
    content = read(tmp_path, "x.parquet", parquet(B=[2, None], a=["ä", "x"], z=[0, 0]))
    assert content.rows == [(None, "ä", "2"), (None, "x", None)]
    assert content.texts == ['{"B": "2", "a": "ä", "z": "0"}', '{"B": null, "a": "x", "z": "0"}']


def test_parquet_of_many_row_groups_is_read_in_batches(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    numbers = list(range(150_000))
    pq.write_table(pa.table({"a": numbers}), sink, row_group_size=40_000)
    assert [row[1] for row in read(tmp_path, "x.parquet", bytes(sink.getvalue())).rows] == [str(n) for n in numbers]


def test_text_in_parquet_that_is_not_utf_8_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    broken = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff"))
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.parquet: cannot be read to its end .*UTF8"):
        read(tmp_path, "x.parquet", parquet(a=broken))


@pytest.mark.parametrize("names", [["a", "a"], ["id", "ID"]])
def test_a_parquet_file_that_names_a_column_twice_is_an_error_that_names_it(tmp_path: Path, names: list[str]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names), sink)
    with pytest.raises(LandingError, match=rf"^dt={DAY}/x\.parquet: names a column more than once"):
        read(tmp_path, "x.parquet", bytes(sink.getvalue()))


# --- Names that the pipeline uses itself


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", b"a,Source_File,source_line,source_text\n1,mine,mine,mine\n"),
        ("x.jsonl", b'{"a": "1", "Source_File": "mine", "source_line": 7, "SOURCE_TEXT": "mine"}\n'),
        ("x.parquet", parquet(a=["1"], Source_File=["mine"], source_line=["mine"], source_text=["mine"])),
    ],
)
def test_a_files_own_source_columns_do_not_replace_those_of_the_pipeline(
    tmp_path: Path, name: str, data: bytes
) -> None:
    land(tmp_path, name, data)
    (file,) = LandingZone(tmp_path).files(DAY)
    (batch,) = read_rows(file, ["a", "source_file", "source_line", "source_text"])
    assert sorted(batch.rows.column_names) == ["a", FILE, LINE, TEXT]
    assert batch.rows[FILE].to_pylist() == [file.name]


# --- Any table that csv writes, with anything in between

FIELDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
TRICKY = st.sampled_from(["", '"', '""', ",", "\n", "\r\n", "\r", ' "', '",', '"\n', "é", "\u2028", "\x85", "'"])
CELLS = st.one_of(FIELDS, TRICKY, st.lists(TRICKY, max_size=4).map("".join))
JUNK = st.sampled_from(
    [b"one", b"1,2,3,4", b"\xff,1,2", b"k\xe4se", b'x,y,"z"z', b'"a"b,c,d', b"\0,1,2", b"a,b\rc,d", b",", b'a "b"']
)
RECORDS = st.lists(st.one_of(JUNK, st.tuples(CELLS, CELLS, CELLS), st.just(b"")), max_size=12)


def written(row: tuple[str, ...], quoting: Any, end: str) -> bytes:
    # Of carriage returns csv quotes only those that are part of its line end.
    quoting = csv.QUOTE_ALL if "\r" in "".join(row) else quoting
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator=end).writerow(row)
    return text.getvalue().encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=RECORDS,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    batch_rows=st.integers(1, 5),
)
def test_whatever_csv_writes_is_read_back_with_its_line_and_junk_in_between_is_malformed(
    tmp_path_factory: pytest.TempPathFactory,
    content: list[bytes | tuple[str, ...]],
    quoting: Any,
    end: str,
    batch_rows: int,
) -> None:
    data, line = b"a,b,c\n", 2
    rows: list[tuple[Any, ...]] = []
    junk: list[int] = []
    for record in content:
        if isinstance(record, tuple):
            rows.append((line, *(value or None for value in record)))
            data += (encoded := written(record, quoting, end))
            line += encoded.count(b"\n")
        else:
            if record:
                junk.append(line)
            data += record + end.encode()
            line += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BATCH_ROWS", batch_rows)
        found = read(tmp_path_factory.mktemp("csv"), "x.csv", data, "a", "b", "c")
    assert found.rows == rows
    assert [at for at, _ in found.malformed] == junk


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), name=st.sampled_from(["x.csv", "x.jsonl"]))
def test_of_any_bytes_after_a_good_first_line_every_line_is_in_a_row_or_malformed(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    head = b"a,b\n" if name == "x.csv" else b'{"a": "1"}\n'
    found = read(tmp_path_factory.mktemp("any"), name, head + data)
    texts = [(line or 0, text) for (line, *_), text in zip(found.rows, found.texts, strict=True)] + found.malformed
    covered = {at + n for at, text in texts for n in range(text.count("\n") + 1)}
    lines = enumerate((head + data).split(b"\n"), start=1)
    blank = b"\r" if name == "x.csv" else b" \t\r"
    filled = {at for at, line in lines if line.strip(blank) and (at > 1 or name == "x.jsonl")}
    assert filled <= covered
