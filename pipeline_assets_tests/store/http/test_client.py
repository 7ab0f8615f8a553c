"""What answers, and their absence, mean; and that no secret goes where it does not belong."""

from __future__ import annotations

import socket
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import pytest

from pipeline_assets.errors import (
    AccessDenied,
    LandingError,
    LandingMissing,
    LandingUnavailable,
    PipelineError,
    SettingsError,
)
from pipeline_assets.store.landing import Look
from pipeline_assets_tests.store.http_zone import (
    BODY,
    CUT,
    DAY,
    PATH,
    Zone,
    asked,
    content,
    cut,
    download,
    landing_zone,
    plain,
    wait_for_size,
)
from pipeline_assets_tests.support.misbehaving_server import Answer, MisbehavingServer, busy, misbehaving_server
from pipeline_assets_tests.support.processes import running

TRANSIENT = [408, 425, 429, 500, 502, 503, 504]
STATUSES = {
    **dict.fromkeys(TRANSIENT, LandingUnavailable),
    **dict.fromkeys([401, 403, 407], AccessDenied),
    **dict.fromkeys([404, 410], LandingMissing),
    **dict.fromkeys([204, 206, 304, 400, 416, 418, 451], LandingError),
}


@pytest.mark.parametrize("how", ["files", "look"])
@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_a_status_is_an_error_that_says_what_to_do(
    status: int, kind: type[PipelineError], how: str, server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, Answer(status=status))
    if how == "look" and kind is LandingMissing:
        assert zone().look(DAY) == Look("", None, settled=True)
        return
    with pytest.raises(PipelineError) as raised:
        getattr(zone(), how)(DAY)
    assert type(raised.value) is kind
    assert str(raised.value).startswith(f"{DAY}: {server.url}{PATH} answered {status}")
    assert len(server.seen(PATH)) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_the_wait_that_a_server_asks_for_is_handed_on(
    status: int,
    as_date: bool,  # noqa: FBT001
    server: MisbehavingServer,
    zone: Zone,
) -> None:
    server.script(PATH, busy(status, 90, as_date=as_date))
    with pytest.raises(LandingUnavailable) as raised:
        zone().files(DAY)
    assert raised.value.retry_after_seconds == pytest.approx(90, abs=2)


def test_a_date_to_wait_for_is_read_by_the_servers_own_clock(server: MisbehavingServer, zone: Zone) -> None:
    moment = datetime(2001, 2, 3, tzinfo=UTC)
    until = moment + timedelta(minutes=2)
    told = {"Date": format_datetime(moment, usegmt=True), "Retry-After": format_datetime(until, usegmt=True)}
    server.script(PATH, Answer(status=503, headers=told), Answer(status=503, headers=told | {"Date": "?"}))
    landing = zone(now=lambda: moment + timedelta(minutes=1))
    waits = []
    for _ in range(2):
        with pytest.raises(LandingUnavailable) as raised:
            landing.files(DAY)
        waits.append(raised.value.retry_after_seconds)
    assert waits == [120, 60]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(hangs=True), "gave no answer: silent for 2 s"),
        (Answer(drops=True), "gave no answer: Connection reset by peer"),
    ],
    ids=["hangs", "reset"],
)
def test_no_answer_may_be_one_next_time(answer: Answer, said: str, server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, answer)
    for how in (zone().files, zone().look):
        with pytest.raises(LandingUnavailable, match=said):
            how(DAY)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("hang", "silent for 2 s"),
        ("reset", "Connection reset by peer"),
        ("close", "the connection was closed before the end"),
    ],
)
def test_a_body_that_was_cut_off_says_how(
    ending: Literal["hang", "reset", "close"], said: str, server: MisbehavingServer, zone: Zone
) -> None:
    server.script(PATH, cut(ending))
    with pytest.raises(LandingUnavailable, match=f"was cut off after 300,000 of 512,000 bytes: {said}. "):
        zone(resumes=0).files(DAY)


def test_a_server_that_is_down_may_be_up_next_time(server: MisbehavingServer, zone: Zone) -> None:
    server.stop()
    with pytest.raises(LandingUnavailable, match="gave no answer: Connection refused"):
        zone().files(DAY)


def test_a_server_that_dies_in_the_middle_leaves_what_came(server: MisbehavingServer, tmp_path: Path) -> None:
    server.script(PATH, cut("hang"))
    with running(download, server.url, tmp_path, {"read_seconds": 30.0}) as child:
        wait_for_size(tmp_path, CUT)
        server.stop()
        assert child.receive() == "begins"
        assert child.receive().startswith("LandingUnavailable")
    assert [path.stat().st_size for path in tmp_path.rglob(".partial")] == [CUT]


