"""The HTTP landing zone: what the pipeline is told of a day's file, and how copies are shared between processes."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.errors import LandingInProgress, LandingMissing, LandingUnavailable, SettingsError
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.store import open_landing
from pipeline_assets.store.http.landing import HttpLanding
from pipeline_assets.store.landing import LandingZone, Look
from pipeline_assets_tests.store.http_zone import (
    BODY,
    CUT,
    DAY,
    OLD,
    OLDER,
    OTHER,
    PATH,
    SHA256,
    SHORTER,
    Zone,
    asked,
    content,
    copy_below,
    cut,
    download,
    leftovers,
    plain,
    wait_for_size,
)
from pipeline_assets_tests.support.misbehaving_server import Answer, MisbehavingServer, busy, repr_digest
from pipeline_assets_tests.support.processes import running

SAID: dict[str, dict[str, Any]] = {
    "etag": {},
    "weak-etag": {"etag": 'W/"one"'},
    "date": {"etag": None, "last_modified": OLD},
    "checksum": {"etag": None, "headers": repr_digest(BODY)},
    "nothing": {"etag": None},
    "chunked": {"etag": '"one"', "framing": "chunked"},
    "chunked-date": {"etag": None, "last_modified": OLD, "framing": "chunked"},
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_a_look_and_the_files_have_one_fingerprint(said: dict[str, Any], server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(**said))
    landing = zone()
    before = landing.look(DAY)
    read = landing.fingerprint(DAY, landing.files(DAY))
    after = zone().look(DAY, before)
    assert before.fingerprint == read == after.fingerprint
    assert zone().look(DAY, after) == after == zone().look(DAY)
    assert before.settled
    assert after.settled


@pytest.mark.parametrize("said", [SAID["etag"], SAID["date"], SAID["checksum"]], ids=["etag", "date", "checksum"])
def test_a_look_asks_for_headers_alone(said: dict[str, Any], server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(**said))
    zone().look(DAY, zone().look(DAY))
    assert [seen.method for seen in server.seen()] == ["HEAD", "HEAD"]


def test_a_look_at_what_was_downloaded_is_conditional(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain())
    zone().files(DAY)
    zone().look(DAY)
    assert asked(server, "If-None-Match", "HEAD") == ['"one"']


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_without_head_is_asked_by_get(status: int, server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain())
    server.script(PATH, Answer(status=status), method="HEAD")
    look = zone().look(DAY)
    assert look.fingerprint == zone().fingerprint(DAY, zone().files(DAY)) == zone().look(DAY).fingerprint
    assert asked(server, "If-None-Match") == [None, None, '"one"']


def test_a_change_is_seen_without_downloading_it(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain())
    landing = zone()
    landing.files(DAY)
    before = landing.look(DAY)
    server.script(PATH, plain(SHORTER, '"two"'))
    seen = landing.look(DAY, before)
    assert seen.stamp != before.stamp
    assert seen.fingerprint not in {before.fingerprint, None}
    assert [each.method for each in server.seen()] == ["GET", "HEAD", "HEAD"]
    assert landing.fingerprint(DAY, landing.files(DAY)) == seen.fingerprint


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (plain(etag='"one"'), plain(etag='"two"')),
        (plain(etag=None, last_modified=OLDER), plain(etag=None, last_modified=OLD)),
        (plain(etag='"one"', headers=repr_digest(BODY)), plain(etag='"two"', headers=repr_digest(BODY))),
        (plain(etag=None), plain(etag=None)),
    ],
    ids=["etag", "date", "checksum", "nothing"],
)
def test_the_same_file_delivered_again_is_no_change(
    first: Answer, again: Answer, server: MisbehavingServer, zone: Zone
) -> None:
    landing = zone()
    server.script(PATH, first)
    files = landing.files(DAY)
    before = landing.look(DAY)
    server.script(PATH, again)
    assert landing.look(DAY, before).fingerprint == before.fingerprint
    assert landing.files(DAY) == files  # whoever reads the copy is not disturbed
    assert landing.fingerprint(DAY, files) == before.fingerprint
    assert zone().look(DAY).fingerprint == before.fingerprint


@pytest.mark.parametrize("etag", ['"two"', None], ids=["etag", "date"])
def test_another_file_of_the_same_length_is_a_change(etag: str | None, server: MisbehavingServer, zone: Zone) -> None:
    landing = zone()
    server.script(PATH, plain(last_modified=OLDER, etag=etag and '"one"'))
    landing.files(DAY)
    before = landing.look(DAY)
    server.script(PATH, plain(OTHER, etag, last_modified=OLD))
    seen = landing.look(DAY, before)
    assert seen.fingerprint != before.fingerprint
    assert seen.fingerprint == landing.fingerprint(DAY, landing.files(DAY)) == zone().look(DAY).fingerprint


def test_a_second_file_of_the_same_second_and_length_is_a_change(server: MisbehavingServer, zone: Zone) -> None:
    landing = zone()
    server.script(PATH, plain(etag=None, last_modified=OLD, headers={"Date": OLD}))
    read = landing.fingerprint(DAY, landing.files(DAY))
    server.script(PATH, plain(OTHER, None, last_modified=OLD))
    seen = landing.look(DAY)
    assert seen.fingerprint != read
    assert seen.fingerprint == landing.fingerprint(DAY, landing.files(DAY)) == landing.look(DAY).fingerprint


def test_another_length_under_the_same_date_is_a_change_and_is_fetched(server: MisbehavingServer, zone: Zone) -> None:
    landing = zone()
    server.script(PATH, plain(etag=None, last_modified=OLD))
    landing.files(DAY)
    before = landing.look(DAY)
    server.script(PATH, plain(SHORTER, None, last_modified=OLD))
    seen = landing.look(DAY, before)
    assert seen.fingerprint != before.fingerprint
    files = landing.files(DAY)
    assert content(files) == SHORTER
    assert landing.fingerprint(DAY, files) == seen.fingerprint == landing.look(DAY, seen).fingerprint


def test_a_file_that_was_taken_away_has_no_fingerprint_until_it_is_back(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain())
    landing = zone()
    landing.files(DAY)
    before = landing.look(DAY)
    server.script(PATH, Answer(status=404))
    assert landing.look(DAY, before) == Look("", None, settled=True)
    with pytest.raises(LandingMissing, match="an empty one if nothing happened that day"):
        landing.files(DAY)
    server.script(PATH, plain())
    assert landing.look(DAY) == before


@pytest.mark.parametrize(("age_seconds", "settled"), [(0, False), (4, False), (5, True), (3600, True)])
def test_a_file_that_is_very_young_may_still_be_written(
    age_seconds: int,
    settled: bool,  # noqa: FBT001
    server: MisbehavingServer,
    zone: Zone,
) -> None:
    sent = datetime(2026, 6, 10, 1, tzinfo=UTC) + timedelta(seconds=age_seconds)
    server.script(PATH, plain(last_modified=OLD, headers={"Date": format_datetime(sent, usegmt=True)}))
    look = zone().look(DAY)
    assert look.settled is settled
    assert (look.fingerprint is not None) is settled


def test_a_file_that_was_fetched_young_is_settled_while_it_does_not_change(
    server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, plain(last_modified=OLD, headers={"Date": OLD}))
    zone().files(DAY)
    assert zone().look(DAY).settled


def test_a_server_whose_head_says_other_things_than_its_get_comes_to_one_fingerprint(
    server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, plain())
    server.script(PATH, plain(etag=None, last_modified=OLD), method="HEAD")
    landing = zone()
    before = landing.look(DAY)
    read = landing.fingerprint(DAY, landing.files(DAY))
    assert landing.look(DAY, before).fingerprint == read == landing.look(DAY).fingerprint
    assert asked(server, "If-None-Match") == [None, '"one"', '"one"']


def test_a_look_says_what_is_wrong_with_the_server(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, busy(503, 4))
    with pytest.raises(LandingUnavailable, match="asked to wait 4 s") as raised:
        zone().look(DAY)
    assert raised.value.retry_after_seconds == 4


def test_the_fingerprint_of_no_files_is_that_of_a_folder_without_files(zone: Zone, tmp_path: Path) -> None:
    zone().check_complete(DAY, [])
    assert zone().fingerprint(DAY, []) == LandingZone(tmp_path / "none").fingerprint(DAY, [])


def test_files_that_were_listed_are_complete_and_no_server_is_asked(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain())
    landing = zone()
    files = landing.files(DAY)
    server.stop()
    landing.check_complete(DAY, files)
    assert landing.fingerprint(DAY, files)


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_copy_that_another_process_replaced_is_not_taken_for_the_listed_one(
    how: str, server: MisbehavingServer, zone: Zone, tmp_path: Path
) -> None:
    server.script(PATH, plain(), plain(OTHER, '"two"'))
    landing = zone()
    files = landing.files(DAY)
    if how == "replaced":
        zone().files(DAY)
    else:
        copy_below(tmp_path).unlink()
    for ask in (landing.check_complete, landing.fingerprint):
        with pytest.raises(LandingInProgress, match=f"{DAY}.*run the day again"):
            ask(DAY, files)


def test_two_templates_share_no_copies(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, plain(), plain(OTHER))
    assert content(zone().files(DAY)) == BODY
    assert content(zone(query="?tenant=2").files(DAY)) == OTHER


@pytest.mark.parametrize("had_bytes", [1000, CUT])
def test_what_a_killed_process_had_is_resumed_by_the_next(
    had_bytes: int, server: MisbehavingServer, tmp_path: Path
) -> None:
    server.script(PATH, cut("hang", had_bytes), plain(headers=repr_digest(BODY)))
    with running(download, server.url, tmp_path, {"read_seconds": 30.0}) as child:
        wait_for_size(tmp_path, had_bytes)
        child.signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with running(download, server.url, tmp_path, {}) as child:
        assert [child.receive(), child.receive()] == ["begins", SHA256]
    assert asked(server, "Range") == [None, f"bytes={had_bytes}-"]
    assert leftovers(tmp_path) == []


def test_a_process_waits_for_the_download_of_another_and_takes_its_copy(
    server: MisbehavingServer, tmp_path: Path
) -> None:
    server.script(PATH, cut("hang"), plain())
    with running(download, server.url, tmp_path, {"read_seconds": 1.0}) as first:
        server.wait_for(1)
        with running(download, server.url, tmp_path, {}) as second:
            assert second.receive() == first.receive() == "begins"
            assert second.receive() == first.receive() == SHA256
    assert asked(server, "Range") == [None, f"bytes={CUT}-", None]
    assert asked(server, "If-None-Match") == [None, None, '"one"']


def test_a_process_that_would_wait_too_long_says_so(server: MisbehavingServer, zone: Zone, tmp_path: Path) -> None:
    server.script(PATH, plain(), plain(OTHER, '"two"'))
    zone().files(DAY)
    descriptor = os.open(copy_below(tmp_path).parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(LandingUnavailable, match="another process has been downloading it"):
            zone(lock_wait_seconds=0.05).files(DAY)
        with pytest.raises(LandingUnavailable, match="another process has been downloading it"):
            zone(lock_wait_seconds=0.05).look(DAY)  # the same length: it would be downloaded to be sure
    finally:
        os.close(descriptor)


def download_to_a_full_disk(connection: Connection, url: str, cache: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, CUT))  # for want of a full disk: the same to who writes
    download(connection, url, cache, {})


def test_a_full_disk_is_not_the_servers_fault(server: MisbehavingServer, zone: Zone, tmp_path: Path) -> None:
    server.script(PATH, plain())
    with running(download_to_a_full_disk, server.url, tmp_path) as child:
        assert child.receive() == "begins"
        assert child.receive().startswith("StorageFull: the cache of landing files")
    assert content(zone().files(DAY)) == BODY
    assert asked(server, "Range") == [None, f"bytes={CUT}-"]


def test_a_path_is_a_folder_and_text_is_a_url(tmp_path: Path) -> None:
    def opened(landing: Path | str) -> object:
        return open_landing(landing, cache=tmp_path, token=None, retry_after=retry_after_seconds)

    assert isinstance(opened(tmp_path), LandingZone)
    assert isinstance(opened("https://host/{day}.csv"), HttpLanding)
    with pytest.raises(SettingsError, match=r"does not contain \{day\}"):
        opened("https://host/events.csv")
