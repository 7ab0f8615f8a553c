"""Landing files that are valid and not taken, or not what they claim to be and taken all the same."""

from __future__ import annotations

import bz2
import gzip
import io
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline_assets.assets.source.select import parse_source
from pipeline_assets.errors import PipelineError
from pipeline_assets_tests.assets.landed import HEADER, Outcome, arrive, land
from pipeline_assets_tests.mishaps.world import Shop, needed

README = Path(__file__).resolve().parents[2] / "README.md"


def arrived(root: Path) -> Outcome | str:
    """What one arrival day gave, or what stopped it."""
    try:
        return arrive(root)
    except PipelineError as stopped:
        return str(stopped)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11: a user's first day")
def test_a_field_of_csv_that_is_long_and_has_line_ends_inside_is_one_field(tmp_path: Path) -> None:
    inside = "x" * 140_000 + "\nphantom,c9,view,999,2026-06-10T11:00:00Z\nend of the text"
    rows = f'a1,"{inside}",view,1.0,2026-06-10T10:00:00Z\na2,c1,view,1.5,2026-06-10T10:00:00Z\n'
    land(tmp_path, "a.csv", HEADER + rows)

    outcome = arrive(tmp_path)

    assert (outcome.ids(), outcome.rejects("rule", "source_line")) == (["a1", "a2"], [])


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11: a user's first day")
def test_a_file_without_a_header_beside_one_that_has_it_loses_no_row(tmp_path: Path) -> None:
    land(tmp_path, "a.csv", f"{HEADER}a1,c1,view,1,2026-06-10T10:00:00Z\n")
    land(tmp_path, "b.csv", "".join(f"{each},c1,view,1,2026-06-10T10:00:00Z\n" for each in ("b1", "b2", "b3")))

    outcome = arrived(tmp_path)

    if isinstance(outcome, str):
        assert "b.csv" in outcome
    else:
        texts = [*outcome.ids(), *(text for (text,) in outcome.rejects("row_text"))]
        assert [each for each in ("b1", "b2", "b3") if not any(each in text for text in texts)] == []


GOOD = "".join(
    f'{{"id":"a{number}","who":"c1","kind":"view","amount":"1.5","time":"2026-06-10T10:00:00Z"}}\n'
    for number in range(1, 6)
).encode()
HTML = b"<html><body><h1>503 Service Unavailable</h1></body></html>\n"


def zipped(data: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("orders.jsonl", data)
    return whole.getvalue()


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return compressed


def pzstd(data: bytes) -> bytes:
    """As pzstd writes it, and zstd -d reads it: a frame that is to be skipped, then one of the data."""
    frame = zstd(data)
    return b"\x50\x2a\x4d\x18" + struct.pack("<II", 4, len(frame)) + frame


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(zipped, id="zip"),
        pytest.param(lambda data: gzip.compress(gzip.compress(data)), id="gzip twice"),
        pytest.param(bz2.compress, id="bz2"),
        pytest.param(lambda _: HTML, id="html"),
        pytest.param(lambda data: data.decode().encode("utf-16-le"), id="utf-16 without its mark"),
    ],
)
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11: a user's first day")
def test_a_file_of_json_lines_that_is_no_text_stops_its_day_by_name(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    land(tmp_path, "orders.jsonl.gz", gzip.compress(GOOD))
    needed(len(arrive(tmp_path).ids()) == 5, "the good file was not read")
    land(tmp_path, "orders.jsonl.gz", spoil(GOOD))

    stopped = arrived(tmp_path)

    assert isinstance(stopped, str), f"the day would be published with {len(stopped.ids())} events"
    assert "orders.jsonl.gz" in stopped


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11: a user's first day")
def test_a_file_that_pzstd_wrote_is_read(tmp_path: Path) -> None:
    land(tmp_path, "orders.jsonl.zst", zstd(GOOD))
    needed(len(arrive(tmp_path).ids()) == 5, "the good file was not read")
    land(tmp_path, "orders.jsonl.zst", pzstd(GOOD))

    outcome = arrived(tmp_path)

    assert not isinstance(outcome, str), outcome
    assert len(outcome.ids()) == 5


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11: a user's first day")
def test_the_select_of_the_readme_rounds_no_amount(tmp_path: Path) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (select,) = [block for block in blocks if "FROM landing" in block]
    land(
        tmp_path,
        "a.csv",
        "order_no,customer,total,ordered_at\n"
        "a1,c1,1.23456,2026-06-10 10:00:00\na2,c1,0.00004,2026-06-10 10:00:00\na3,c1,1.2345,2026-06-10 10:00:00\n",
    )

    outcome = arrive(tmp_path, source=parse_source(select, name="README.md"))

    kept = {row["event_id"]: str(row["amount"]) for row in outcome.kept.to_pylist()}
    needed(kept.get("a3") == "1.2345", kept)
    assert kept == {"a3": "1.2345"}


NO_TEXT = b"caf\xe9.csv"
"""A name in Latin-1."""


@pytest.fixture
def misnamed(shop: Shop) -> Shop:
    """A shop to which three days are delivered again, one of them with a file whose name is no UTF-8."""
    for number, name in ((1, "more.csv"), (2, NO_TEXT), (3, "more.csv")):
        shop.sells(number, name, f"more{number}", at="10:00:00Z")
    return shop


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_a_file_name_that_is_no_text_hides_no_other_day_from_the_landing_sensor(misnamed: Shop) -> None:
    reported = [day for _ in range(3) for day in misnamed.tick("landing_sensor").reported]

    assert {misnamed.key(1), misnamed.key(3)} <= set(reported), misnamed.failures


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_a_day_with_a_file_name_that_is_no_text_is_read_or_stops_with_words_that_name_it(misnamed: Shop) -> None:
    day = misnamed.key(2)

    outcome = misnamed.pipeline("run", "--select", "raw_events,rejected_events", "--from", day, "--to", day)

    if outcome.status == 0:
        assert "more2" in {row["event_id"] for row in misnamed.rows("raw_events", 2)}
    else:
        assert "caf" in outcome.err
        assert "UnicodeEncodeError" not in outcome.err
