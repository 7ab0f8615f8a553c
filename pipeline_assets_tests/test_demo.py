"""The demo shop: what it lands, that it is a pure function, and that it never touches files of others.

The readers here are csv, json and pyarrow, independent of how the demo writes and of how the pipeline reads.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.demo import EVENT_TYPES, DemoRefused, DemoSummary, good_events, landing_files, write_days
from pipeline_assets_tests.support.properties import examples

# Of this seed some events of the window are as late as can be.
SEED = 6
FIRST_DAY = date(2026, 5, 1)
LATENESS_DAYS = 3
"""The pipeline's default: what arrives more than so many days after its UTC day is too late there."""
FEW_DAYS = [FIRST_DAY + timedelta(days=n) for n in range(3)]
WINDOW = [FIRST_DAY + timedelta(days=n) for n in range(60)]
EMPTY_DAY = next(day for day in WINDOW if day.toordinal() % 28 == 14)
BIG_DAY = next(day for day in WINDOW if day.toordinal() % 28 == 26)
COLUMNS = ["event_id", "user_id", "event_type", "amount", "event_time"]
# Nothing is later than this: six days, and one for an empty day in between.
LATEST = timedelta(days=7)

SURPRISES = {
    "duplicate line",
    "late",
    "too late",
    "too few columns",
    "too many columns",
    "unclosed quote",
    "half a JSON line",
    "decimal comma",
    "amount is no number",
    "time is no time",
    "no event_id",
    "unknown type",
    "zstd",
    "redelivered file",
    "empty day",
    "the day after the empty day brings two days",
    "ten times the events",
    "without channel",
    "with channel",
}


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("landing")


@pytest.fixture(scope="module")
def summary(landing: Path) -> DemoSummary:
    return write_days(landing, WINDOW, seed=SEED)


# --- Pure


def test_a_day_has_the_same_bytes_in_any_order_of_calls() -> None:
    forwards = [digest(landing_files(day, seed=SEED)) for day in FEW_DAYS]
    other = digest(landing_files(FEW_DAYS[0], seed=SEED + 1))
    backwards = [digest(landing_files(day, seed=SEED)) for day in reversed(FEW_DAYS)]

    assert backwards[::-1] == forwards
    assert other not in forwards


def test_a_day_has_the_same_bytes_in_another_process_however_strings_are_hashed() -> None:
    day = FEW_DAYS[2]
    program = (
        "import sys, datetime; from pipeline_assets.demo import landing_files;"
        f"files = landing_files(datetime.date.fromisoformat('{day}'), seed={SEED});"
        "sys.stdout.buffer.write(b''.join(name.encode() + files[name] for name in sorted(files)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Kathmandu"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)

    assert hashlib.sha256(done.stdout).hexdigest() == digest(landing_files(day, seed=SEED))


def test_a_caller_who_changes_the_answer_does_not_change_the_next_one() -> None:
    landing_files(FIRST_DAY, seed=SEED).clear()

    assert landing_files(FIRST_DAY, seed=SEED)


def test_another_seed_lands_other_events_under_the_same_names() -> None:
    one, other = ([landing_files(day, seed=seed) for day in FEW_DAYS] for seed in (1, 2))

    assert [set(files) for files in one] == [set(files) for files in other]
    assert not {data for files in one for data in files.values()} & {data for files in other for data in files.values()}


# --- Surprises


@examples(2)
@given(first=st.dates(date(1995, 1, 1), date(2060, 1, 1)), seed=st.integers(0, 2**40))
def test_any_sixty_days_hold_every_surprise(first: date, seed: int) -> None:
    days = [first + timedelta(days=n) for n in range(60)]

    assert surprises({day: landing_files(day, seed=seed) for day in days}) == SURPRISES


@pytest.mark.usefixtures("summary")
def test_the_landing_zone_on_disk_holds_every_surprise(landing: Path) -> None:
    assert surprises({day: files_on_disk(landing, day) for day in WINDOW}) == SURPRISES


@pytest.mark.usefixtures("summary")
def test_a_redelivered_file_is_yesterdays_byte_for_byte(landing: Path) -> None:
    originals = set()
    for path in landing.glob("dt=*/demo-redelivered-*"):
        day = date.fromisoformat(path.parent.name.removeprefix("dt="))
        original = path.name.removeprefix("demo-redelivered-")
        originals.add(original.partition(".")[0])

        assert path.read_bytes() == files_on_disk(landing, day - timedelta(days=1))[original]
    assert originals == {"demo-web", "demo-shop", "demo-app"}


@pytest.mark.usefixtures("summary")
def test_an_unclosed_quote_is_in_the_last_line_where_it_swallows_no_good_one(landing: Path) -> None:
    files = [text(path.name, path.read_bytes()).splitlines() for path in landing.glob("dt=*/*.csv*")]
    unclosed = [lines for lines in files if any(line.count('"') % 2 for line in lines)]

    assert unclosed
    assert not any(line.count('"') % 2 for lines in unclosed for line in lines[:-1])


