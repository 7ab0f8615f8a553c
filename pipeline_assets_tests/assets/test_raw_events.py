"""`raw_events` and `rejected_events`: what lands on a day is in one of them, or the error names the file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.assets.raw_events import (
    RAW_EVENTS,
    REJECTED_EVENTS,
    raw_events,
    rejected_share,
    uploads_are_complete,
)
from pipeline_assets.assets.source import records
from pipeline_assets.assets.source.select import parse_source
from pipeline_assets.errors import LandingError, LandingInProgress
from pipeline_assets.store.landing import LandingZone
from pipeline_assets_tests.assets.landed import DAY, HEADER, SOURCE, arrive, land
from pipeline_assets_tests.support.properties import examples

NOON = f"{DAY}T12:00:00Z"


def csv_line(event_id: str, amount: str = "1.50", time: str = NOON) -> str:
    return f"{event_id},u1,sale,{amount},{time}\n"


def json_line(event_id: str, **members: Any) -> str:
    return json.dumps({"id": event_id, "who": "u1", "kind": "sale", "amount": 1.5, "time": NOON, **members}) + "\n"


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def streams(root: Path, day: date = DAY) -> Iterator[Any]:
    result = raw_events(day, landing=LandingZone(root), source=SOURCE, timezone="UTC", lateness_days=3)
    return iter(result.rows)


# --- What becomes events


def test_events_come_in_the_order_of_files_and_lines_with_their_file(tmp_path: Path) -> None:
    land(tmp_path, "b.csv", HEADER + csv_line("3") + csv_line("1"))
    land(tmp_path, "a.jsonl.gz", gzip.compress((json_line("9") + json_line("4")).encode()))
    land(tmp_path, "c.parquet", parquet(id=[2], who=["u"], kind=["sale"], amount=[2.5], time=[datetime(2026, 6, 10)]))  # noqa: DTZ001
    found = arrive(tmp_path)
    assert found.ids() == ["9", "4", "3", "1", "2"]
    assert found.kept["source_file"].to_pylist() == [f"dt={DAY}/{n}" for n in ("a.jsonl.gz",) * 2 + ("b.csv",) * 2] + [
        f"dt={DAY}/c.parquet"
    ]
    assert (found.accounting.read, found.accounting.kept) == (5, 5)


def test_a_day_without_a_folder_and_a_day_of_empty_files_have_no_events(tmp_path: Path) -> None:
    assert arrive(tmp_path).accounting.read == 0
    land(tmp_path, "a.csv", b"")
    land(tmp_path, "b.csv", gzip.compress(b""))
    land(tmp_path, "c.csv", HEADER)
    land(tmp_path, "d.parquet", b"")
    land(tmp_path, "e.jsonl", b"\n\n")
    assert arrive(tmp_path).accounting.read == 0


def test_identical_lines_of_a_file_are_all_kept(tmp_path: Path) -> None:
    land(tmp_path, "a.csv", HEADER + csv_line("1") * 3)
    assert arrive(tmp_path).ids() == ["1", "1", "1"]


def test_the_result_does_not_depend_on_how_many_rows_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [csv_line(str(n), "x" if n % 5 == 0 else "1") if n % 7 else f"{n}\n" for n in range(100)]
    land(tmp_path, "a.csv", HEADER + "".join(lines))
    land(tmp_path, "b.jsonl", "".join(json_line(str(n)) if n % 3 else "junk\n" for n in range(100)))
    land(tmp_path, "c.parquet", parquet(id=list(range(100)), who=["u"] * 100, kind=["x"] * 100, time=[NOON] * 100))
    whole = arrive(tmp_path)
    monkeypatch.setattr(records, "BATCH_ROWS", 8)
    assert arrive(tmp_path) == whole
    assert whole.accounting.read == 300


# --- Files that differ in columns


def test_a_column_that_another_file_of_the_day_has_is_null(tmp_path: Path) -> None:
    land(tmp_path, "a.csv", HEADER + csv_line("1"))
    land(tmp_path, "b.csv", f"TIME,channel,Kind,ID\n{NOON},web,sale,2\n")
    land(tmp_path, "c.parquet", parquet(id=["3"], time=[NOON], kind=["sale"], amount=["2.5"]))
    found = arrive(tmp_path)
    columns = ("event_id", "user_id", "amount")
    assert [tuple(str(row[name]) for name in columns) for row in found.kept.to_pylist()] == [
        ("1", "u1", "1.5000"),
        ("2", "None", "None"),
        ("3", "None", "2.5000"),
    ]


def test_a_required_column_that_only_another_file_has_rejects_the_rows_without_it(tmp_path: Path) -> None:
    land(tmp_path, "a.csv", HEADER + csv_line("1"))
    land(tmp_path, "b.csv", f"id,who,amount,time\n2,u1,1,{NOON}\n")
    found = arrive(tmp_path)
    assert found.ids() == ["1"]
    assert found.rejects("source_file", "source_line", "rule", "reason") == [
        (f"dt={DAY}/b.csv", 2, "required", "event_type is missing")
    ]


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_a_column_that_no_file_has_is_an_error_that_names_file_column_and_what_was_found(
    tmp_path: Path, pack: Any
) -> None:
    land(tmp_path, "empty.csv", b"")
    land(tmp_path, "x.csv", pack("id,Who,kind,amt,at\n1,u,sale,1,2026-06-10\n"))
    land(tmp_path, "y.csv", pack("id,who,kind\n"))
    with pytest.raises(
        LandingError,
        match=rf"^dt={DAY}/x\.csv: has no column amount, time, which test\.sql uses, nor has another file of the day; "
        "its columns are id, Who, kind, amt, at$",
    ):
        arrive(tmp_path)


def test_a_header_alone_that_lacks_a_column_is_an_error_too(tmp_path: Path) -> None:
    land(tmp_path, "x.csv", "id,who\n")
    with pytest.raises(LandingError, match=r"x\.csv: has no column amount, kind, time"):
        arrive(tmp_path)


def test_members_that_no_line_of_json_has_are_null(tmp_path: Path) -> None:
    land(tmp_path, "x.jsonl", json.dumps({"ID": 1, "kind": "sale", "time": NOON}))
    land(tmp_path, "y.csv", f"id,kind,time\n2,sale,{NOON}\n")
    found = arrive(tmp_path)
    assert found.ids() == ["1", "2"]
    assert found.kept["amount"].null_count == 2


def test_a_source_may_use_the_file_line_and_text_of_a_row(tmp_path: Path) -> None:
    source = parse_source(
        """
        SELECT source_file || ':' || source_line AS event_id, source_text AS user_id, 'x' AS event_type,
            NULL AS amount, TIMESTAMPTZ '2026-06-10 12:00:00Z' AS event_time
        FROM landing
        """,
        name="lines.sql",
    )
    land(tmp_path, "x.csv", 'a\n1\n"2\n3"\n\n4\n')
    found = arrive(tmp_path, source=source)
    assert found.ids() == [f"dt={DAY}/x.csv:{line}" for line in (2, 3, 6)]
    assert found.kept["user_id"].to_pylist() == ["1", '"2\n3"', "4"]


# --- What is rejected


def test_rejected_rows_tell_file_line_rule_reason_and_text_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = [
        csv_line("1"),
        "2,u1,sale\n",
        csv_line("3", "a lot"),
        csv_line("4", time="2026-06-01T00:00:00Z"),
        '5,"u1,sale,1,2026-06-10\n',
        csv_line("", "1"),
        csv_line("7"),
    ]
    land(tmp_path, "a.csv", HEADER + "".join(lines))
    land(tmp_path, "b.jsonl", json_line("8", amount="a lot") + "junk\n")
    land(tmp_path, "c.parquet", parquet(id=["9"], who=["u"], kind=[None], amount=[1], time=[NOON]))
    found = arrive(tmp_path)
    assert found.ids() == ["1", "7"]
    assert found.rejects("source_file", "source_line", "rule", "row_text") == [
        (f"dt={DAY}/a.csv", 3, "malformed", "2,u1,sale"),
        (f"dt={DAY}/a.csv", 4, "cast", lines[2].strip()),
        (f"dt={DAY}/a.csv", 5, "too_late", lines[3].strip()),
        (f"dt={DAY}/a.csv", 6, "malformed", lines[4].strip()),
        (f"dt={DAY}/a.csv", 7, "required", lines[5].strip()),
        (f"dt={DAY}/b.jsonl", 1, "cast", json_line("8", amount="a lot").strip()),
        (f"dt={DAY}/b.jsonl", 2, "malformed", "junk"),
        (
            f"dt={DAY}/c.parquet",
            None,
            "required",
            f'{{"id": "9", "who": "u", "kind": null, "amount": "1", "time": "{NOON}"}}',
        ),
    ]
    assert all(reason for (reason,) in found.rejects("reason"))


@pytest.mark.parametrize("lateness_days", [0, 3])
def test_an_event_may_arrive_a_day_before_its_own_and_lateness_days_after(tmp_path: Path, lateness_days: int) -> None:
    ages = range(-2, lateness_days + 2)
    for age in ages:
        time = datetime(DAY.year, DAY.month, DAY.day) - timedelta(days=age)  # noqa: DTZ001
        land(tmp_path, f"{age + 2}.csv", HEADER + csv_line(str(age), time=time.isoformat()))
    found = arrive(tmp_path, lateness_days=lateness_days)
    assert found.ids() == [str(age) for age in ages[1:-1]]
    assert found.rejects("rule") == [("too_early",), ("too_late",)]


@dataclass(frozen=True)
class Landed:
    """Text of a file, and how many of its records are events and how many are not."""

    name: str
    data: bytes
    kept: int
    rejected: int


GOOD = st.integers(0, 30).map(lambda n: (csv_line(str(n)), json_line(str(n)), 1, 0))
BAD = st.sampled_from(
    [
        ("1,2\n", "{\n", 0, 1),
        ("1,2,3,4,5,6\n", "[]\n", 0, 1),
        ('1,"u"x,sale,1,2026-06-10\n', '{"id": 1, "id": 2}\n', 0, 1),
        (csv_line("1", "much"), json_line("1", amount="much"), 0, 1),
        (csv_line("1", "1.23456"), json_line("1", amount=1.23456), 0, 1),
        (csv_line(""), json_line(""), 0, 1),
        (csv_line("1", time="never"), json_line("1", time="never"), 0, 1),
        (csv_line("1", time="1999-01-01"), json_line("1", time="1999-01-01"), 0, 1),
        (csv_line("1", time="2999-01-01"), json_line("1", time="infinity"), 0, 1),
        (",,,,\n", "{}\n", 0, 1),
        ("\n", " \n", 0, 0),
        ('1,"multi\nline",sale,1,2026-06-10\n', json_line("1", who="multi\nline"), 1, 0),
    ]
)


@st.composite
def landed_files(draw: st.DrawFn, name: str) -> Landed:
    lines = draw(st.lists(st.one_of(GOOD, BAD), max_size=12))
    as_json = draw(st.booleans())
    # A file of JSON lines does not begin with an array: that would be another format.
    text = json_line("0") + "".join(line[1] for line in lines) if as_json else HEADER + "".join(lin[0] for lin in lines)
    data = text.encode() + draw(st.sampled_from([b"", b"\xff\n", b"junk"]))
    junk = int(data != text.encode())
    packed = gzip.compress(data) if draw(st.booleans()) else data
    kept, rejected = sum(line[2] for line in lines), sum(line[3] for line in lines)
    return Landed(f"{name}.{'jsonl' if as_json else 'csv'}", packed, kept + as_json, rejected + junk)


@examples(60)
@given(
    files=st.lists(st.sampled_from("abc"), unique=True, max_size=3).flatmap(
        lambda names: st.tuples(*map(landed_files, names))
    )
)
def test_no_row_vanishes_whatever_lands(tmp_path_factory: pytest.TempPathFactory, files: tuple[Landed, ...]) -> None:
    root = tmp_path_factory.mktemp("landing")
    for file in files:
        land(root, file.name, file.data)
    found = arrive(root)
    assert found.accounting.kept == sum(file.kept for file in files)
    assert found.accounting.rejected == sum(file.rejected for file in files)
    for file in files:
        name = f"dt={DAY}/{file.name}"
        assert found.kept["source_file"].to_pylist().count(name) == file.kept
        assert found.rejected["source_file"].to_pylist().count(name) == file.rejected


# --- Files that are damaged, or not complete


def test_a_damaged_file_is_an_error_that_names_it_and_gives_no_rows_of_the_day(tmp_path: Path) -> None:
    land(tmp_path, "b.csv.gz", gzip.compress((HEADER + csv_line("1")).encode())[:-3])
    with pytest.raises(LandingError, match=rf"^dt={DAY}/b\.csv\.gz: cannot be read to its end") as caught:
        arrive(tmp_path)
    assert not isinstance(caught.value, LandingInProgress)


def test_a_folder_with_a_wrong_date_is_an_error_that_names_it(tmp_path: Path) -> None:
    land(tmp_path, "a.csv", HEADER + csv_line("1"))
    (tmp_path / "dt=2026-6-10").mkdir()
    with pytest.raises(LandingError, match="dt=2026-6-10"):
        arrive(tmp_path)


def test_a_file_that_is_being_written_is_in_progress_before_it_is_read(tmp_path: Path) -> None:
    path = land(tmp_path, "a.csv", HEADER + csv_line("1"))
    with path.open("ab"), pytest.raises(LandingInProgress, match=r"a\.csv"):
        streams(tmp_path)
    assert arrive(tmp_path).ids() == ["1"]


def test_a_file_that_grows_while_it_is_read_is_in_progress(tmp_path: Path) -> None:
    path = land(tmp_path, "a.csv", HEADER + csv_line("1"))
    reading = streams(tmp_path)
    assert next(reading)["raw_events"].num_rows == 1
    with path.open("a") as file:
        file.write(csv_line("2"))
    with pytest.raises(LandingInProgress, match=r"a\.csv: still being written, or changed while it was read"):
        next(reading)


def test_a_file_that_is_replaced_while_it_is_read_is_in_progress(tmp_path: Path) -> None:
    path = land(tmp_path, "a.csv", HEADER + csv_line("1"))
    reading = streams(tmp_path)
    next(reading)
    land(tmp_path, ".a.csv", HEADER + csv_line("2")).replace(path)
    with pytest.raises(LandingInProgress, match=r"a\.csv"):
        next(reading)


def test_a_file_that_comes_while_another_is_read_is_in_progress(tmp_path: Path) -> None:
    land(tmp_path, "b.csv", HEADER + csv_line("1"))
    reading = streams(tmp_path)
    next(reading)
    land(tmp_path, "a.csv", HEADER + csv_line("2"))
    with pytest.raises(LandingInProgress, match=rf"^dt={DAY}/a\.csv:"):
        list(reading)


@pytest.mark.parametrize("grown", [False, True])
def test_half_a_file_is_in_progress_if_it_changed_and_damaged_if_not(tmp_path: Path, *, grown: bool) -> None:
    whole = gzip.compress((HEADER + "".join(csv_line(str(n)) for n in range(5_000))).encode())
    path = land(tmp_path, "a.csv.gz", whole[: len(whole) // 2])
    reading = streams(tmp_path)
    if grown:
        path.write_bytes(whole)
        path.write_bytes(whole[: len(whole) // 2 + 1])
    with pytest.raises(LandingInProgress if grown else LandingError, match=r"a\.csv\.gz"):
        list(reading)


def test_a_file_that_is_removed_before_it_is_read_is_in_progress(tmp_path: Path) -> None:
    path = land(tmp_path, "a.csv", HEADER + csv_line("1"))
    reading = streams(tmp_path)
    path.unlink()
    with pytest.raises(LandingInProgress, match=r"a\.csv"):
        list(reading)


# --- Checks


def rejected_rows(*rules: str) -> pa.Table:
    row = {"source_file": "f", "source_line": 1, "reason": "r", "row_text": "t"}
    schema = pa.schema([(column.name, column.type) for column in REJECTED_EVENTS.columns])
    return pa.Table.from_pylist([{**row, "rule": rule} for rule in rules], schema)


def kept_rows(count: int) -> pa.RecordBatchReader:
    return pa.table({"event_id": ["e"] * count}).to_reader()


@pytest.mark.parametrize(("kept", "rejected", "passed"), [(19, 1, True), (18, 1, False), (0, 1, False), (0, 0, True)])
def test_more_than_one_row_in_twenty_rejected_is_told(kept: int, rejected: int, *, passed: bool) -> None:
    finding = rejected_share.function(DAY, rejected_rows(*["cast"] * rejected), kept_rows(kept))
    assert finding.passed is passed
    assert f"{rejected} of {kept + rejected} rows rejected" in finding.message


def test_rejected_rows_are_told_by_rule() -> None:
    finding = rejected_share.function(DAY, rejected_rows("cast", "too_late", "cast"), kept_rows(7))
    assert finding.numbers == {"rejected": 3, "kept": 7, "rejected_cast": 2, "rejected_too_late": 1}


def test_an_upload_that_is_not_complete_is_told(tmp_path: Path) -> None:
    land(tmp_path, "a.csv", HEADER)
    assert uploads_are_complete.function(DAY, LandingZone(tmp_path)).passed
    land(tmp_path, "b.csv.part", HEADER)
    finding = uploads_are_complete.function(DAY, LandingZone(tmp_path))
    assert not finding.passed
    assert "b.csv.part" in finding.message


def test_neither_check_stops_a_day() -> None:
    assert not rejected_share.blocking
    assert not uploads_are_complete.blocking


def test_the_tables_hold_what_their_readers_rely_on() -> None:
    assert RAW_EVENTS.schema.names == ["event_id", "user_id", "event_type", "amount", "event_time", "source_file"]
    assert RAW_EVENTS.schema.field("amount").type == pa.decimal128(18, 4)
    assert RAW_EVENTS.schema.field("event_time").type == pa.timestamp("us", "UTC")
    assert [field.name for field in RAW_EVENTS.schema if field.nullable] == ["user_id", "amount"]
    assert REJECTED_EVENTS.schema.names == ["source_file", "source_line", "rule", "reason", "row_text"]
