"""Downloads from a server that cuts off, lies and changes its mind: what is asked for, and what is kept."""

from __future__ import annotations

import base64
import gzip
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline_assets.assets.source.landing_rows import read_rows
from pipeline_assets.errors import LandingError, LandingUnavailable
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.store.http.cache import DayCache
from pipeline_assets.store.http.client import HttpClient
from pipeline_assets.store.http.day_url import DayUrl
from pipeline_assets.store.http.landing import HttpLanding
from pipeline_assets.store.http.validators import Validators
from pipeline_assets_tests.store.http_zone import (
    BODY,
    CUT,
    DAY,
    NAME,
    OLD,
    OLDER,
    OTHER,
    PATH,
    Zone,
    asked,
    content,
    copy_below,
    cut,
    leftovers,
    plain,
)
from pipeline_assets_tests.support.misbehaving_server import Answer, MisbehavingServer, busy, repr_digest


def test_a_day_is_one_file_whose_name_does_not_depend_on_where_its_copy_is(
    server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain())
    files = zone().files(DAY)
    assert [(file.name, file.size_bytes) for file in files] == [(NAME, len(BODY))]
    assert content(files) == BODY
    assert copy_below(tmp_path).name == f"{DAY}.csv"  # readers tell the format by it


def test_a_url_cannot_be_listed_and_shows_no_unfinished_uploads(zone: Zone) -> None:
    assert zone().days() is None
    assert zone().unfinished(DAY) == []


@pytest.mark.parametrize(
    ("validators", "condition"),
    [
        ({"etag": '"one"'}, ("If-None-Match", '"one"')),
        ({"etag": 'W/"one"'}, ("If-None-Match", 'W/"one"')),
        ({"etag": None, "last_modified": OLD}, ("If-Modified-Since", OLD)),
    ],
    ids=["etag", "weak-etag", "last-modified"],
)
def test_an_unchanged_file_is_sent_once(
    validators: dict[str, Any], condition: tuple[str, str], server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, plain(**validators))
    first, again = zone().files(DAY), zone().files(DAY)
    assert first == again
    assert asked(server, condition[0]) == [None, condition[1]]


def test_a_changed_file_replaces_its_copy(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(), plain(OTHER, '"two"'))
    assert content(zone().files(DAY)) == BODY
    assert content(zone().files(DAY)) == OTHER


def test_without_etag_and_date_it_is_sent_every_time(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(etag=None), plain(OTHER, None))
    assert content(zone().files(DAY)) == BODY
    assert content(zone().files(DAY)) == OTHER


@pytest.mark.parametrize(
    "damage", ["deleted", "shortened", "notes deleted", "notes garbled", "notes of another version"]
)
def test_a_copy_that_was_tampered_with_is_downloaded_again(
    damage: str, server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain())
    zone().files(DAY)
    (notes,) = tmp_path.rglob(".copy.json")
    if damage == "deleted":
        copy_below(tmp_path).unlink()
    elif damage == "shortened":
        copy_below(tmp_path).write_bytes(BODY[:9])
    elif damage == "notes deleted":
        notes.unlink()
    else:
        notes.write_text("{" if damage == "notes garbled" else '{"stamp": [1, 2, 3]}')
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "If-None-Match") == [None, None]


def test_a_file_that_was_put_back_to_an_older_one_is_taken(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(etag=None, last_modified=OLD), plain(OTHER, None, last_modified=OLDER))
    zone().files(DAY)
    assert content(zone().files(DAY)) == OTHER


def test_a_file_written_twice_in_the_second_it_was_fetched_in_is_taken_again(
    server: MisbehavingServer, zone: Zone
) -> None:
    same_second: dict[str, Any] = {"last_modified": OLD, "headers": {"Date": OLD}}
    server.script(PATH, plain(BODY, None, **same_second), plain(OTHER, None, last_modified=OLD))
    landing = zone(settle_seconds=0)
    one = landing.fingerprint(DAY, landing.files(DAY))
    assert content(landing.files(DAY)) == OTHER
    assert landing.fingerprint(DAY, landing.files(DAY)) != one