@pytest.mark.usefixtures("summary")
def test_channel_is_the_second_column_of_a_days_own_files_or_in_none(landing: Path) -> None:
    for day in WINDOW:
        expected = [*COLUMNS[:1], "channel", *COLUMNS[1:]] if day.toordinal() % 56 >= 28 else COLUMNS
        own = {name: data for name, data in files_on_disk(landing, day).items() if "redelivered" not in name}
        assert all(columns(name, data) == expected for name, data in own.items())


def test_parquet_files_carry_the_types_of_the_contract() -> None:
    schema = pq.read_schema(pa.BufferReader(landing_files(FIRST_DAY, seed=SEED)["demo-app.parquet"]))

    assert schema.field("event_id").type == pa.string()
    assert schema.field("amount").type == pa.decimal128(18, 2)
    assert schema.field("event_time").type == pa.timestamp("us", tz="UTC")


# --- The truth


@pytest.mark.usefixtures("summary")
def test_good_events_are_exactly_what_an_independent_reader_finds(landing: Path) -> None:
    first_arrivals: dict[tuple[Any, ...], date] = {}
    days = WINDOW[: 28 + LATEST.days]  # a whole cycle of empty and big days, and all that comes late
    for day in days:
        for name, data in files_on_disk(landing, day).items():
            for event in filter(None, map(valid_event, rows(name, data))):
                first_arrivals.setdefault(event, day)
    found: dict[date, dict[tuple[Any, ...], date]] = {}
    for event, arrival in first_arrivals.items():
        found.setdefault(event[4].date(), {})[event] = arrival

    for day in days[: -LATEST.days]:
        truth = good_events(day, seed=SEED)
        values = [truth[name].to_pylist() for name in (*COLUMNS, "arrival_day")]
        assert found[day] == {event[:5]: event[5] for event in zip(*values, strict=True)}
        assert truth.num_rows == len(found[day])
    assert max(arrival - event[4].date() for event, arrival in first_arrivals.items()) == LATEST


def test_event_ids_are_unique_across_days() -> None:
    ids = pa.concat_tables(good_events(day, seed=SEED) for day in WINDOW)["event_id"]

    assert len(ids.unique()) == len(ids)
    assert pc.all(pc.match_substring_regex(ids, "^[0-9a-f]{16}$")).as_py()


def test_days_late_is_the_distance_from_the_event_day_to_the_arrival_day() -> None:
    for day in (FIRST_DAY, EMPTY_DAY, EMPTY_DAY - timedelta(days=3)):
        events = good_events(day, seed=SEED).to_pandas()

        assert {moment.date() for moment in events["event_time"]} == {day}
        assert [(arrival - day).days for arrival in events["arrival_day"]] == events["days_late"].to_list()


def test_an_event_that_the_empty_day_shifts_past_the_horizon_is_too_late() -> None:
    day = EMPTY_DAY - timedelta(days=LATENESS_DAYS)
    days_late = good_events(day, seed=SEED)["days_late"].to_pylist()

    assert LATENESS_DAYS not in days_late
    assert days_late.count(LATENESS_DAYS + 1) > 5


def test_about_two_percent_are_late_and_one_in_a_thousand_is_beyond_the_horizon() -> None:
    days_late = good_events(BIG_DAY, seed=SEED)["days_late"].to_pylist()

    assert 0.015 < sum(0 < late <= LATENESS_DAYS for late in days_late) / len(days_late) < 0.025
    assert 0.0003 < sum(late > LATENESS_DAYS for late in days_late) / len(days_late) < 0.002


def test_amounts_and_guests_fit_their_event_types() -> None:
    events = good_events(BIG_DAY, seed=SEED).to_pandas().groupby("event_type")
    amounts = {kind: group["amount"].dropna() for kind, group in events}
    guests = {kind: float(group["user_id"].isna().mean()) for kind, group in events}

    assert set(amounts) == set(EVENT_TYPES)
    assert amounts["page_view"].empty
    assert min(amounts["add_to_cart"].min(), amounts["purchase"].min()) > 0
    assert amounts["refund"].max() < 0
    assert 0.13 < guests["page_view"] < 0.17
    assert 0 < guests["purchase"] < 0.06


def test_some_events_are_on_the_first_and_on_the_last_microsecond_of_a_day() -> None:
    times = good_events(FIRST_DAY, seed=SEED)["event_time"].to_pylist()

    assert times == sorted(times)
    assert times[0].isoformat() == f"{FIRST_DAY}T00:00:00+00:00"
    assert times[-1].isoformat() == f"{FIRST_DAY}T23:59:59.999999+00:00"


