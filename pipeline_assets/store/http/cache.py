"""The local copy of one day's landing file: complete, or begun and to be resumed. It may be deleted at any time.

Belongs here: files, locks and the notes beside them. Does not: requests.

    {folder}/{name}           the copy, put there by one rename
    {folder}/.copy.json       what the server said of it, with its inode, mtime and size: notes of another file are void
    {folder}/.partial         a download that was cut off
    {folder}/.partial.json    what the server said of that, written before its first byte
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from pipeline_assets.errors import LandingUnavailable
from pipeline_assets.store.files import explained, fsync, locked, replace_file
from pipeline_assets.store.http.validators import ALGORITHMS, Validators

HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete download on this machine."""

    path: Path
    stamp: tuple[int, int, int]
    """Inode, mtime in nanoseconds, size."""
    validators: Validators
    content: str
    """xxh3_128 of the bytes."""
    fingerprint: str
    """Stays the same when the same bytes are delivered again, whatever the server says of them."""

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
            with explained(f"the cache of landing files {self.folder}"):
                self.folder.mkdir(parents=True, exist_ok=True)
                held = stack.enter_context(locked(self.folder, wait_seconds=wait_seconds))
            if not held:
                raise LandingUnavailable(
                    f"{self.path}: another process has been downloading it for more than {wait_seconds:g} s "
                    f"(see `fuser {self.folder}`); run the day again later"
                )
            yield

    def copy(self) -> Copy | None:
        """The copy, if it is there and is the file that its notes speak of. Needs no lock."""
        notes, stamp = _read(self._copy_notes), _stamp(self.path)
        if notes is None or stamp is None:
            return None
        try:
            if tuple(notes["stamp"]) != stamp:
                return None
            validators = Validators.from_json(notes["validators"])
            return Copy(self.path, stamp, validators, notes["content"], notes["fingerprint"])
        except (KeyError, TypeError):
            return None  # of another version of this program

    def begun(self) -> tuple[Validators, int] | None:
        """What the server said of a download that was cut off, and how many bytes of it are here, if any."""
        notes, stamp = _read(self._partial_notes), _stamp(self.partial_path)
        if notes is None or stamp is None or not stamp[2]:
            return None
        try:
            return Validators.from_json(notes), stamp[2]
        except TypeError:
            return None  # as above

    def begin(self, validators: Validators) -> None:
        """Forget what was begun, and note what the server says of what comes now."""
        self.drop()
        with explained(f"the cache of landing files {self.folder}"):
            _write(self._partial_notes, validators.to_json())

    def drop(self) -> None:
        """Forget a download that was begun."""
        with explained(f"the cache of landing files {self.folder}"):
            self.partial_path.unlink(missing_ok=True)  # first: bytes without notes are not resumed
            self._partial_notes.unlink(missing_ok=True)

    @contextmanager
    def writing(self, at: int) -> Iterator[BinaryIO]:
        """Write on from this byte. Flush what shall outlive this process."""
        with self.partial_path.open("ab") as file:
            file.truncate(at)
            yield file

    def digests(self, algorithm: str | None) -> tuple[str, str]:
        """What was downloaded, read once: its xxh3_128 and, in hex, the checksum by its name in headers."""
        content, checksum = xxhash.xxh3_128(), hashlib.new(ALGORITHMS[algorithm or "md5"], usedforsecurity=False)
        with explained(f"the cache of landing files {self.folder}"), self.partial_path.open("rb", buffering=0) as file:
            while chunk := file.read(HASH_CHUNK_BYTES):
                content.update(chunk)
                if algorithm:
                    checksum.update(chunk)
        return content.hexdigest(), checksum.hexdigest()

    def forget_copy(self) -> None:
        """Take the copy for outdated. The file stays for those who read it."""
        with explained(f"the cache of landing files {self.folder}"):
            self._copy_notes.unlink(missing_ok=True)

    def keep(self, validators: Validators, content: str) -> Copy:
        """Make the finished download the copy. Bytes that are there already stay untouched, fingerprint included."""
        before = self.copy()
        with explained(f"the cache of landing files {self.folder}"):
            if before is not None and before.content == content:
                kept = Copy(before.path, before.stamp, validators, content, before.fingerprint)
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
                kept = Copy(self.path, stamp, validators, content, fingerprint)
            notes = {
                "stamp": kept.stamp,
                "validators": validators.to_json(),
                "content": content,
                "fingerprint": kept.fingerprint,
            }
            _write(self._copy_notes, notes)
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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        notes = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return notes if isinstance(notes, dict) else None


def _write(path: Path, notes: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(notes).encode(), aside="tmp")
