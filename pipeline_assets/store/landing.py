"""The landing zone: `{root}/dt=YYYY-MM-DD/*`, the files that arrived on a day, plain or compressed.

Belongs here: which files there are, whether they are complete, their bytes, and the fingerprint by which a change is
told from a redelivery. Does not: what the rows in them mean.
"""

import fcntl
import gzip
import hashlib
import io
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

import pyarrow as pa
import xxhash

from pipeline_assets.errors import LandingError, LandingInProgress
from pipeline_assets.store.files import day_of

RetryAfter = Callable[[str, datetime], float | None]
"""Seconds that a Retry-After header asks for at a given time; None if it cannot be read."""

MAGIC_BYTES = 4
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_HIDDEN = re.compile(r"[._].*|.*\.(tmp|temp|part|partial|inprogress|filepart|crdownload)|.*~", re.IGNORECASE)
"""Names that upload tools give to files that are not complete yet, and markers such as _SUCCESS."""
DAY_IS_COMPLETE = "_SUCCESS"
"""A marker in the folder of a day: whoever delivers is done, even when there is no other file."""
CLOCKS_APART = timedelta(seconds=2)
"""Between the file system that stamps landing files and the clock of runs."""


@dataclass(frozen=True, slots=True)
class LandingFile:
    """One landing file as it was when it was listed.

    Args:
        name: its path below the landing zone.
        stamp: another one, another content.
        opened: gives its bytes, seekable.
    """

    name: str
    size_bytes: int
    stamp: tuple[int, ...]
    opened: Callable[[], io.BufferedReader] = field(repr=False, compare=False)

    def open(self) -> io.BufferedReader:
        """Open its bytes; the caller closes them."""
        return self.opened()


def opener_of(path: Path) -> Callable[[], io.BufferedReader]:
    """What opens a file of this machine."""
    return lambda: path.open("rb")


class Look(NamedTuple):
    """A day of the landing zone at a glance.

    Args:
        stamp: as long as it stays the same, so does the content; empty when nothing is there.
        fingerprint: of the content; None when nothing has landed, or nothing that may be read yet.
        settled: nobody is writing, as far as can be told.
    """

    stamp: str
    fingerprint: str | None
    settled: bool


class LastChange(NamedTuple):
    """When something of a day last changed, by the clock of the landing zone."""

    at: datetime
    clocks_apart: timedelta

    def is_before(self, moment: datetime) -> bool:
        """True if it was for certain before a moment of another clock."""
        return self.at < moment - self.clocks_apart


class Landing(Protocol):
    """What the pipeline asks of a landing zone, wherever it is.

    What cannot be read is a LandingError, AccessDenied or LandingUnavailable. A method that is given files raises
    LandingInProgress if one of them was removed or replaced since it was listed.
    """

    seconds_between_looks: int
    """How long the sensor leaves it alone after it has asked for every day of its look-back."""

    def days(self) -> list[date] | None:
        """Arrival days that have something, ascending; None if that cannot be listed."""

    def last_change(self, day: date) -> LastChange | None:
        """When something of the day last changed; None if nothing of it is there, or nobody can tell."""

    def files(self, day: date) -> list[LandingFile]:
        """Files of the day, ready to be read, by name."""

    def unfinished(self, day: date) -> list[str]:
        """Names of uploads of the day that `files` leaves out."""

    def check_complete(self, day: date, files: Sequence[LandingFile]) -> None:
        """Raise LandingInProgress unless the files are still those that were listed, and nobody writes them."""

    def fingerprint(self, day: date, files: Sequence[LandingFile]) -> str:
        """Hash names and content: equal for a redelivery of the same, another one for anything else."""

    def look(self, day: date, before: Look | None = None) -> Look:
        """Whether the day changed since the look `before`; content is read again only where its stamp changed."""