def test_users_come_and_churn_and_few_of_them_buy_much() -> None:
    weeks = [WINDOW[:14], WINDOW[-14:]]
    before, after = (pa.concat_tables(good_events(day, seed=SEED) for day in days) for days in weeks)
    users_before, users_after = (set(events["user_id"].to_pylist()) for events in (before, after))
    purchases = after.filter(pc.equal(after["event_type"], "purchase")).group_by("user_id")
    per_user = sorted(purchases.aggregate([("event_id", "count")])["event_id_count"].to_pylist(), reverse=True)

    assert len(users_before & users_after) > 500
    assert len(users_after - users_before) > 50
    assert len(users_before - users_after) > 50
    assert sum(per_user[: len(per_user) // 10]) > 0.3 * sum(per_user)


# --- Size


def test_an_ordinary_day_has_thousands_of_events_and_the_big_day_ten_times_as_many() -> None:
    usual = [good_events(day, seed=SEED).num_rows for day in FEW_DAYS]

    assert all(2_400 < count < 3_600 for count in usual)
    assert 24_000 < good_events(BIG_DAY, seed=SEED).num_rows < 36_000


def test_nothing_lands_on_the_empty_day_and_the_next_day_brings_it_all(landing: Path, summary: DemoSummary) -> None:
    next_day = EMPTY_DAY + timedelta(days=1)
    days_late = good_events(EMPTY_DAY, seed=SEED)["days_late"].to_pylist()

    assert not (landing / f"dt={EMPTY_DAY}").exists()
    assert min(days_late) == 1
    assert sum(map(len, map(text_lines, files_on_disk(landing, next_day).items()))) > 4_000


# --- Written


def test_the_summary_counts_what_is_on_disk(landing: Path, summary: DemoSummary) -> None:
    paths = list(landing.glob("dt=*/*"))
    event_days = [WINDOW[0] - timedelta(days=ago) for ago in range(30, 0, -1)] + WINDOW

    assert summary.days == 60
    assert summary.files == len(paths)
    assert summary.bytes == sum(path.stat().st_size for path in paths)
    landed = [day for each in event_days for day in good_events(each, seed=SEED)["arrival_day"].to_pylist()]
    assert summary.events == sum(day in WINDOW for day in landed)
    assert all(path.name.startswith("demo-") for path in paths)


def test_what_a_killed_demo_left_half_written_is_gone_after_the_next_one(tmp_path: Path) -> None:
    write_days(tmp_path, FEW_DAYS[:1], seed=SEED)
    (written, *_) = tmp_path.glob("dt=*/demo-web.jsonl.gz")
    half = written.rename(written.with_name(f".{written.name}.unfinished"))
    half.write_bytes(half.read_bytes()[:100])

    write_days(tmp_path, FEW_DAYS[:1], seed=SEED)

    assert written.exists()
    assert not half.exists()


def test_writing_again_leaves_every_file_untouched(tmp_path: Path) -> None:
    first = write_days(tmp_path, FEW_DAYS, seed=SEED)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = write_days(tmp_path, FEW_DAYS, seed=SEED)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert second == first


def test_a_file_that_lost_its_end_is_written_again(tmp_path: Path) -> None:
    write_days(tmp_path, FEW_DAYS, seed=SEED)
    path = tmp_path / f"dt={FIRST_DAY}" / "demo-app.parquet"
    path.write_bytes(path.read_bytes()[:100])
    write_days(tmp_path, FEW_DAYS, seed=SEED)

    assert path.read_bytes() == landing_files(FIRST_DAY, seed=SEED)[path.name]


def test_a_reader_sees_whole_files_while_they_are_rewritten(tmp_path: Path) -> None:
    write_days(tmp_path, [FIRST_DAY], seed=1)
    path = tmp_path / f"dt={FIRST_DAY}" / "demo-web.jsonl.gz"
    whole = {landing_files(FIRST_DAY, seed=seed)[path.name] for seed in (1, 2)}
    is_reading, is_done = threading.Event(), threading.Event()
    seen = set()

    def read_until_done() -> None:
        while not is_done.is_set():
            seen.add(path.read_bytes())
            is_reading.set()

    reader = threading.Thread(target=read_until_done)
    reader.start()
    is_reading.wait()
    for seed in (2, 1):
        write_days(tmp_path, [FIRST_DAY], seed=seed)
    is_done.set()
    reader.join()

    assert seen <= whole


def test_progress_is_told_the_day_and_the_number_of_its_files(tmp_path: Path) -> None:
    told: list[tuple[date, int]] = []
    days = [EMPTY_DAY, FIRST_DAY]
    write_days(tmp_path, days, seed=SEED, progress=lambda day, files: told.append((day, files)))

    assert told == [(day, len(landing_files(day, seed=SEED))) for day in days]
    assert told[0] == (EMPTY_DAY, 0)


def test_a_foreign_file_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    foreign = tmp_path / "dt=2020-01-01" / "orders.csv"
    foreign.parent.mkdir()
    foreign.write_bytes(b"order,total\n1,2\n")

    with pytest.raises(DemoRefused, match=re.escape(str(foreign)) + ".*PIPELINE_LANDING"):
        write_days(tmp_path, FEW_DAYS, seed=SEED)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]


def test_hidden_files_and_other_folders_are_not_foreign(tmp_path: Path) -> None:
    for name in ("dt=2020-01-01/_SUCCESS", "dt=2020-01-01/.orders.csv.part", "notes/readme.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()

    assert write_days(tmp_path, [FIRST_DAY], seed=SEED).files > 0


# --- Independent readers


def digest(files: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


def files_on_disk(landing: Path, day: date) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(landing.glob(f"dt={day}/*"))}


def text(name: str, data: bytes) -> str:
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    if name.endswith(".zst"):
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    return data.decode()


def text_lines(file: tuple[str, bytes]) -> list[str]:
    name, data = file
    return [] if name.endswith(".parquet") else text(name, data).splitlines()


def columns(name: str, data: bytes) -> list[str]:
    if name.endswith(".parquet"):
        return list(pq.read_schema(pa.BufferReader(data)).names)
    line = text(name, data).splitlines()[0]
    return line.split(",") if ".csv" in name else list(json.loads(line))


def rows(name: str, data: bytes) -> Iterator[dict[Any, Any]]:
    """Yield what can be read as a row at all: CSV lines of any width, JSON lines that are whole."""
    if name.endswith(".parquet"):
        yield from pq.read_table(pa.BufferReader(data)).to_pylist()
    elif ".csv" in name:
        yield from csv.DictReader(io.StringIO(text(name, data)))
    else:
        for line in text(name, data).splitlines():
            try:
                yield json.loads(line, parse_float=Decimal)
            except json.JSONDecodeError:
                continue


def valid_event(row: dict[Any, Any]) -> tuple[Any, ...] | None:
    """Return the values of `COLUMNS` with their types, or None for a row that breaks the contract."""
    too_narrow_or_wide = row.get("event_time") is None or None in row
    if too_narrow_or_wide or not row["event_id"] or row["event_type"] not in EVENT_TYPES:
        return None
    moment = row["event_time"]
    try:
        amount = None if row["amount"] in ("", None) else Decimal(row["amount"])
        moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except (InvalidOperation, ValueError):
        return None
    return row["event_id"], row["user_id"] or None, row["event_type"], amount, moment


def surprises(days: dict[date, dict[str, bytes]]) -> set[str]:
    """Return what an operator would notice in the landing files of these days, by looking at raw lines."""
    seen: set[str] = set()
    sizes = {day: sum(map(len, files.values())) for day, files in days.items()}
    typical = sorted(sizes.values())[len(sizes) // 2]
    for day, files in days.items():
        yesterday = sizes.get(day - timedelta(days=1))
        if not files:
            seen.add("empty day")
        if yesterday == 0 and sizes[day] > 1.5 * typical:
            seen.add("the day after the empty day brings two days")
        if sizes[day] > 7 * typical:
            seen.add("ten times the events")
        for name, data in files.items():
            seen |= {"redelivered file"} if "redelivered" in name else set()
            seen |= {"zstd"} if name.endswith(".zst") else set()
            seen |= surprises_in(day, columns(name, data), text_lines((name, data)), ".csv" in name)
    return seen


def surprises_in(day: date, names: list[str], lines: list[str], is_csv: bool) -> set[str]:  # noqa: FBT001
    whole = "\n".join(lines)
    ages = {age for age in range(1, 7) if f"{day - timedelta(days=age)}T" in whole}
    plain = [line.count(",") + 1 for line in lines if '"' not in line]
    signs = {
        "duplicate line": len(set(lines)) < len(lines),
        "late": bool(ages & {1, 2, 3}),
        "too late": bool(ages & {4, 5, 6}),
        "too few columns": is_csv and min(plain) < len(names),
        "too many columns": is_csv and max(plain) > len(names),
        "unclosed quote": is_csv and any(line.count('"') % 2 for line in lines[-1:]),
        "half a JSON line": not is_csv and any(not line.endswith("}") for line in lines),
        "decimal comma": '"12,50"' in whole,
        "amount is no number": '"n/a"' in whole,
        "time is no time": "yesterday" in whole,
        "no event_id": '"event_id": null' in whole or "\n," in whole,
        "unknown type": "teleport" in whole,
        "without channel": "channel" not in names,
        "with channel": "channel" in names,
    }
    return {name for name, is_there in signs.items() if is_there}
