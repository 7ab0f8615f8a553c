"""The landing sensor over a real folder: what it reports, when, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from pipeline_assets.errors import StateUnreadable
from pipeline_assets.orchestration.changes.landing_sensor import landing_sensor, rescan_job
from pipeline_assets.store.landing import LandingZone
from pipeline_assets_tests.orchestration.lake import Lake
from pipeline_assets_tests.orchestration.sensors import STOPPED, Sensed

NOW = datetime.now(UTC)
ZONE = f"Etc/GMT{NOW.hour - 12:+d}"
"""Where it is noon: no day ends while these tests run."""
TODAY = NOW.astimezone(ZoneInfo(ZONE)).date()
HISTORY_DAYS, LOOK_BACK_DAYS = 40, 10
FIRST = TODAY - timedelta(days=HISTORY_DAYS)


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


class Zone:
    """A landing zone, the sensor that looks at it, and what it has reported."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.root = root
        days = dg.DailyPartitionsDefinition(FIRST.isoformat(), timezone=ZONE)
        landing = LandingZone(root)
        sensor = landing_sensor(
            landing, table="landing", days=days, look_back_days=LOOK_BACK_DAYS, default_status=STOPPED
        )
        self.sensed = Sensed(
            dg.Definitions(
                assets=[dg.AssetSpec("landing", partitions_def=days)],
                sensors=[sensor],
                jobs=[rescan_job(landing, table="landing", days=days)],
            ),
            instance,
        )

    def drop(self, day: date, text: str = "rows\n", name: str = "a.csv") -> Path:
        path = self.root / f"dt={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def tick(self) -> list[date]:
        """Days that one tick reports."""
        return [date.fromisoformat(each.partition) for each in self.tick_data().asset_events]

    def tick_data(self) -> Any:
        return self.sensed.tick("landing_sensor")

    def settle(self) -> list[date]:
        """Days that are reported until nothing changes any more: seen, then taken."""
        return self.tick() + self.tick() + self.tick()

    def rescan(self) -> dg.ExecuteInProcessResult:
        job = self.sensed.defs.resolve_job_def("landing_rescan")
        return job.execute_in_process(instance=self.sensed.instance, raise_on_error=False)

    def digests(self, day: date) -> list[str]:
        """Of all reports of a day that have one, the oldest first."""
        filtered = dg.AssetRecordsFilter(dg.AssetKey("landing"), asset_partitions=[day.isoformat()])
        records = self.sensed.instance.fetch_materializations(filtered, limit=100, ascending=True).records
        made = [each.asset_materialization for each in records]
        return [str(each.metadata["digest"].value) for each in made if each and "digest" in each.metadata]

    def hint(self, day: date) -> None:
        self.sensed.instance.report_runless_asset_event(dg.AssetMaterialization("landing", partition=str(day)))


@pytest.fixture
def zone(tmp_path: Path, lake: Lake) -> Zone:
    """Whatever the sensor looks at has landed and been reported, but for the last two days."""
    made = Zone(tmp_path / "landing", lake.instance)
    for back in range(3, LOOK_BACK_DAYS + 1):
        made.drop(ago(back))
    assert len(made.settle()) == LOOK_BACK_DAYS - 2
    return made


def test_a_new_file_is_reported_when_two_ticks_saw_it_alike(zone: Zone) -> None:
    assert zone.settle() == []
    zone.drop(ago(2))
    assert (zone.tick(), zone.tick(), zone.tick()) == ([], [ago(2)], [])


def test_a_file_that_is_delivered_again_as_it_was_is_no_change(zone: Zone) -> None:
    path = zone.drop(ago(2))
    zone.settle()
    again = path.with_name(".upload")
    again.write_text(path.read_text())
    again.replace(path)
    os.utime(path, (1, 1))
    assert zone.settle() == []


def test_a_changed_an_added_and_a_removed_file_are_one_report_each(zone: Zone) -> None:
    zone.drop(ago(2))
    second = zone.drop(ago(2), name="b.csv")
    zone.settle()
    zone.drop(ago(2), "other rows\n")
    assert zone.settle() == [ago(2)]
    zone.drop(ago(2), name="c.csv")
    assert zone.settle() == [ago(2)]
    second.unlink()
    assert zone.settle() == [ago(2)]
    assert len(set(zone.digests(ago(2)))) == 4


def test_a_file_that_is_open_for_writing_waits_until_it_is_closed(zone: Zone) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("who has a file open is known on Linux only")
    path = zone.drop(ago(2), "")
    with path.open("a") as writing:
        writing.write("half")
        writing.flush()
        assert zone.settle() == []
        writing.write(" and half\n")
    assert zone.settle() == [ago(2)]


def test_a_file_that_grows_between_ticks_waits_until_it_rests(zone: Zone) -> None:
    for part in ("a", "ab", "abc"):
        zone.drop(ago(2), part)
        assert zone.tick() == []
    assert zone.tick() == [ago(2)]


def test_an_unfinished_upload_is_not_seen_before_it_has_its_name(zone: Zone) -> None:
    upload = zone.drop(ago(2), name="a.csv.tmp")
    assert zone.settle() == []
    upload.rename(upload.with_name("a.csv"))
    assert zone.settle() == [ago(2)]


