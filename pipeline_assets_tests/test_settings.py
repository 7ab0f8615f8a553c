"""Settings: defaults that work, and one readable message for everything that does not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline_assets.errors import LandingError, SettingsError
from pipeline_assets.settings import Settings, load_settings, project_root


def test_the_defaults_need_no_environment_and_lie_in_the_checkout() -> None:
    settings = load_settings({})
    assert settings.landing == project_root() / ".data/landing"
    assert settings.store == project_root() / ".data/lake"
    assert settings.source.read_text().count("SELECT") == 1
    assert (settings.timezone, settings.lateness_days, settings.start) == ("UTC", 3, None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("START", "2026-02-30", "not a date YYYY-MM-DD"),
        ("START", "yesterday", "not a date YYYY-MM-DD"),
        ("TIMEZONE", "Mars/Olympus", "does not exist"),
        ("TIMEZONE", "../etc/passwd", "does not exist"),
        ("LATENESS_DAYS", "-1", "greater than or equal to 0"),
        ("LATENESS_DAYS", "three", "valid integer"),
        ("HISTORY", "many", "valid integer"),
        ("DAYS_PER_RUN", "0", "greater than or equal to 1"),
        ("STORE", "s3://bucket/lake", "s3:// is not supported yet"),
        ("LANDING", "s3://bucket/landing", "s3:// is not supported yet"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_it_holds(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({f"PIPELINE_{name}": value})
    assert f"PIPELINE_{name}={value}" in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_all_wrong_values_are_said_at_once() -> None:
    with pytest.raises(
        SettingsError, match=r"PIPELINE_HISTORY=x.*PIPELINE_TIMEZONE=y|PIPELINE_TIMEZONE=y.*PIPELINE_HIS"
    ):
        load_settings({"PIPELINE_HISTORY": "x", "PIPELINE_TIMEZONE": "y"})


def test_a_misspelt_name_is_refused_and_the_right_one_suggested() -> None:
    with pytest.raises(SettingsError, match="PIPELINE_TIMEZONE is meant"):
        load_settings({"PIPELINE_TIMEZON": "UTC"})


def test_names_that_are_reserved_or_of_others_are_let_be() -> None:
    assert load_settings({"PIPELINE_SLOT": "blue", "PIPELINE_RUN_NUMBER": "7", "CI": "true"}) == load_settings({})


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({"PIPELINE_TIMEZONE": "", "PIPELINE_START": ""}) == load_settings({})


def test_a_relative_path_starts_at_the_project_and_an_absolute_one_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = load_settings({"PIPELINE_STORE": "elsewhere", "PIPELINE_LANDING": str(tmp_path)})
    assert settings.store == project_root() / "elsewhere"
    assert settings.landing == tmp_path


def test_without_a_start_the_history_begins_with_the_first_landing_day(tmp_path: Path) -> None:
    for day in ("2026-03-02", "2026-03-01", "2026-03-09"):
        (tmp_path / f"dt={day}").mkdir()
    settings = Settings(landing=tmp_path)
    assert settings.first_day(today=date(2026, 4, 1)) == date(2026, 3, 1)


def test_without_a_start_and_a_landing_zone_it_begins_yesterday(tmp_path: Path) -> None:
    assert Settings(landing=tmp_path / "none").first_day(today=date(2026, 4, 1)) == date(2026, 3, 31)


def test_a_landing_folder_that_is_no_day_is_named_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "dt=2026-13-45").mkdir()
    with pytest.raises(LandingError, match="dt=2026-13-45"):
        Settings(landing=tmp_path).first_day(today=date(2026, 4, 1))


@pytest.mark.parametrize("start", [date(2026, 4, 1), date(2030, 1, 1)])
def test_a_start_that_is_not_over_yet_is_refused(start: date, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the last one in UTC is 2026-03-31"):
        Settings(landing=tmp_path, start=start).first_day(today=date(2026, 4, 1))


def test_today_is_a_day_of_the_pipelines_own_zone() -> None:
    late_evening = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    assert Settings(timezone="UTC").today(lambda: late_evening) == date(2026, 3, 31)
    assert Settings(timezone="Asia/Tokyo").today(lambda: late_evening) == date(2026, 4, 1)
