"""Templates of landing URLs: the URL of a day, what is refused, and what is shown to people."""

from __future__ import annotations

from datetime import date

import pytest

from pipeline_assets.errors import SettingsError
from pipeline_assets.store.http.day_url import DayUrl, without_secrets

DAY = date(2026, 6, 9)


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://host/path/{day}.jsonl.gz", "https://host/path/2026-06-09.jsonl.gz"),
        ("https://host/{day}/events-{day}.csv", "https://host/2026-06-09/events-2026-06-09.csv"),
        ("https://host/{day:%Y/%m/%d}.csv", "https://host/2026/06/09.csv"),
        ("https://host/{day:%Y}/{day:%j}.csv", "https://host/2026/160.csv"),
        ("http://[::1]:8080/events.csv?day={day:%d.%m.%Y}&k=1", "http://[::1]:8080/events.csv?day=09.06.2026&k=1"),
        ("HTTPS://host/{{x}}/{day}.csv", "HTTPS://host/{x}/2026-06-09.csv"),
    ],
    ids=["iso", "twice", "folders", "day-of-year", "query", "braces"],
)
def test_a_day_stands_in_its_url_as_the_template_says(template: str, url: str) -> None:
    assert DayUrl(template).of(DAY) == url


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("https://host/events.csv", "does not contain {day}"),
        ("https://host/{date}.csv", "only {day} and {day:%Y/%m/%d} are known"),
        ("https://host/{day.year}.csv", "only {day} and"),
        ("https://host/{day!r}.csv", "only {day} and"),
        ("https://host/{}.csv", "only {day} and"),
        ("https://host/{day:{day}}.csv", "only {day} and"),
        ("https://host/{day.csv", "braces that do not close"),
        ("https://host/{day}}.csv", "braces that do not close"),
        ("https://host/{day:%Y-%m}.csv", "same URL for different days"),
        ("https://host/{day:%m-%d}.csv", "same URL for different days"),
        ("https://host/{day:%d}.csv", "same URL for different days"),
        ("https:///{day}.csv", "names no host"),
        ("https://host:port/{day}.csv", "is no URL"),
        ("https://[::1/{day}.csv", "is no URL"),
        ("ftp://host/{day}.csv", "does not begin with http"),
        ("{day}.csv", "does not begin with http"),
        ("https://host/my files/{day}.csv", "a space or control character"),
        ("https://host/a.csv#{day}", "has a # in it"),
        ("https://host/{day}/", "does not end in a file name"),
        ("https://host/?day={day}", "does not end in a file name"),
        ("https://host?day={day}", "does not end in a file name"),
        ("https://host/.{day}", "does not end in a file name"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_reason(template: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        DayUrl(template)
    assert said in str(raised.value)
    assert str(raised.value).startswith("PIPELINE_LANDING=")


def test_a_file_is_named_by_the_last_part_of_its_path() -> None:
    assert DayUrl("https://host/a/{day}.jsonl.gz?x=/y").file_name(DAY) == "2026-06-09.jsonl.gz"
    assert DayUrl("https://host/{day:%Y/%m/%d}.csv").file_name(DAY) == "09.csv"


def test_user_password_and_query_are_never_shown() -> None:
    url = DayUrl("https://me:secret@host:1/a/{day}.csv?sig=secret")
    shown = f"{url!r} {url.shown(DAY)} {url.shown_template}"
    assert url.shown(DAY) == "https://host:1/a/2026-06-09.csv"
    assert "secret" not in shown
    assert "me" not in shown.replace("template", "")


def test_nor_are_they_in_what_is_said_of_a_wrong_template() -> None:
    with pytest.raises(SettingsError) as raised:
        DayUrl("https://me:secret@host/{date}.csv?sig=secret#secret")
    assert "secret" not in str(raised.value)


def test_what_is_no_url_is_shown_as_it_is() -> None:
    assert without_secrets("what? a@b#c") == "what? a@b#c"


@pytest.mark.parametrize(
    ("template", "private"),
    [
        ("https://example.org/{day}.csv", True),
        ("http://localhost:80/{day}.csv", True),
        ("http://127.9.8.7/{day}.csv", True),
        ("http://[::1]/{day}.csv", True),
        ("http://store.localhost/{day}.csv", True),
        ("http://example.org/{day}.csv", False),
        ("http://10.0.0.1/{day}.csv", False),
        ("http://localhost.example.org/{day}.csv", False),
        ("http://127.0.0.1.example.org/{day}.csv", False),
    ],
)
def test_what_is_sent_is_private_under_tls_or_on_this_machine(template: str, private: bool) -> None:  # noqa: FBT001
    assert DayUrl(template).is_private is private


def test_two_users_of_one_url_share_its_copies_and_two_urls_do_not() -> None:
    one, other = DayUrl("https://a:b@host/{day}.csv?x=1"), DayUrl("https://c:d@host/{day}.csv?x=1")
    assert one.identity == other.identity
    assert one.identity != DayUrl("https://host/{day}.csv?x=2").identity
