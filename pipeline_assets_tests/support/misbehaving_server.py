"""A real HTTP server on this machine whose answers, and misbehaviour, are scripted per path and per nth request.

    with misbehaving_server() as server:
        server.script("/day.jsonl.gz", busy(429, 2), Answer(body, ends_after=1000, ending="reset"), Answer(body))
        client.get(server.url + "/day.jsonl.gz")          # the first answer, then the second; the last one repeats
        assert [seen.method for seen in server.seen("/day.jsonl.gz")] == ["GET"]

A path without a script is 404. `seen` lists every request with its headers, body and time. On leaving, and by
`server.stop()`, all connections are reset, those that hang included.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import re
import socket
import struct
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

PATIENCE_SECONDS = 30.0
"""Nothing that a test waits for here takes so long."""
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one request gets.

    Plain is a server as it should be: 200, Content-Length, 304 and 206 as the request's conditions and `etag` or
    `last_modified` allow, no body for HEAD.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str | Callable[[], str]] = field(default_factory=dict)
    """Sent as they are, instead of those that the server would send; a function is called when the answer is sent."""
    etag: str | None = None
    """With its quotes, as it is sent."""
    last_modified: str | None = None
    ranges: bool = True
    """False: Range is ignored and the whole body sent."""
    conditional: bool = True
    """False: If-None-Match and If-Modified-Since are ignored."""
    framing: Literal["length", "chunked", "close"] = "length"
    """How the end of the body is told. A body that is short but correctly framed is a short `body` and chunked."""
    ends_after: int | None = None
    """Bytes of the body that are sent before the connection ends as `ending` says; all of them unless given."""
    ending: Literal["close", "reset", "hang"] = "close"
    hangs: bool = False
    """No answer at all: the connection stays open and silent."""
    drops: bool = False
    """No answer at all: the connection is reset when the request was read."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in."""

    method: str
    target: str
    """Path and query."""
    headers: Message
    """Names are found in capitals and small letters alike; None if the request has none."""
    body: bytes
    monotonic_seconds: float

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path


def busy(status: int = 503, retry_after_seconds: float | None = None, *, as_date: bool = False) -> Answer:
    """An answer without a body, with Retry-After in seconds or as an HTTP date if the seconds are given."""
    if retry_after_seconds is None:
        return Answer(status=status)
    seconds = retry_after_seconds
    if as_date:
        return Answer(status=status, headers={"Retry-After": lambda: formatdate(time.time() + seconds, usegmt=True)})
    return Answer(status=status, headers={"Retry-After": f"{seconds:g}"})