def test_a_name_that_does_not_resolve_may_resolve_next_time(
    zone: Zone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unresolved(*_: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(LandingUnavailable, match="gave no answer: Temporary failure in name resolution"):
        landing_zone("https://data.example.org", tmp_path).files(DAY)


def test_a_server_without_tls_is_not_talked_to_in_plain(server: MisbehavingServer, zone: Zone, tmp_path: Path) -> None:
    landing = landing_zone(server.url.replace("http:", "https:"), tmp_path, token="t0ken")
    with pytest.raises(LandingUnavailable, match="gave no answer"):
        landing.files(DAY)
    assert server.seen() == []


def test_redirects_without_end_are_an_error(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, Answer(status=302, headers={"Location": PATH}))
    with pytest.raises(LandingError, match="too many redirects"):
        zone().files(DAY)


def test_the_token_goes_to_the_server_and_follows_no_redirect_to_another(server: MisbehavingServer, zone: Zone) -> None:
    with misbehaving_server() as elsewhere:
        elsewhere.script("/stored", plain())
        server.script(PATH, Answer(status=302, headers={"Location": f"{elsewhere.url}/stored"}))
        assert content(zone(token="t0ken").files(DAY)) == BODY
        assert asked(server, "Authorization") == ["Bearer t0ken"]
        assert [seen.headers["Authorization"] for seen in elsewhere.seen()] == [None]


def test_the_token_follows_a_redirect_on_its_own_server(server: MisbehavingServer, zone: Zone) -> None:
    server.script(PATH, Answer(status=307, headers={"Location": "/stored"}))
    server.script("/stored", plain())
    assert content(zone(token="t0ken").files(DAY)) == BODY
    assert [seen.headers["Authorization"] for seen in server.seen("/stored")] == ["Bearer t0ken"]


def test_a_netrc_file_does_not_replace_the_token(
    server: MisbehavingServer, zone: Zone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.script(PATH, plain())
    zone(token="t0ken").files(DAY)
    zone().look(DAY)
    assert asked(server, "Authorization") == ["Bearer t0ken"]
    assert str(asked(server, "Authorization", "HEAD")[0]).startswith("Basic ")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=401),
        Answer(status=404),
        Answer(status=400),
        busy(429, 3),
        Answer(hangs=True),
        Answer(drops=True),
        cut("reset", after=10, ranges=False),
        cut("hang", after=10, ranges=False),
        plain(framing="close"),
        plain(headers={"Digest": "md5=AAAA"}),
        Answer(status=302, headers={"Location": PATH + "?sig=s3cret"}),
        Answer(status=302, headers={"Location": "gopher://s3cret"}),
        Answer(status=302, headers={"Location": "http://127.0.0.1:1/s3cret?s3cret"}),
    ],
    ids=[
        "401",
        "404",
        "400",
        "429",
        "hangs",
        "drops",
        "reset",
        "silent",
        "endless",
        "md5",
        "loop",
        "gopher",
        "refused",
    ],
)
def test_no_secret_is_in_an_error_or_what_led_to_it(
    answer: Answer, server: MisbehavingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(PATH, answer)
    url = server.url.replace("http://", "http://us3r:s3cret@")
    landing = landing_zone(url, tmp_path, query="?sig=s3cret", token="t0ken")
    with caplog.at_level("INFO"), pytest.raises(PipelineError) as raised:
        landing.files(DAY)
    causes = "".join(traceback.TracebackException.from_exception(raised.value).format(chain=True))
    own_line = 'landing_zone(url, tmp_path, query="?sig=s3cret", token="t0ken")'
    shown = causes.replace(own_line, "") + repr(landing) + repr(raised.value) + caplog.text
    assert [word for word in ("t0ken", "s3cret", "us3r") if word in shown] == []


@pytest.mark.parametrize("host", ["data.example.org", "10.0.0.1", "localhost.example.org"])
def test_a_token_or_password_over_plain_http_is_refused_before_anything_is_sent(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="over plain http") as raised:
        landing_zone(f"http://{host}", tmp_path, token="t0ken")
    assert "t0ken" not in str(raised.value)
    with pytest.raises(SettingsError, match="over plain http"):
        landing_zone(f"http://me:s3cret@{host}", tmp_path)
    landing_zone(f"http://{host}", tmp_path)
    landing_zone(f"https://{host}", tmp_path, token="t0ken")


@pytest.mark.parametrize(
    "token", ["t0ken\n", "t0 ken", "t0ken\x00", "tökén"], ids=["line-end", "space", "nul", "accent"]
)
def test_a_token_that_is_none_is_refused_without_being_shown(token: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PIPELINE_LANDING_TOKEN holds") as raised:
        landing_zone("https://data.example.org", tmp_path, token=token)
    assert token not in str(raised.value)