def test_a_day_without_files_counts_when_a_later_day_has_some(zone: Zone) -> None:
    (zone.root / f"dt={ago(2)}").mkdir()
    assert zone.settle() == []
    zone.drop(ago(1))
    assert zone.settle() == [ago(2), ago(1)]
    assert zone.digests(ago(2)) == [LandingZone(zone.root).fingerprint(ago(2), [])]


def test_the_newest_day_is_empty_when_its_marker_says_so(zone: Zone) -> None:
    zone.drop(ago(2))
    zone.settle()
    zone.drop(ago(1), "", name="_SUCCESS")
    assert zone.settle() == [ago(1)]
    assert zone.digests(ago(1)) == [LandingZone(zone.root).fingerprint(ago(1), [])]


def test_a_day_whose_folder_is_taken_away_is_reported_as_empty(zone: Zone) -> None:
    zone.drop(ago(2))
    zone.settle()
    shutil.rmtree(zone.root / f"dt={ago(2)}")
    zone.settle()
    assert zone.digests(ago(2))[-1] == LandingZone(zone.root).fingerprint(ago(2), [])


def test_a_day_whose_files_are_gone_for_a_moment_is_not_reported_as_empty(zone: Zone) -> None:
    path = zone.drop(ago(2))
    zone.settle()
    path.unlink()
    assert zone.tick() == []
    zone.drop(ago(2))
    assert zone.settle() == []


def test_a_day_that_is_not_over_and_one_before_the_history_are_left_alone(zone: Zone) -> None:
    zone.drop(TODAY)
    zone.drop(FIRST - timedelta(days=1))
    assert zone.settle() == []


def test_a_day_beyond_the_look_back_is_looked_at_when_somebody_reports_it(zone: Zone) -> None:
    old = ago(LOOK_BACK_DAYS + 5)
    zone.drop(old)
    assert zone.settle() == []
    zone.hint(old)
    assert zone.settle() == [old]
    zone.hint(old)
    zone.settle()
    assert len(set(zone.digests(old))) == 1


def test_a_report_of_a_day_in_which_nothing_changed_changes_no_digest(zone: Zone) -> None:
    zone.drop(ago(2))
    zone.settle()
    zone.hint(ago(2))
    zone.settle()
    assert len(set(zone.digests(ago(2)))) == 1


def test_the_days_of_a_long_silence_count_as_empty_once_it_ends(tmp_path: Path, lake: Lake) -> None:
    zone = Zone(tmp_path / "landing", lake.instance)
    old = ago(LOOK_BACK_DAYS + 5)
    zone.drop(old)
    zone.hint(old)
    zone.settle()
    zone.drop(ago(1))
    zone.settle()
    silent = [ago(back) for back in range(2, LOOK_BACK_DAYS + 5)]
    assert all(zone.digests(day) for day in silent)


def test_the_rescan_job_takes_every_day_of_the_zone_once(zone: Zone) -> None:
    days = [ago(30), ago(29), ago(27), ago(1)]
    for day in days:
        zone.drop(day, f"rows of {day}\n")
    assert zone.rescan().success
    assert all(len(zone.digests(day)) == 1 for day in [*days, ago(28), ago(12), ago(2)])
    assert zone.digests(ago(31)) == []
    zone.rescan()
    zone.settle()
    assert all(len(zone.digests(day)) == 1 for day in [*days, ago(28), ago(12), ago(2)])
    zone.drop(ago(29), "late rows\n")
    zone.rescan()
    assert [len(zone.digests(day)) for day in days] == [1, 2, 1, 1]


def test_a_day_that_cannot_be_read_does_not_stop_the_others(zone: Zone) -> None:
    (zone.root / f"dt={ago(2)}" / "a folder").mkdir(parents=True)
    zone.drop(ago(1))
    assert zone.settle() == [ago(1)]
    assert f"cannot be read, see the log: {ago(2)}" in str(zone.tick_data().skip_message)

    zone.drop(ago(1), "other rows\n")
    assert not zone.rescan().success
    assert (len(zone.digests(ago(1))), zone.digests(ago(2))) == (2, [])


def test_a_sensor_that_starts_anew_reports_nothing_that_was_reported(zone: Zone) -> None:
    for back in (3, 2, 1):
        zone.drop(ago(back))
    zone.settle()
    zone.sensed.cursors.clear()
    assert zone.settle() == []


@pytest.mark.parametrize("cursor", ["nonsense", "[]", '{"hints": 1}'], ids=["no JSON", "a list", "half of it"])
def test_a_cursor_that_is_not_ours_is_refused_with_what_to_do(zone: Zone, cursor: str) -> None:
    zone.sensed.cursors["landing_sensor"] = cursor
    with pytest.raises(StateUnreadable, match="Reset it in the UI"):
        zone.tick()


def test_a_tick_lists_no_more_folders_however_long_the_history_is(zone: Zone) -> None:
    zone.drop(ago(2))
    zone.settle()
    listed: list[str] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.listdir", "os.scandir") and str(arguments[0]).startswith(str(zone.root)):
            listed.append(str(arguments[0]))

    sys.addaudithook(note)
    zone.tick()
    few = len(listed)
    for back in range(LOOK_BACK_DAYS + 2, HISTORY_DAYS):
        zone.drop(ago(back))
    listed.clear()
    zone.tick()
    assert 0 < len(listed) <= few