class LandingZone:
    """Files by arrival day below a folder: a `Landing` on disk.

    Args:
        root: need not exist; there are no files then.
        clocks_apart: how far the clock of its file system may be from that of runs.
    """

    seconds_between_looks = 5

    def __init__(self, root: Path, *, clocks_apart: timedelta = CLOCKS_APART) -> None:
        self.root = Path(root)
        self._clocks_apart = clocks_apart
        self._checked: int | None = None

    def days(self) -> list[date]:
        """Arrival days that have a folder, ascending.

        Raises:
            LandingError: an entry of the landing zone is no `dt=YYYY-MM-DD` folder; its files would never be read.
        """
        days = {entry: day_of(entry.name) if entry.is_dir() else None for entry in _listed(self.root)}
        strange = sorted(str(entry) for entry, day in days.items() if day is None)
        if strange:
            raise LandingError(
                f"{', '.join(strange[:5])}: not a folder named dt=YYYY-MM-DD with a real date, so its content "
                "would never be read. Rename it, or move it out of the landing zone."
            )
        return sorted(day for day in days.values() if day is not None)

    def files(self, day: date) -> list[LandingFile]:
        """Files of the day by name, those with the names of unfinished uploads left out; none without a folder.

        Raises:
            LandingError: as `days`, lest a day seem empty whose folder has a wrong name; or an entry is no file.
        """
        self._check_folders()
        return self._files(day)

    def _files(self, day: date) -> list[LandingFile]:
        files = []
        for path in _listed(self._folder(day)):
            try:
                found = path.stat()
            except FileNotFoundError:
                if not path.is_symlink():
                    continue  # removed since it was listed
                found = path.lstat()
            except OSError as error:
                raise LandingError(
                    f"{path}: {error.strerror}. This user must be able to read the files of the landing zone."
                ) from error
            if not stat.S_ISREG(found.st_mode):
                raise LandingError(
                    f"{path}: not a file. The files of a day lie directly in its folder; move them there."
                )
            # ctime as well: `tar -x`, rsync and touch give a file back its mtime, and a freed inode may be used again.
            stamp = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            files.append(LandingFile(f"{path.parent.name}/{path.name}", found.st_size, stamp, opener_of(path)))
        return sorted(files, key=lambda file: file.name)

    def unfinished(self, day: date) -> list[str]:
        """Names in the day's folder that `files` leaves out."""
        return sorted(path.name for path in _listed(self._folder(day), hidden=True))

    def check_complete(self, day: date, files: Sequence[LandingFile]) -> None:
        """Make sure that nobody is writing the files and that they are still those that were listed."""
        unsettled = [file.name for file in files if _open_for_writing(self.root / file.name)]
        unsettled += _changed(files, self.files(day))
        if unsettled:
            raise LandingInProgress(
                f"{', '.join(sorted(set(unsettled)))}: still being written, or changed while it was read. Nothing of "
                f"{day} was published; run the day again when the upload is complete. (Uploads under a name that "
                "begins with '.' or ends in '.tmp' or '.part', renamed when complete, are never read early.)"
            )

    def fingerprint(self, day: date, files: Sequence[LandingFile]) -> str:  # noqa: ARG002 - other zones need the day
        """xxh3_128 over names and content of the files, 32 hex digits."""
        whole = xxhash.xxh3_128()
        for file in files:
            try:
                with file.open() as opened:
                    content = hashlib.file_digest(opened, xxhash.xxh3_128)
            except FileNotFoundError as error:
                raise LandingInProgress(f"{file.name}: was removed while it was read; run the day again") from error
            except OSError as error:
                what = f"{self.root / file.name}: {error.strerror}"
                raise LandingError(f"{what}. This user must be able to read the files of the landing zone.") from error
            whole.update(f"{file.name}\0{content.hexdigest()}\n".encode())
        return whole.hexdigest()

    def look(self, day: date, before: Look | None = None) -> Look:
        """The day's folder at a glance. No other folder is listed, so the cost does not grow with the history.

        Nothing has landed while there is no file, unless the marker `_SUCCESS` says that there will be none.
        """
        files = self._files(day)
        marked = os.path.lexists(self._folder(day) / DAY_IS_COMPLETE)
        if not files and not marked:
            return Look("", None, settled=True)
        listed = repr((marked, [(file.name, file.stamp) for file in files]))
        stamp = xxhash.xxh3_64_hexdigest(listed.encode())
        if any(_open_for_writing(self.root / file.name) for file in files):
            return Look(stamp, None, settled=False)
        if before is not None and before.stamp == stamp and before.fingerprint is not None:
            return before
        try:
            fingerprint = self.fingerprint(day, files)
        except LandingInProgress:
            return Look(stamp, None, settled=False)
        settled = not _changed(files, self._files(day))
        return Look(stamp, fingerprint if settled else None, settled)

    def last_change(self, day: date) -> LastChange | None:
        """When something in the day's folder last changed; None without a folder.

        By ctime: it tells of content, of names and of files that were moved or copied there with an older mtime, and
        nobody can set it back.
        """
        folder = self._folder(day)
        try:
            with os.scandir(folder) as entries:
                changed = [each for entry in entries if (each := _ctime_ns(entry)) is not None]
            # After the entries: one that was removed meanwhile shows here. A link to a folder may be another link now.
            newest_ns = max(*changed, folder.stat().st_ctime_ns, folder.lstat().st_ctime_ns)
        except FileNotFoundError:
            return None
        except OSError:
            self._files(day)  # says what is wrong
            raise
        return LastChange(datetime.fromtimestamp(newest_ns / 1e9, UTC), self._clocks_apart)

    def _folder(self, day: date) -> Path:
        return self.root / f"dt={day.isoformat()}"

    def _check_folders(self) -> None:
        """Look at the names of the folders again when one was added or renamed: a range asks for many days."""
        try:
            changed = self.root.stat().st_mtime_ns
        except OSError:
            return  # there is nothing to check, or listing the day says what is wrong
        if changed != self._checked:
            self.days()
            self._checked = changed