def repr_digest(body: bytes) -> dict[str, str]:
    """The header Repr-Digest of a body, as RFC 9530 writes it."""
    return {"Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


class MisbehavingServer:
    """See the module. Use `misbehaving_server` to start and stop one."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._scripts: dict[tuple[str, str | None], tuple[Answer, ...]] = {}
        self._answered: Counter[tuple[str, str | None]] = Counter()
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self.connections = 0
        self.stopping = threading.Event()
        owner = self

        class Handler(_Handler):
            server_side = owner

        self._http = _Listener((host, 0), Handler)
        self.url = f"http://{host}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def script(self, path: str, *answers: Answer, method: str | None = None) -> None:
        """Say what requests of the path get from now on: the first one the first answer, the last answer for ever.

        Args:
            path: without query.
            method: these answers are for GET, HEAD, POST, ... only; for all that have no script of their own else.
        """
        with self._changed:
            self._scripts[path, method] = answers
            self._answered[path, method] = 0

    def seen(self, path: str | None = None, method: str | None = None) -> list[Seen]:
        """Requests so far, in the order of their arrival; of one path or method if given."""
        with self._changed:
            return [
                each for each in self._seen if path in {None, each.path} and (method is None or each.method == method)
            ]

    def wait_for(self, count: int, path: str | None = None) -> None:
        """Return once so many requests (of the path) have arrived."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: sum(path in {None, each.path} for each in self._seen) >= count, PATIENCE_SECONDS
            )
        assert arrived, f"waited {PATIENCE_SECONDS:g} s for {count} requests of {path or 'any path'}"

    def start(self) -> None:
        """Answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections, and reset those that are open."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        with self._changed:
            for each in self._open:
                with suppress(OSError):  # it ended by itself just now
                    _reset_on_close(each)
                    each.shutdown(socket.SHUT_RD)  # wakes who waits for the next request
        self._thread.join(PATIENCE_SECONDS)

    def _next(self, request: Seen) -> Answer:
        with self._changed:
            self._seen.append(request)
            self._changed.notify_all()
            key: tuple[str, str | None] = (request.path, request.method)
            if key not in self._scripts:
                key = (request.path, None)
            answers = self._scripts.get(key, (Answer(status=404),))
            nth = min(self._answered[key], len(answers) - 1)
            self._answered[key] += 1
            return answers[nth]

    def _connection(self, connection: socket.socket, *, is_open: bool) -> None:
        with self._changed:
            self.connections += is_open
            (self._open.add if is_open else self._open.discard)(connection)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def shutdown_request(self, request: Any) -> None:
        """Close without the polite FIN before it, which would make a reset an ordinary end."""
        self.close_request(request)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server_side: MisbehavingServer
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet where they fit, none waiting for the other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server_side._connection(self.connection, is_open=True)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client has gone, or the server was stopped

    def finish(self) -> None:
        self.server_side._connection(self.connection, is_open=False)
        try:
            super().finish()
        except OSError:
            self.rfile.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Silent: `seen` tells it."""

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Seen(self.command, self.path, self.headers, body, time.monotonic())
        answer = self.server_side._next(request)
        if answer.hangs:
            self._hang()
        elif answer.drops:
            self._end("reset")
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = _respond  # noqa: N815 - names that http.server calls

    def _send(self, answer: Answer) -> None:
        status, body, more = _negotiated(answer, self.headers)
        headers: dict[str, str] = {"Date": formatdate(usegmt=True)}
        if answer.etag and status < 400:
            headers["ETag"] = answer.etag
        if answer.last_modified and status < 400:
            headers["Last-Modified"] = answer.last_modified
        if status != 304:
            headers |= {
                "length": {"Content-Length": str(len(body))},
                "chunked": {"Transfer-Encoding": "chunked"},
                "close": {"Connection": "close"},
            }[answer.framing]
        headers |= more
        headers |= {name: value if isinstance(value, str) else value() for name, value in answer.headers.items()}
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        if self.command != "HEAD" and status != 304:
            self._send_body(answer, body)
        if answer.framing == "close":
            self.close_connection = True

    def _send_body(self, answer: Answer, body: bytes) -> None:
        sent = body if answer.ends_after is None else body[: answer.ends_after]
        for begin in range(0, len(sent), _CHUNK_BYTES):
            part = sent[begin : begin + _CHUNK_BYTES]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if answer.framing == "chunked" else part)
        if answer.ends_after is not None:
            self._end(answer.ending)
            return
        if answer.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _end(self, ending: str) -> None:
        self.wfile.flush()
        self.close_connection = True
        if ending == "hang":
            self._hang()
        elif ending == "reset":
            self._drain()
            _reset_on_close(self.connection)

    def _hang(self) -> None:
        self.close_connection = True
        self.server_side.stopping.wait(PATIENCE_SECONDS * 4)

    def _drain(self) -> None:
        """Wait until the other side's kernel has all that was sent: a reset throws away what is still on the way."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            (unsent,) = struct.unpack("i", fcntl.ioctl(self.connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))
            if unsent == 0:
                return
            time.sleep(0.001)


@contextmanager
def misbehaving_server(host: str = "127.0.0.1") -> Iterator[MisbehavingServer]:
    """A running server, stopped on leaving."""
    server = MisbehavingServer(host)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _negotiated(answer: Answer, asked: Message) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and further headers as RFC 9110 has them."""
    if answer.status != 200:
        return answer.status, answer.body, {}
    if answer.conditional and _unmodified(answer, asked):
        return 304, b"", {}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("Range", ""))
    if wanted is None or not answer.ranges or not _range_applies(answer, asked.get("If-Range")):
        return 200, answer.body, {"Accept-Ranges": "bytes"} if answer.ranges else {}
    whole, first = len(answer.body), int(wanted[1])
    if first >= whole:
        return 416, b"", {"Content-Range": f"bytes */{whole}"}
    last = min(int(wanted[2] or whole), whole - 1)
    return 206, answer.body[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{whole}"}


def _unmodified(answer: Answer, asked: Message) -> bool:
    if (tags := asked.get("If-None-Match")) is not None:
        return answer.etag is not None and answer.etag.removeprefix("W/") in [
            tag.strip().removeprefix("W/") for tag in tags.split(",")
        ]
    since = asked.get("If-Modified-Since")
    if since is None or answer.last_modified is None:
        return False
    return parsedate_to_datetime(answer.last_modified) <= parsedate_to_datetime(since)


def _range_applies(answer: Answer, condition: str | None) -> bool:
    return condition is None or (
        condition == answer.last_modified or (condition == answer.etag and not condition.startswith("W/"))
    )


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
