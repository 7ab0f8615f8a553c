"""Which changes are news, given what was reported."""

from __future__ import annotations

from typing import Any

import pytest
from landing_trigger.events import Change, change_in
from landing_trigger.known import why_known

from pipeline_assets_tests.deploy.aws.s3_messages import PREFIX, event_bridge, key_of, removed, written

KEY = key_of("2026-06-10")


def change(event: Any) -> Change:
    found = change_in(event, PREFIX)
    assert found is not None
    return found


def is_news(event: Any, *reported: Any) -> bool:
    """Whether an event must be reported after those that were, oldest first."""
    return why_known(change(event), [change(each).metadata() for each in reversed(reported)]) is None


def test_the_first_event_of_an_object_is_news() -> None:
    assert is_news(written(KEY))
    assert is_news(written(KEY), written(key_of("2026-06-10", "other.csv")))


def test_the_same_key_of_another_bucket_is_another_object() -> None:
    other = written(KEY)
    other["s3"]["bucket"]["name"] = "elsewhere"

    assert is_news(written(KEY), other)


def test_a_repeated_event_is_not_news() -> None:
    assert not is_news(written(KEY, "e1", "A1"), written(KEY, "e1", "A1"))
    assert not is_news(removed(KEY, "A1"), removed(KEY, "A1"))


def test_an_event_that_was_overtaken_is_not_news() -> None:
    assert not is_news(written(KEY, "e1", "A1"), written(KEY, "e2", "A2"))
    assert not is_news(written(KEY, "e1", "A1"), removed(KEY, "A2"))
    assert not is_news(written(KEY, "e1", "A1"), written(KEY, "e3", "A3"), written(KEY, "e2", "A2"))


def test_the_newest_report_is_told_by_its_sequencer_and_not_by_its_place_in_the_log() -> None:
    """Two invocations that reported at the same instant may have done so in either order."""
    raced = (written(KEY, "e2", "A2"), written(KEY, "e1", "A1"))

    assert not is_news(written(KEY, "e2", "A2"), *raced)
    assert not is_news(written(KEY, "e2", "A3"), *raced)
    assert is_news(written(KEY, "e1", "A3"), *raced)


def test_an_identical_file_that_was_delivered_again_is_not_news() -> None:
    assert not is_news(written(KEY, "e1", "A2"), written(KEY, "e1", "A1"))


def test_an_object_that_is_written_back_as_it_was_is_news() -> None:
    assert is_news(written(KEY, "e1", "A3"), written(KEY, "e1", "A1"), written(KEY, "e2", "A2"))
    assert is_news(written(KEY, "e1", "A3"), written(KEY, "e1", "A1"), removed(KEY, "A2"))


def test_a_removal_is_news_once() -> None:
    assert is_news(removed(KEY, "A2"), written(KEY, "e1", "A1"))
    assert not is_news(removed(KEY, "A3"), written(KEY, "e1", "A1"), removed(KEY, "A2"))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("9", "10"), ("0AF", "B0"), ("00617F08299329D189", "617f08299329d18A"), ("0", "1"), ("FF", "0100")],
)
def test_sequencers_of_different_lengths_are_compared_as_numbers(earlier: str, later: str) -> None:
    assert is_news(written(KEY, "e2", later), written(KEY, "e1", earlier))
    assert not is_news(written(KEY, "e1", earlier), written(KEY, "e2", later))


def test_the_same_event_by_two_services_is_one() -> None:
    assert not is_news(event_bridge(KEY, "e1", "617f08299329d189"), written(KEY, "e2", "00617F08299329D189"))


def test_without_sequencers_the_etag_of_the_last_report_decides() -> None:
    assert not is_news(written(KEY, "e1", None), written(KEY, "e1", None))
    assert is_news(written(KEY, "e1", None), written(KEY, "e1", None), written(KEY, "e2", None))
    assert not is_news(removed(KEY, None), written(KEY, "e1", None), removed(KEY, None))


def test_without_etags_the_sequencer_decides() -> None:
    assert not is_news(written(KEY, None, "A1"), written(KEY, None, "A1"))
    assert is_news(written(KEY, None, "A2"), written(KEY, None, "A1"))
    assert is_news(written(KEY, None, "A2"), removed(KEY, "A1"))


def test_reports_of_the_landing_sensor_and_of_other_callers_are_passed_over() -> None:
    others: list[dict[str, Any]] = [{"digest": "d1"}, {}, {"s3_key": KEY}]

    assert why_known(change(written(KEY)), others) is None
