"""What the file system is asked in more than one place, with answers that no version of Python waters down."""

import errno
import fcntl
import hashlib
import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import xxhash

from pipeline_assets.errors import StorageFull, StorageRefused

LOCK_POLL_SECONDS = 0.01

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# ENOENT is also what /proc says when a folder is made there.
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}


@contextmanager
def explained(what: object) -> Iterator[None]:
    """Turn what the operating system says about files into the project's errors.

    Raises:
        StorageFull: no space, no quota, a limit on file sizes.
        StorageRefused: permissions, a read-only or broken file system, no folder where one should be.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"{what}: {error}. Nothing is half published. Free some space, then run it again."
            ) from error
        if error.errno == errno.EMFILE:
            raise StorageRefused(
                f"{what}: {error}. This process holds as many files open as it may: allow it more (ulimit -Hn)."
            ) from error
        if error.errno in _REFUSED:
            raise StorageRefused(
                f"{what}: {error}. Check that PIPELINE_STORE is a folder that this user may write to."
            ) from error
        raise


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


def stat_of(path: Path) -> os.stat_result | None:
    """What the file system tells of a file; None if it is not there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def digest_of(path: Path) -> str:
    """xxh3_128 of a file's bytes, 32 hex digits."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def may_open_more_files() -> bool:
    """Raise the number of files that this process may open to what the system allows it; False if it is that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


def make_folder(folder: Path) -> None:
    """Make a folder and its parents durable: an entry exists for certain once its parent was fsynced."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)


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
