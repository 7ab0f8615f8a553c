"""Files that are not where they were: the landing zone, old days of it, a partition."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipeline_assets.errors import LandingUnavailable, PipelineError
from pipeline_assets_tests.assets.landed import arrive
from pipeline_assets_tests.mishaps.world import LANDED_DAYS, Shop, needed
from pipeline_assets_tests.support.webhook_server import webhook

pytestmark = pytest.mark.slow(5)


@pytest.fixture(params=[False, True], ids=["the folder is gone", "an empty mount point is left"])
def unmounted(shop: Shop, request: pytest.FixtureRequest) -> Shop:
    """A shop whose landing zone is not there any more."""
    shop.unmount(leaves_mount_point=request.param)
    return shop


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_while_the_landing_zone_is_not_there_no_day_is_reported_and_no_run_is_requested(unmounted: Shop) -> None:
    turns = [unmounted.tick("landing_sensor") for _ in range(3)]
    requested = unmounted.request().requested

    assert ([day for turn in turns for day in turn.reported], requested) == ([], ())


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_a_landing_zone_that_is_away_for_some_time_changes_no_row(unmounted: Shop) -> None:
    before = unmounted.counts()

    for _ in range(3):
        unmounted.turn()

    assert unmounted.counts() == before
    unmounted.mount()
    assert unmounted.settle() == []
    assert unmounted.counts() == before


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_a_landing_zone_that_is_not_there_is_no_day_without_files(tmp_path: Path) -> None:
    error: PipelineError | None = None
    try:
        arrive(tmp_path / "nowhere")
    except PipelineError as raised:
        error = raised

    assert isinstance(error, LandingUnavailable)
    assert str(tmp_path / "nowhere") in str(error)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_somebody_is_alerted_when_the_landing_zone_is_not_there(shop: Shop) -> None:
    with webhook() as hook:
        shop.set(PIPELINE_ALERT_WEBHOOK_URL=hook.url, PIPELINE_ALERT_FORMAT="json")
        shop.tick("alerts")
        needed(not shop.failures, shop.failures)
        shop.unmount(leaves_mount_point=False)

        for _ in range(3):
            shop.tick("landing_sensor")
            shop.request("upstream_sensor")
            shop.tick("alerts")

        assert any(str(shop.folder / "landing") in str(alert) for alert in hook.received), shop.failures


@pytest.fixture
def archived(shop: Shop) -> Shop:
    """A shop that keeps the landing files of few days; its sensor looks no further back than those."""
    shop.set(PIPELINE_LOOK_BACK_DAYS="1")
    shop.archive(0, 1, 2)
    needed(shop.settle() == [], "the sensor looked at archived days")
    return shop


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_an_incremental_plan_leaves_days_alone_whose_landing_files_are_archived(archived: Shop) -> None:
    assert archived.planned("--mode", "incremental") == {}


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_the_safety_net_leaves_days_alone_whose_landing_files_are_archived(archived: Shop) -> None:
    assert archived.started_by_safety_net() == 0


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_a_window_reaches_as_far_back_as_before_when_landing_files_are_archived_and_start_is_not_set(
    shop: Shop,
) -> None:
    last = LANDED_DAYS - 1
    before = shop.rows("user_features", last)
    shop.archive(0, 1, 2)
    shop.set(PIPELINE_START=None)

    outcome = shop.pipeline("run", "--select", "user_features", "--from", shop.key(last), "--to", shop.key(last))

    needed(0 in shop.lake.days("events"), "the lake lost its events")
    assert shop.rows("user_features", last) == before
    assert outcome.status == 0


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
@pytest.mark.parametrize("start", ["2024-02-29", None], ids=["PIPELINE_START is set", "PIPELINE_START is not set"])
def test_a_history_that_begins_later_is_computed_and_what_lies_before_it_stays(shop: Shop, start: str | None) -> None:
    before = shop.counts()
    shop.set(PIPELINE_START=start)
    if start is None:
        shop.archive(0, 1)

    outcome = shop.pipeline("run", "--select", "raw_events,rejected_events,events")

    assert outcome.status == 0, outcome.err
    assert shop.counts() == before


@pytest.mark.slow
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_one_folder_of_the_year_1970_does_not_make_a_history_that_is_backfilled(shop: Shop) -> None:
    shop.set(PIPELINE_START=None)
    epoch = shop.number(date(1970, 1, 1))
    shop.sells(epoch, "undated.csv", "undated", at="02:00:00Z")

    started, refusal = 0, ""
    try:
        shop.reload()
        started = shop.started_by_safety_net()
    except (PipelineError, RuntimeError) as error:  # the definitions refuse it, or the job does
        refusal = str(error)

    assert started < 1000
    assert not refusal or shop.arrivals(epoch).name in refusal


def test_why_does_not_call_a_partition_current_whose_folder_is_deleted(shop: Shop) -> None:
    needed("is current" in shop.output("why", "events", shop.key(2)))
    shop.delete("events", 2)
    needed("MISSING" in shop.output("plan"))

    assert "is current" not in shop.output("why", "events", shop.key(2))
