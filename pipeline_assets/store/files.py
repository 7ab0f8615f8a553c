"""What the file system is asked in more than one place, with answers that no version of Python waters down."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import xxhash

from pipeline_assets.errors import StorageFull, StorageRefused

HASH_CHUNK_BYTES = 1 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,  # also what /proc says when a folder is made there
    errno.EEXIST,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EIO,
    errno.ELOOP,
}


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
            msg = f"{what}: {error}. Nothing is half published. Free some space, then run it again."
            raise StorageFull(msg) from error
        if error.errno in _REFUSED:
            msg = f"{what}: {error}. Check that PIPELINE_STORE is a folder that this user may write to."
            raise StorageRefused(msg) from error
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


def day_of(name: str) -> date | None:
    """The day of a folder that is named `dt=YYYY-MM-DD`; None if it is named otherwise."""
    prefix, _, text = name.partition("=")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if prefix == "dt" and day.isoformat() == text else None


def stat_of(path: Path) -> os.stat_result | None:
    """What the file system tells of a file; None if it is not there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def digest_of(path: Path) -> str:
    """xxh3_128 of a file's bytes, 32 hex digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fsync(path: Path) -> None:
    """Make a file, or the entries of a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents durable: an entry exists for certain once its parent was fsynced."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file aside and put it in the place of the one before it, so that a reader sees one of them whole.

    Args:
        durable: it is on the disk before it is in its place.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