def test_a_body_that_was_packed_on_the_way_is_kept_as_it_was_sent(server: MisbehavingServer, zone: Zone) -> None:
    packed = gzip.compress(b"id\n1\n", mtime=0)
    server.script(PATH, plain(packed, headers={"Content-Encoding": "gzip"}))
    files = zone().files(DAY)
    assert content(files) == packed
    assert [batch.rows.num_rows for batch in read_rows(files[0], ["id"])] == [1]
    assert asked(server, "Accept-Encoding") == ["identity"]


def test_an_empty_file_is_a_day_without_events(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(b""))
    files = zone().files(DAY)
    assert content(files) == b""
    assert list(read_rows(files[0], ["id"])) == []


def test_a_gzip_file_that_ends_too_early_is_the_readers_business(server: MisbehavingServer, tmp_path: Path) -> None:
    path = f"/shop/{DAY}.jsonl.gz"
    server.script(path, plain(gzip.compress(b'{"id": 1}\n' * 1000, mtime=0)[:-20]))
    client = HttpClient(DayUrl(f"{server.url}/shop/{{day}}.jsonl.gz"), retry_after_seconds)
    (file,) = HttpLanding(client, cache=tmp_path).files(DAY)
    with pytest.raises(LandingError, match="cannot be read to its end") as raised:
        list(read_rows(file, ["id"]))
    assert type(raised.value) is LandingError


def test_one_connection_serves_many_days(server: MisbehavingServer, zone: Zone) -> None:
    landing, days = zone(), [DAY + timedelta(days=number) for number in range(5)]
    for day in days:
        server.script(f"/shop/{day}.csv", plain(str(day).encode()))
    for _ in range(2):
        assert [content(landing.files(day)) for day in days] == [str(day).encode() for day in days]
        assert all(landing.look(day).fingerprint for day in days)
    assert server.connections == 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("ending", ["reset", "close", "hang"])
def test_a_body_that_is_cut_off_is_resumed_where_it_ended(
    ending: Literal["reset", "close", "hang"],
    framing: Literal["length", "chunked"],
    server: MisbehavingServer,
    zone: Zone,
    tmp_path: Path,
) -> None:
    server.script(PATH, cut(ending, framing=framing), plain(framing=framing))
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, f"bytes={CUT}-"]
    assert asked(server, "If-Range") == [None, '"one"']
    assert leftovers(tmp_path) == []


def test_what_came_is_kept_for_another_process_to_resume(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut("reset"))
    with pytest.raises(LandingUnavailable, match=r"cut off after 300,000 of 512,000 bytes: .* resumed at byte 300,000"):
        zone(resumes=0).files(DAY)
    server.script(PATH, plain())
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, f"bytes={CUT}-"]


def test_a_date_proves_that_the_rest_belongs_to_it(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(etag=None, last_modified=OLD), plain(etag=None, last_modified=OLD))
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "If-Range") == [None, OLD]


@pytest.mark.parametrize(
    "said",
    [
        {"etag": None},
        {"etag": 'W/"one"'},
        {"etag": None, "last_modified": OLD, "headers": {"Date": OLD}},
        {"headers": {"Accept-Ranges": "none"}},
    ],
    ids=["nothing", "weak-etag", "date-of-the-same-second", "no-ranges"],
)
def test_nothing_is_resumed_when_nothing_proves_that_it_is_the_same_file(
    said: dict[str, Any], server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, cut(**said), plain(**said))
    with pytest.raises(LandingUnavailable, match="cut off after 300,000") as raised:
        zone().files(DAY)
    assert "resumed" not in str(raised.value)
    assert leftovers(tmp_path) == []
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, None]


def test_a_file_that_changed_since_it_was_cut_off_is_taken_from_its_beginning(
    server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, cut(), plain(OTHER, '"two"'))
    assert content(zone().files(DAY)) == OTHER
    assert asked(server, "Range") == [None, f"bytes={CUT}-"]


