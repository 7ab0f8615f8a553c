"""HTTP landing zones at a server that misbehaves, for the tests of this folder: what it serves, what it was asked."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pipeline_assets.errors import PipelineError
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.store.http.client import HttpClient
from pipeline_assets.store.http.day_url import DayUrl
from pipeline_assets.store.http.landing import HttpLanding
from pipeline_assets.store.landing import LandingFile
from pipeline_assets_tests.support.misbehaving_server import Answer, MisbehavingServer

DAY = date(2026, 6, 10)
PATH = f"/shop/{DAY}.csv"
NAME = f"dt={DAY}/{DAY}.csv"
BODY = bytes(range(256)) * 2000
OTHER = bytes(reversed(BODY))
SHORTER = BODY[:-7]
CUT = 300_000
OLD = "Wed, 10 Jun 2026 01:00:00 GMT"
OLDER = "Tue, 09 Jun 2026 01:00:00 GMT"
SILENCE_SECONDS = 2.0
"""After which the client gives up on a server that hangs. A machine that is busy may be silent for a while, too."""

Zone = Callable[..., HttpLanding]


def landing_zone(url: str, cache: Path, *, query: str = "", **options: Any) -> HttpLanding:
    of_client: dict[str, Any] = {"read_seconds": SILENCE_SECONDS, "connect_seconds": 2.0}
    of_client |= {name: options.pop(name) for name in ("token", "read_seconds", "now") if name in options}
    client = HttpClient(DayUrl(f"{url}/shop/{{day}}.csv{query}"), retry_after_seconds, **of_client)
    return HttpLanding(client, cache=cache, **options)


def plain(body: bytes = BODY, etag: str | None = '"one"', **more: Any) -> Answer:
    return Answer(body=body, etag=etag, **more)


def cut(ending: Literal["close", "reset", "hang"] = "close", after: int = CUT, **more: Any) -> Answer:
    return plain(ends_after=after, ending=ending, **more)


def content(files: list[LandingFile]) -> bytes:
    (file,) = files
    with file.open() as opened:
        read = opened.read()
    assert file.size_bytes == len(read)
    return read


def copy_below(folder: Path) -> Path:
    """The one local copy of the day's file."""
    (path,) = folder.rglob(f"{DAY}.csv")
    return path


def asked(server: MisbehavingServer, name: str, method: str = "GET") -> list[str | None]:
    """A header of every request, None where there was none."""
    return [seen.headers.get(name) for seen in server.seen(PATH, method)]


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if "partial" in path.name or path.suffix == ".tmp")


def download(connection: Connection, url: str, cache: Path, options: dict[str, Any]) -> None:
    connection.send("begins")
    try:
        connection.send(hashlib.sha256(content(landing_zone(url, cache, **options).files(DAY))).hexdigest())
    except PipelineError as error:
        connection.send(f"{type(error).__name__}: {error}")


def wait_for_size(cache: Path, size_bytes: int) -> None:
    deadline = time.monotonic() + 30
    while [path.stat().st_size for path in cache.rglob(".partial")] != [size_bytes]:
        assert time.monotonic() < deadline, f"no {size_bytes} bytes arrived"
        time.sleep(0.005)


SHA256 = hashlib.sha256(BODY).hexdigest()
