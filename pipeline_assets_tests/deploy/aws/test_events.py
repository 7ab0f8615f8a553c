"""What is read out of the events of S3, and that nothing odd is taken for nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from landing_trigger.events import Change, Malformed, change_in, day_of, unwrapped

from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import DAY_IS_COMPLETE, LandingZone
from pipeline_assets_tests.deploy.aws.s3_messages import (
    BUCKET,
    PREFIX,
    event_bridge,
    key_of,
    records,
    removed,
    sns_to_lambda,
    sns_to_sqs,
    sqs,
    written,
)

DAY = "2026-06-10"
KEY = key_of(DAY)

# One per line: names of the landing zone's own tests, and what tools of S3 leave behind.
NAMES = [
    "orders.csv",
    "orders.csv.gz",
    "ORDERS.PARQUET",
    "part-00000.json",
    "partial orders.csv",
    "_SUCCESS",
    "_success",
    "_SUCCESS.csv",
    ".orders.csv.swp",
    "_committed_1",
    "orders.csv.tmp",
    "orders.csv.TEMP",
    "orders.csv.part",
    "orders.partial",
    "orders.inprogress",
    "orders.filepart",
    "orders.crdownload",
    "orders.csv~",
    "tmp",
    "dt=2026-06-10",
]


def changes(message: object) -> list[Change]:
    """All changes in a message, as the handler walks through it."""
    inner = unwrapped(message)
    if inner is None:
        found = change_in(message, PREFIX)
        return [found] if found else []
    return [change for each in inner for change in changes(each)]


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda event: event, id="bare"),
        pytest.param(records, id="S3 to Lambda"),
        pytest.param(lambda event: sns_to_lambda(records(event)), id="S3 to SNS to Lambda"),
        pytest.param(lambda event: sqs(records(event)), id="S3 to SQS"),
        pytest.param(lambda event: sqs(sns_to_sqs(records(event))), id="S3 to SNS to SQS"),
    ],
)
def test_a_notification_is_read_through_every_service_that_may_carry_it(wrap: Any) -> None:
    (change,) = changes(wrap(written(KEY, "e1", "00AB")))

    assert change == Change(
        DAY, BUCKET, KEY, "ObjectCreated:Put", "2026-06-10T04:00:00.000Z", "e1", "00AB", "", size_bytes=1024
    )


@pytest.mark.parametrize("wrap", [pytest.param(lambda event: event, id="bare"), pytest.param(sqs, id="to SQS")])
def test_an_event_of_event_bridge_says_the_same(wrap: Any) -> None:
    (change,) = changes(wrap(event_bridge(KEY, "e1", "00AB")))

    assert change == Change(
        DAY, BUCKET, KEY, "Object Created", "2026-06-10T04:00:00Z", "e1", "00AB", "", size_bytes=1024
    )


def test_keys_are_decoded_where_s3_encodes_them_and_only_there() -> None:
    odd = key_of(DAY, "ä + %2B=ü.csv")

    assert [each.key for each in changes(records(written(odd)))] == [odd]
    assert [each.key for each in changes(event_bridge(odd, "e", "1"))] == [odd]


def test_a_removal_has_no_etag_even_where_a_delete_marker_has_one() -> None:
    gone = removed(KEY, "00AC", "ObjectRemoved:DeleteMarkerCreated")
    gone["s3"]["object"]["eTag"] = "d41d8cd98f00b204e9800998ecf8427e"

    assert [each.etag for each in changes(gone)] == [""]
    assert [each.etag for each in changes(removed(KEY, "00AC", "LifecycleExpiration:Delete"))] == [""]
    assert [each.etag for each in changes(event_bridge(KEY, None, "00AC"))] == [""]


def test_etags_of_multipart_uploads_and_versions_of_objects_are_kept() -> None:
    (change,) = changes(written(KEY, "9bb58f26192e4ba00f01e2e7b136bbd8-3", versionId="3HL4kqt"))

    assert change.metadata()["etag"] == "9bb58f26192e4ba00f01e2e7b136bbd8-3"
    assert change.metadata()["version_id"] == "3HL4kqt"


def test_what_an_event_does_not_say_is_left_out_of_the_report() -> None:
    (change,) = changes(removed(KEY, None))

    assert change.metadata().keys() == {"s3_bucket", "s3_key", "event_name", "event_time"}


@pytest.mark.parametrize("name", ["ObjectTagging:Put", "ObjectAcl:Put", "ObjectRestore:Post", "s3:ObjectAccessed:Get"])
def test_events_that_change_no_bytes_are_ignored(name: str) -> None:
    assert changes({**written(KEY), "eventName": name}) == []


def test_the_test_message_of_s3_is_ignored() -> None:
    message = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}

    assert changes(message) == changes(sqs(message)) == changes(sns_to_lambda(message)) == []


def without(event: Any, *path: str) -> Any:
    place = event
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return event


def with_key(key: Any) -> Any:
    event = written(KEY)
    event["s3"]["object"]["key"] = key
    return event


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({}, id="empty"),
        pytest.param([], id="a list"),
        pytest.param("text", id="text"),
        pytest.param(None, id="null"),
        pytest.param({"Records": {}}, id="records that are no list"),
        pytest.param(records({}), id="an empty record"),
        pytest.param(records(None), id="a record that is null"),
        pytest.param(sqs("{"), id="cut off"),
        pytest.param(sqs(""), id="an empty body"),
        pytest.param(sns_to_lambda(None), id="an empty SNS message"),
        pytest.param(without(written(KEY), "s3"), id="no s3"),
        pytest.param(without(written(KEY), "s3", "bucket", "name"), id="no bucket"),
        pytest.param(without(written(KEY), "s3", "object", "key"), id="no key"),
        pytest.param({**written(KEY), "s3": None}, id="s3 is null"),
        pytest.param(written(KEY, etag=None, sequencer=None), id="neither etag nor sequencer"),
        pytest.param(written(KEY, size="1024"), id="a size that is text"),
        pytest.param(written(KEY, sequencer=17), id="a sequencer that is a number"),  # type: ignore[arg-type]
        pytest.param(with_key(17), id="a key that is a number"),
        pytest.param(with_key("in/dt=2026-06-10/%ff.csv"), id="a key that is no UTF-8"),
        pytest.param(without(event_bridge(KEY, "e", "1"), "detail"), id="no detail"),
        pytest.param(without(event_bridge(KEY, "e", "1"), "detail", "object", "key"), id="no key in the detail"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_not_nothing(message: Any) -> None:
    with pytest.raises(Malformed):
        changes(message)


@pytest.mark.parametrize(
    "key", ["other/dt=2026-06-10/a.csv", "in", "inn/dt=2026-06-10/a.csv", PREFIX, "in/dt=2026-06-10/", "in/.keep"]
)
def test_keys_outside_the_landing_zone_and_markers_of_folders_are_ignored(key: str) -> None:
    assert day_of(key, PREFIX) is None


@pytest.mark.parametrize(
    "key",
    [
        "in/a.csv",
        "in/2026-06-10/a.csv",
        "in/dt=2026-06-31/a.csv",
        "in/dt=2026-6-10/a.csv",
        "in/dt=20260610/a.csv",
        "in/dt=/a.csv",
        "in/dt=2026-06-10",
        "in/dt=2026-06-10/part/a.csv",
        "in//a.csv",
    ],
)
def test_a_file_that_would_never_be_read_is_an_error_that_says_where_files_belong(key: str) -> None:
    with pytest.raises(Malformed, match=r"would never be read: landing files are in/dt=YYYY-MM-DD/name"):
        day_of(key, PREFIX)


@pytest.mark.parametrize("name", NAMES)
def test_the_function_and_the_landing_zone_agree_on_what_is_a_landing_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    (folder / name).touch()
    zone, day = LandingZone(tmp_path), date.fromisoformat(DAY)

    is_looked_at = bool(zone.files(day)) or name == DAY_IS_COMPLETE
    assert (day_of(key_of(DAY, name), PREFIX) == DAY) == is_looked_at


@given(st.text(alphabet="_.~-0aTtmpe", min_size=1, max_size=12))
def test_they_agree_on_names_that_nobody_thought_of(name: str) -> None:
    from pipeline_assets.store import landing

    hidden = landing._HIDDEN.fullmatch(name) is not None
    assert (day_of(key_of(DAY, name), PREFIX) is None) == hidden


@pytest.mark.parametrize(
    "folder", ["dt=2026-06-10", "dt=2026-06-31", "dt=2026-6-1", "2026-06-10", "_tmp", ".x", "dt=~"]
)
def test_they_agree_on_what_is_a_day(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "orders.csv").touch()

    def by_the_function() -> list[str]:
        day = day_of(f"{PREFIX}{folder}/orders.csv", PREFIX)
        return [day] if day else []

    try:
        expected = [day.isoformat() for day in LandingZone(tmp_path).days()]
    except LandingError:
        with pytest.raises(Malformed):
            by_the_function()
    else:
        assert by_the_function() == expected


def test_without_a_prefix_the_whole_bucket_is_the_landing_zone() -> None:
    assert day_of("dt=2026-06-10/a.csv", "") == DAY