def test_a_server_that_ignores_ranges_sends_it_all_again(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(ranges=False), plain(ranges=False))
    assert content(zone().files(DAY)) == BODY
    assert len(server.seen(PATH)) == 2


def test_a_cut_without_progress_is_not_tried_again_at_once(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(ranges=False))
    with pytest.raises(LandingUnavailable, match="cut off after 300,000"):
        zone().files(DAY)
    assert len(server.seen(PATH)) == 2


def test_cuts_with_progress_are_mended_a_bounded_number_of_times(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(after=1000))
    with pytest.raises(LandingUnavailable, match="cut off after 4,000 of"):
        zone(resumes=3).files(DAY)
    assert asked(server, "Range") == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_the_resumed_part_is_asked_for_politely_when_the_server_is_busy(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(), busy(503, 7))
    with pytest.raises(LandingUnavailable, match="asked to wait 7 s") as raised:
        zone().files(DAY)
    assert raised.value.retry_after_seconds == 7
    server.script(PATH, plain())
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range")[-1] == f"bytes={CUT}-"


def test_a_part_that_was_not_asked_for_is_not_put_in(server: MisbehavingServer, zone: Zone) -> None:
    wrong = Answer(status=206, body=BODY[CUT:], etag='"one"', headers={"Content-Range": f"bytes 5-9/{len(BODY)}"})
    server.script(PATH, cut(), wrong, plain())
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, f"bytes={CUT}-", None]


def test_a_part_of_another_file_is_not_put_in(server: MisbehavingServer, zone: Zone) -> None:
    span = f"bytes {CUT}-{len(BODY) - 1}/{len(BODY)}"
    wrong = Answer(status=206, body=OTHER[CUT:], etag='"two"', headers={"Content-Range": span})
    server.script(PATH, cut(), wrong, plain())
    assert content(zone().files(DAY)) == BODY


def test_a_server_that_hands_out_small_parts_is_asked_for_all_of_them(server: MisbehavingServer, zone: Zone) -> None:
    middle = CUT + 1000
    span = f"bytes {CUT}-{middle - 1}/{len(BODY)}"
    part = Answer(status=206, body=BODY[CUT:middle], etag='"one"', headers={"Content-Range": span})
    server.script(PATH, cut(), part, plain())
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, f"bytes={CUT}-", f"bytes={middle}-"]


def test_a_part_need_not_repeat_what_was_said_of_the_whole(server: MisbehavingServer, zone: Zone) -> None:
    span = f"bytes {CUT}-{len(BODY) - 1}/{len(BODY)}"
    server.script(PATH, cut(), Answer(status=206, body=BODY[CUT:], headers={"Content-Range": span}))
    assert content(zone().files(DAY)) == BODY
    assert len(server.seen(PATH)) == 2


def test_a_length_that_is_too_long_is_never_taken_for_a_whole_file(
    server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain(headers={"Content-Length": str(len(BODY) + 10), "Connection": "close"}))
    with pytest.raises(LandingUnavailable, match="cut off after 512,000 of 512,010"):
        zone().files(DAY)
    assert list(tmp_path.rglob("*.csv")) == []
    assert len(server.seen(PATH)) <= 3


def test_a_body_whose_end_nothing_tells_is_refused(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(framing="close"))
    with pytest.raises(LandingError, match="without length or checksum") as raised:
        zone().files(DAY)
    assert type(raised.value) is LandingError


def test_a_checksum_tells_the_end_as_well(server: MisbehavingServer, zone: Zone) -> None:
    server.script(
        PATH, cut(framing="close", headers=repr_digest(BODY)), plain(framing="close", headers=repr_digest(BODY))
    )
    with pytest.raises(LandingUnavailable, match="whose sha-256 is"):
        zone().files(DAY)
    assert content(zone().files(DAY)) == BODY


def test_a_download_that_was_whole_when_its_process_died_asks_for_one_byte(
    server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain())
    zone().files(DAY)
    copy = copy_below(tmp_path)
    copy.unlink()
    cache = DayCache(copy.parent, copy.name)
    cache.begin(Validators(etag='"one"', size_bytes=len(BODY)))
    cache.partial_path.write_bytes(BODY)
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, f"bytes={len(BODY) - 1}-"]


