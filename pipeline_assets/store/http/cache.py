"""The local copy of one day's landing file: complete, or begun and to be resumed. It may be deleted at any time.

Belongs here: files, locks and the notes beside them. Does not: requests.

    {folder}/{name}           the copy, put there by one rename
    {folder}/.copy.json       what the server said of it, with its inode, mtime and size: notes of another file are void
    {folder}/.partial         a download that was cut off
    {folder}/.partial.json    what the server said of that, written before its first byte
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import xxhash
from pydantic import ValidationError

from pipeline_assets.codec import codec
from pipeline_assets.errors import LandingUnavailable
from pipeline_assets.store.files import digest_of, explained, fsync, locked, replace_file
from pipeline_assets.store.http.validators import ALGORITHMS, Validators

Notes = TypeVar("Notes")


@dataclass(frozen=True, slots=True)
class Copy:
    """What is noted of a complete download on this machine."""

    stamp: tuple[int, int, int]
    """Inode, mtime in nanoseconds, size."""
    validators: Validators
    content: str
    """xxh3_128 of the bytes."""
    fingerprint: str
    """Stays the same when the same bytes are delivered again, whatever the server says of them."""
    format: Literal[1] = 1

    @property
    def size_bytes(self) -> int:
        """Give the size of the file."""
        return self.stamp[2]


class DayCache:
    """Keeps the local copy of one day's landing file.

    Args:
        folder: of this day and URL alone.
        name: of the file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.path = folder / name
        self.partial_path = folder / ".partial"
        self._copy_notes = folder / ".copy.json"
        self._partial_notes = folder / ".partial.json"

    @contextmanager
    def locked(self, wait_seconds: float) -> Iterator[None]:
        """Make the folder and keep other processes and threads from downloading the same.

        Raises:
            LandingUnavailable: somebody else is still at it after the time.
        """
        with ExitStack() as stack:
            with self.explained():
                self.folder.mkdir(parents=True, exist_ok=True)
                held = stack.enter_context(locked(self.folder, wait_seconds=wait_seconds))
            if not held:
                raise LandingUnavailable(
                    f"{self.path}: another process has been downloading it for more than {wait_seconds:g} s "
                    f"(see `fuser {self.folder}`); run the day again later"
                )
            yield

    def explained(self) -> AbstractContextManager[None]:
        """Turn what the file system says into StorageFull and StorageRefused."""
        return explained(f"the cache of landing files {self.folder}")

    def copy(self) -> Copy | None:
        """The copy, if it is there and is the file that its notes speak of. Needs no lock."""
        copy = _read(Copy, self._copy_notes)
        return copy if copy is not None and copy.stamp == _stamp(self.path) else None

    def begun(self) -> tuple[Validators, int] | None:
        """What the server said of a download that was cut off, and how many bytes of it are here, if any."""
        validators, stamp = _read(Validators, self._partial_notes), _stamp(self.partial_path)
        return None if validators is None or stamp is None or not stamp[2] else (validators, stamp[2])

    def begin(self, validators: Validators) -> None:
        """Forget what was begun, and note what the server says of what comes now."""
        self.drop()
        with self.explained():
            _write(self._partial_notes, validators)

    def drop(self) -> None:
        """Forget a download that was begun."""
        with self.explained():
            self.partial_path.unlink(missing_ok=True)  # first: bytes without notes are not resumed
            self._partial_notes.unlink(missing_ok=True)

    @contextmanager
    def writing(self, at: int) -> Iterator[BinaryIO]:
        """Write on from this byte. Flush what shall outlive this process."""
        with self.explained(), self.partial_path.open("ab") as file:
            file.truncate(at)
            yield file

    def digests(self, algorithm: str | None) -> tuple[str, str]:
        """What was downloaded: its xxh3_128 and, in hex, the checksum by its name in headers, if one is named."""
        with self.explained():
            content = digest_of(self.partial_path)
            if algorithm is None:
                return content, ""
            with self.partial_path.open("rb", buffering=0) as file:
                checksum = partial(hashlib.new, ALGORITHMS[algorithm], usedforsecurity=False)
                return content, hashlib.file_digest(file, checksum).hexdigest()

    def forget_copy(self) -> None:
        """Take the copy for outdated. The file stays for those who read it."""
        with self.explained():
            self._copy_notes.unlink(missing_ok=True)

    def keep(self, validators: Validators, content: str) -> Copy:
        """Make the finished download the copy. Bytes that are there already stay untouched, fingerprint included."""
        before = self.copy()
        with self.explained():
            if before is not None and before.content == content:
                kept = replace(before, validators=validators)
            else:
                # The copy is trusted for as long as the server says that nothing changed, so it must be on the disk.
                fsync(self.partial_path)
                self.partial_path.replace(self.path)
                stamp = _stamp(self.path)
                assert stamp is not None  # noqa: S101 - it was put there under the lock
                fingerprint = fingerprint_of(self.path.name, validators.identity or content)
                if before is not None and before.fingerprint == fingerprint:
                    # Other bytes, and the server calls them by the same ETag, or they came in the same second.
                    fingerprint = fingerprint_of(self.path.name, content)
                kept = Copy(stamp, validators, content, fingerprint)
            _write(self._copy_notes, kept)
        self.drop()
        return kept


def fingerprint_of(name: str, identity: str) -> str:
    """xxh3_128 of a file's name and of what tells its content from others, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(f"{name}\0{identity}".encode())


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(kind: type[Notes], path: Path) -> Notes | None:
    """None of notes that are not there, or of another version of this program."""
    try:
        return codec(kind).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(path: Path, notes: Copy | Validators) -> None:
    replace_file(path, codec(type(notes)).dump_json(notes), aside="tmp")