def _changed(before: Sequence[LandingFile], now: Sequence[LandingFile]) -> list[str]:
    """Names that were added, removed or written."""
    old, new = ({file.name: file.stamp for file in files} for files in (before, now))
    return [name for name in {**old, **new} if new.get(name) != old.get(name)]


def is_parquet(file: LandingFile) -> bool:
    """True for Parquet content, whatever the file is named."""
    with file.open() as opened:
        return opened.read(MAGIC_BYTES).startswith(_PARQUET)


@contextmanager
def open_decompressed(file: LandingFile) -> Iterator[BinaryIO]:
    """Give the file's bytes, unpacked if its content is gzip or zstd, whatever it is named."""
    with file.open() as packed:
        magic = packed.read(MAGIC_BYTES)
        packed.seek(0)
        if magic.startswith(_GZIP):
            with gzip.open(packed, "rb") as unpacked:
                yield cast("BinaryIO", unpacked)
        elif magic.startswith(_ZSTD):
            with pa.input_stream(packed, compression="zstd") as unpacked:
                yield cast("BinaryIO", io.BufferedReader(unpacked))
        else:
            yield packed


def _listed(folder: Path, *, hidden: bool = False) -> list[Path]:
    """Entries with names of files that landed, or, if `hidden`, of those that did not yet."""
    try:
        return [path for path in folder.iterdir() if (_HIDDEN.fullmatch(path.name) is not None) == hidden]
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise LandingError(
            f"{folder}: not a folder. PIPELINE_LANDING is a folder that holds dt=YYYY-MM-DD folders."
        ) from error
    except PermissionError as error:
        raise LandingError(f"{folder}: {error.strerror}. This user must be able to read the landing zone.") from error


def _ctime_ns(entry: os.DirEntry[str]) -> int | None:
    """Of a link, what it leads to; if that is gone, of itself. None if it is gone."""
    for follows in (True, False):
        with suppress(FileNotFoundError):
            return entry.stat(follow_symlinks=follows).st_ctime_ns
    return None


def _open_for_writing(path: Path) -> bool:
    """True when a process of this machine has the file open for writing, as far as the system can tell.

    Linux refuses a read lease on such a file. It is given back at once; a writer that opens the file in that instant
    waits for it, and the signal that tells of it is one that is ignored by default.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False  # removed, which the stamps tell, or not readable, which the reader will say
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # another user's file, or a file system without leases: the stamps still tell
    finally:
        os.close(descriptor)
    return False
