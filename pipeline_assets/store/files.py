"""What the file system is asked in more than one place, with answers that no version of Python waters down."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

LOCK_POLL_SECONDS = 0.01


def names_in(folder: Path) -> list[str]:
    """Names of the folder's entries, sorted; none if there is no such folder.

    `Path.glob` and `os.walk` also take a folder that cannot be read for an empty one: of permissions in every Python,
    of any error since 3.13.

    Raises:
        OSError: the folder is there and cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths, are what is asked for
    except FileNotFoundError:
        return []


def day_of(name: str) -> date | None:
    """Read the day off a folder's name; None unless that is `dt=` and a day in ISO format."""
    prefix, _, text = name.partition("=")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if prefix == "dt" and day.isoformat() == text else None


def fsync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, durable: bool = False, aside: str | None = None) -> None:
    """Put content in the place of a file, or where none was. A reader sees the old or the new one, whole.

    Args:
        durable: the content is on the disk before it is in its place.
        aside: ends the name of the file that is written first; one that does not repeat if None.
    """
    written = path.with_name(f".{path.name}.{aside or uuid.uuid4().hex}")
    try:
        written.write_bytes(content)
        if durable:
            fsync(written)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock what is open, for as long as it is; False if others hold it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(
    path: Path, *, shared: bool = False, wait_seconds: float = 0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[bool]:
    """Hold a file or a folder, alone unless `shared`; gives False if others did not let go of it in time.

    The kernel lets go of it when this process dies, however it does.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        gives_up = time.monotonic() + wait_seconds
        while not (held := try_lock(descriptor, shared=shared)) and time.monotonic() < gives_up:
            sleep(LOCK_POLL_SECONDS)
        yield held
    finally:
        os.close(descriptor)  # and with it the lock
