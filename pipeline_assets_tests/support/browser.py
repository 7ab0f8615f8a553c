"""Pages in a real browser: what it shows, what it says, what it asks the network for."""

from __future__ import annotations

import functools
import http.server
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec

import pytest
from playwright.sync_api import Error, Page, expect, sync_playwright

P = ParamSpec("P")
PATIENCE_SECONDS = 90
"""A browser starts in one second; on a busy machine in many."""
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
"""Flags with which a browser minds its page only; it opens nothing but our own."""


def needs_browser(test: Callable[P, None]) -> Callable[P, None]:
    """Mark a test, and skip it where there is no browser."""
    skip = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is missing: apt-get install chromium")
    marked: Callable[P, None] = pytest.mark.needs_browser(skip(test))
    return marked


@dataclass(frozen=True, slots=True)
class Shown:
    """One page after it was loaded."""

    dom: str
    console: list[str]
    """What the page made the browser say: errors, warnings, refused requests."""


def dom_of(url: str, profile: Path, *, width: int = 1200, height: int = 1600) -> Shown:
    """Open a page and let its scripts run."""
    done = _chromium("--dump-dom", url, profile, width, height)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Shown(done.stdout, console)


def screenshot(url: str, profile: Path, picture: Path, *, width: int, height: int) -> None:
    """Leave a picture of a page as PNG."""
    _chromium(f"--screenshot={picture}", url, profile, width, height)


@contextmanager
def clicked_through(folder: Path, *, width: int, height: int) -> Iterator[Page]:
    """A page to click through, which reaches this machine only.

    Args:
        folder: where a picture of it and its text are left when the test fails; the text is printed as well.
    """
    expect.set_options(timeout=1000 * PATIENCE_SECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*QUIET, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        page = browser.new_page(viewport={"width": width, "height": height}, locale="en-US", timezone_id="UTC")
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        try:
            yield page
        except BaseException:
            with suppress(Error):  # a page that died shows nothing; what killed it is raised
                page.screenshot(path=folder / "failed.png")
                text = page.locator("body").inner_text(timeout=1000)
                (folder / "failed.txt").write_text(text)
                print(f"{page.url}, see {folder / 'failed.png'}:\n{text}")  # noqa: T201 - pytest shows it
            raise
        finally:
            browser.close()


def colours_of(picture: Path) -> dict[bytes, int]:
    """How many pixels of each colour a PNG of eight bits a channel has, by its bytes."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    packed, at = b"", 8
    width = height = channels = 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    counted: dict[bytes, int] = {}
    for row in _rows(zlib.decompress(packed), width * channels, height, channels):
        for start in range(0, len(row), channels):
            pixel = bytes(row[start : start + 3])
            counted[pixel] = counted.get(pixel, 0) + 1
    return counted


@dataclass
class Site:
    """Pages on this machine, and every request that came for anything."""

    url: str
    requested: list[str] = field(default_factory=list)


@contextmanager
def served(pages: Mapping[str, str]) -> Iterator[Site]:
    """Serve pages by path for as long as a test."""
    site = Site("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requested.append(self.path)
            page = pages.get(self.path)
            body = (page or "").encode()
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.05))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def _chromium(action: str, url: str, profile: Path, width: int, height: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "chromium",
            "--headless",
            *QUIET,
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=5000",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            action,
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )


def _rows(raw: bytes, length: int, height: int, channels: int) -> Iterator[bytearray]:
    """Rows of pixels with the filters of PNG undone."""
    above = bytearray(length)
    for number in range(height):
        start = number * (length + 1)
        kind, row = raw[start], bytearray(raw[start + 1 : start + 1 + length])
        for place in range(length):
            left = row[place - channels] if place >= channels else 0
            corner = above[place - channels] if place >= channels else 0
            row[place] = (row[place] + _predicted(kind, left, above[place], corner)) & 0xFF
        yield row
        above = row


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        guess = left + up - corner
        return min((left, up, corner), key=lambda value: abs(guess - value))
    return (0, left, up, (left + up) // 2)[kind]
