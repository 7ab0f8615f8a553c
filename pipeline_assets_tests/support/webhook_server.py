"""A webhook that keeps what it is sent, and misbehaves as told: answers are taken from a list, the last one stays."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

SECRET = "T0123/B4567/hush-hush-hush"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers.

    Args:
        echoes: the path is part of the body, as careless servers do it.
        hangs: nothing is answered until the test ends.
        drips: the head comes a byte at a time, so that no read ever times out.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = "ok"
    echoes: bool = False
    hangs: bool = False
    drips: bool = False


@dataclass
class Receiver:
    """A running webhook.

    Args:
        received: bodies of all requests.
        accepted: of those that were answered with a 2xx.
    """

    url: str
    replies: list[Reply]
    received: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    content_types: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def next_reply(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Handler(BaseHTTPRequestHandler):
    receiver: ClassVar[Receiver]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.receiver.next_reply()
        self.receiver.content_types.append(self.headers["Content-Type"])
        self.receiver.received.append(body)
        if reply.hangs:
            self.receiver.ended.wait()
        elif reply.drips:
            self._drip()
        else:
            self._answer(body, reply)

    def do_GET(self) -> None:
        """Whoever follows a redirection ends here."""
        self.receiver.received.append({"method": "GET"})
        self.send_response(200)
        self.end_headers()

    def _answer(self, body: dict[str, Any], reply: Reply) -> None:
        if 200 <= reply.status < 300:
            self.receiver.accepted.append(body)
        text = (reply.body + (f" {self.path}" if reply.echoes else "")).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.receiver.ended.wait(0.05):
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, *_: object) -> None:
        """Requests are asserted on, not printed."""


@contextmanager
def webhook(*replies: Reply) -> Iterator[Receiver]:
    """A webhook on this machine."""
    receiver = Receiver("", list(replies) or [Reply()])
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": receiver}))
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/services/{SECRET}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def url_of_nobody() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/services/{SECRET}"
