"""What stands between a Lambda function and a webserver on a bad day: answers late, wrong, or not at all."""

from __future__ import annotations

import http.client
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

FAULTS = ("503", "503 after", "429", "drop", "drop after", "half")
"""Faults that pass. "after" means that Dagster was told, and only its answer got lost."""

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
ANSWERS = {
    "503": (503, "upstream is gone", TEXT),
    "429": (429, "slow down", TEXT),
    "redirect": (302, "{}", JSON),
    "login": (200, "<html>who are you?</html>", HTML),
    "locked": (200, '{"data": null, "errors": [{"message": "database is locked"}]}', JSON),
}
"""What some faults answer; a status by itself answers with that status."""


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to a webserver. `plan` holds what happens to the next requests; when it is empty, nothing does.

    `paths` and `headers` are of the requests that came.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.webserver_port = port
        self.plan: deque[str] = deque()
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.closing = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers.items()))
        fault = self.server.plan.popleft() if self.server.plan else ""
        answer = self._forwarded(body) if fault in ("", "half", "503 after", "drop after") else None
        if fault == "hang":
            self.server.closing.wait(30)
        elif answer and fault in ("", "half"):
            self._say(*answer, missing_bytes=1 if fault else 0)
        elif not fault.startswith("drop"):
            self._say(*ANSWERS.get(fault.removesuffix(" after")) or (int(fault), '{"error": "no"}', JSON))
        self.close_connection = True

    def _forwarded(self, body: bytes) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.webserver_port, timeout=30)
        try:
            connection.request("POST", self.path, body, {"Content-Type": self.headers["Content-Type"]})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers["Content-Type"]
        finally:
            connection.close()

    def _say(self, status: int, text: str, kind: str, missing_bytes: int = 0) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.FOUND:
            self.send_header("Location", "/elsewhere")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body[: len(body) - missing_bytes])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing: the tests look at what was answered."""


@contextmanager
def faulty_proxy(port: int) -> Iterator[FaultyProxy]:
    """A proxy before the webserver on that port, for as long as a test."""
    proxy = FaultyProxy(port)
    serving = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.shutdown()
        proxy.server_close()
        serving.join()