def test_what_a_killed_process_had_is_not_resumed_when_nothing_proves_that_it_is_the_same_file(
    server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain(), plain(OTHER, 'W/"two"'))
    zone().files(DAY)
    cache = DayCache(copy_below(tmp_path).parent, f"{DAY}.csv")
    cache.begin(Validators(etag='W/"two"', size_bytes=len(BODY)))
    cache.partial_path.write_bytes(BODY[:CUT])
    assert content(zone().files(DAY)) == OTHER
    assert asked(server, "Range") == [None, None]


def test_a_begun_download_longer_than_the_file_now_is_starts_again(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(framing="chunked"))
    with pytest.raises(LandingUnavailable):
        zone(resumes=0).files(DAY)
    server.script(PATH, plain(BODY[:100]))  # the same ETag: the server asserts that this is the same file
    assert content(zone().files(DAY)) == BODY[:100]
    assert asked(server, "Range") == [None, f"bytes={CUT}-", None]


def test_a_begun_download_is_dropped_when_the_copy_is_current_again(
    server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain(), cut(body=OTHER, etag='"two"'), plain())
    zone().files(DAY)
    with pytest.raises(LandingUnavailable):
        zone(resumes=0).files(DAY)
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "If-None-Match") == [None, '"one"', '"one"']
    assert leftovers(tmp_path) == []


SHA = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
SHA512 = base64.b64encode(hashlib.sha512(BODY).digest()).decode()
MD5 = base64.b64encode(hashlib.md5(BODY, usedforsecurity=False).digest()).decode()
CHECKSUMS = {
    "repr-digest": {"Repr-Digest": f"unixsum=:AA==:, sha-256=:{SHA}:"},
    "repr-digest-512": {"Repr-Digest": f"sha-512=:{SHA512}:"},
    "digest": {"Digest": f"SHA-256={SHA},md5={MD5}"},
    "content-md5": {"Content-MD5": MD5},
    "goog": {"x-goog-hash": f"crc32c=AAAAAA==,md5={MD5}"},
}


@pytest.mark.parametrize("headers", CHECKSUMS.values(), ids=CHECKSUMS)
def test_a_checksum_that_does_not_match_may_match_next_time(
    headers: dict[str, str], server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain(OTHER, headers=headers), plain(headers=headers))
    with pytest.raises(LandingUnavailable, match="and promised"):
        zone().files(DAY)
    assert leftovers(tmp_path) == []
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, None]


@pytest.mark.parametrize("headers", CHECKSUMS.values(), ids=CHECKSUMS)
def test_a_resumed_download_is_verified_as_a_whole(
    headers: dict[str, str], server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, cut(headers=headers), plain(OTHER))  # a rest of other content under the same ETag
    with pytest.raises(LandingUnavailable, match="and promised"):
        zone().files(DAY)
    server.script(PATH, cut(headers=headers), plain())
    assert content(zone().files(DAY)) == BODY


def test_a_checksum_that_cannot_be_read_matches_nothing(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(headers={"Digest": "sha-256=oops!"}))
    with pytest.raises(LandingUnavailable, match="promised oops!"):
        zone().files(DAY)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'},
        {"Repr-Digest": "sha-1=:AAAA:, unixcksum=:AAAA:"},
        {"x-goog-hash": "md5=AAAA", "x-goog-stored-content-encoding": "gzip"},
    ],
    ids=["an-etag-is-none", "unknown-algorithms", "unpacked-on-the-way"],
)
def test_what_is_no_checksum_of_these_bytes_is_not_held_against_them(
    headers: dict[str, str], server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, plain(headers=headers))
    assert content(zone().files(DAY)) == BODY


def test_the_md5_of_a_part_is_not_taken_for_that_of_the_whole(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, cut(), plain(headers={"Content-MD5": "AAAA"}))
    assert content(zone().files(DAY)) == BODY
