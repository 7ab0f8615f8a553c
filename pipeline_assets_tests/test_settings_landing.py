"""The landing zone as a setting: a folder, or a URL with a day in it."""

from __future__ import annotations

import traceback
from datetime import date
from pathlib import Path

import pytest

from pipeline_assets.errors import SettingsError
from pipeline_assets.settings import Settings, load_settings, project_root

URL = "https://data.example.org/shop/{day}.jsonl.gz"


def test_a_url_with_a_day_in_it_is_taken_as_it_is() -> None:
    assert load_settings({"PIPELINE_LANDING": URL}).landing == URL
    assert load_settings({"PIPELINE_LANDING": "HTTP://localhost/{day:%Y%m%d}.csv"}).landing != Path()


def test_everything_else_is_a_folder() -> None:
    assert load_settings({"PIPELINE_LANDING": "http/{day}"}).landing == project_root() / "http/{day}"
    assert Settings(landing="/landing").landing == Path("/landing")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("https://data.example.org/shop.csv", "does not contain {day}"),
        ("https://data.example.org/{date}.csv", "has {date...}; only {day}"),
        ("https:///{day}.csv", "names no host"),
        ("ftp://data.example.org/{day}.csv", "neither a folder nor an http or https URL"),
        ("s3://bucket/{day}.csv", "s3:// is not supported yet"),
    ],
)
def test_a_url_that_cannot_be_used_is_named_with_its_variable_and_the_reason(value: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"PIPELINE_LANDING": value})
    assert str(raised.value).startswith(f"PIPELINE_LANDING={value}: ")
    assert str(raised.value).count("PIPELINE_LANDING") == 1
    assert said in str(raised.value)


def test_secrets_of_a_url_are_not_shown() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"PIPELINE_LANDING": "https://us3r:s3cret@data.example.org/{date}.csv?sig=s3cret"})
    shown = "".join(traceback.TracebackException.from_exception(raised.value).format(chain=True))
    assert "PIPELINE_LANDING=https://data.example.org/{date}.csv: " in shown
    assert "us3r" not in shown.replace("us3r:s3cret@data.example.org/{date}.csv?sig=s3cret", "")
    assert "s3cret" not in repr(load_settings({"PIPELINE_LANDING": "https://us3r:s3cret@data.example.org/{day}.csv"}))


def test_a_url_cannot_be_listed_so_the_first_day_must_be_said() -> None:
    with pytest.raises(SettingsError, match="PIPELINE_START is not set, and PIPELINE_LANDING is a URL"):
        Settings(landing=URL).first_day(today=date(2026, 4, 1))
    assert Settings(landing=URL, start=date(2026, 3, 1)).first_day(today=date(2026, 4, 1)) == date(2026, 3, 1)
