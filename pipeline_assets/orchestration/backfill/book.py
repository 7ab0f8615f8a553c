"""Backfills that were begun: what each is to do, whether it was cancelled, and which process carries it out.

Kept beside Dagster's own files, so whoever deletes Dagster's memory deletes these with it. What came of a backfill is
not in the book: that is read off its runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg

from pipeline_assets.errors import SettingsError
from pipeline_assets.partition import Partition
from pipeline_assets.rules.plan_file import PlanFile, of_text, to_text
from pipeline_assets.store.files import names_in

NEWEST = 20
"""One that is being carried out is among the newest."""
IN_PROCESS, IN_DAGSTER = "process", "dagster"
LOOKED_AT_SECONDS = (0.05, 0.2, 0.5)
"""Who looks whether a backfill is held keeps others from taking it for that moment: they try again after so long."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill.

    Args:
        begun_at: aware.
        where: `process`: of the command that began it; `dagster`: runs that Dagster's daemon launches.
        days_per_run: at most; of one in process.
        parallel: runs at once; of one in process.
        retries: the backfill whose failures this one takes up.
    """

    backfill_id: str
    begun_at: datetime
    where: str
    days_per_run: int
    parallel: int
    file: PlanFile
    retries: str | None = None


class Book:
    """The backfills of an instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.folder = Path(instance.storage_directory()) / "pipeline_backfills"

    def add(self, backfill: Backfill) -> None:
        """Write it down, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {
                "backfill_id": backfill.backfill_id,
                "begun_at": backfill.begun_at.isoformat(),
                "where": backfill.where,
                "days_per_run": backfill.days_per_run,
                "parallel": backfill.parallel,
                "retries": backfill.retries,
                "plan": to_text(backfill.file.plan, planned_at=backfill.file.planned_at),
            }
        )
        aside = self.folder / f".{backfill.backfill_id}.{uuid.uuid4().hex}"
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(self._path(backfill.backfill_id))
        finally:
            aside.unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """The newest first: an id begins with the time when it was begun."""
        names = reversed(names_in(self.folder))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def get(self, backfill_id: str) -> Backfill:
        """One of them; the beginning of its id is enough.

        Raises:
            SettingsError: there is none, or several begin so, or its file cannot be read.
        """
        found = [each for each in self.ids() if backfill_id and each.startswith(backfill_id)]
        if backfill_id in found:
            found = [backfill_id]
        if len(found) != 1:
            known = ", ".join(found or self.ids()[:5]) or "none yet"
            what = "several backfills begin with" if found else "there is no backfill"
            msg = f"{what} {backfill_id!r}; there are: {known}"
            raise SettingsError(msg)
        return self._read(self._path(found[0]))

    def readable(
        self, limit: int | None = None, *, unreadable: Callable[[str], None] | None = None
    ) -> Iterator[Backfill]:
        """The newest first, but for those whose file cannot be read.

        Args:
            unreadable: told of each of these.
        """
        for each in self.ids()[:limit]:
            try:
                yield self._read(self._path(each))
            except SettingsError as error:
                if unreadable is not None:
                    unreadable(str(error))

    def _read(self, path: Path) -> Backfill:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return Backfill(
                values["backfill_id"],
                datetime.fromisoformat(values["begun_at"]),
                values["where"],
                values["days_per_run"],
                values["parallel"],
                of_text(values["plan"], name=str(path)),
                values["retries"],
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            msg = (
                f"{path} cannot be read as a backfill ({error!r}). What it had committed stands; delete the file, and "
                "plan anew for what it had left"
            )
            raise SettingsError(msg) from error

    def cancel(self, backfill_id: str) -> None:
        """From now on nothing of it is begun, by whatever process."""
        (self.folder / f"{backfill_id}.cancelled").touch()

    def is_cancelled(self, backfill_id: str) -> bool:
        """True once it was cancelled: for good."""
        return (self.folder / f"{backfill_id}.cancelled").exists()

    def is_held(self, backfill_id: str) -> bool:
        """True while a process carries it out."""
        looked = os.open(self._lock(backfill_id), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(looked, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(looked)
        return False

    @contextmanager
    def hold(self, backfill_id: str, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
        """Carry it out, alone. The kernel lets go of it when this process dies, however it does.

        Raises:
            SettingsError: another process does so.
        """
        held = os.open(self._lock(backfill_id), os.O_RDWR | os.O_CREAT)
        try:
            for wait_seconds in (*LOOKED_AT_SECONDS, None):
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if wait_seconds is None:
                        msg = (
                            f"backfill {backfill_id} is being carried out by another process; `pipeline cancel` stops "
                            "that"
                        )
                        raise SettingsError(msg) from error
                    sleep(wait_seconds)
            yield
        finally:
            os.close(held)

    def _lock(self, backfill_id: str) -> Path:
        return self.folder / f"{backfill_id}.lock"

    def _path(self, backfill_id: str) -> Path:
        return self.folder / f"{backfill_id}.json"


def carried_out_partitions(instance: dg.DagsterInstance) -> set[Partition]:
    """Partitions that backfills in other processes of this machine have made or will make, while they last.

    By the leading tables of their steps.
    """
    book = Book(instance)
    held = [each for each in book.ids()[:NEWEST] if book.is_held(each)]
    return {partition for each in held for partition in book.get(each).file.plan.partitions()}


def new_id(now: datetime) -> str:
    """Sorts by time, to the microsecond, and differs from any other of the same moment."""
    return f"{now:%Y%m%d-%H%M%S-%f}-{uuid.uuid4().hex[:4]}"
