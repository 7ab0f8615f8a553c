"""Backfills that were begun: what each is to do, whether it was cancelled, and which process carries it out.

Kept beside Dagster's own files, so whoever deletes Dagster's memory deletes these with it. What came of a backfill is
not in the book: that is read off its runs.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import dagster as dg
from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo

from pipeline_assets.codec import codec, unreadable
from pipeline_assets.errors import BackfillHeld, StateUnreadable, UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.rules.plan_file import PlanFile, of_text, to_text
from pipeline_assets.store.files import locked, names_in, replace_file

NEWEST = 20
"""One that is being carried out is among the newest."""
IN_PROCESS, IN_DAGSTER = "process", "dagster"
LOOKED_AT_SECONDS = 0.75
"""Who looks whether a backfill is held keeps others from taking it for that moment: they try for so long."""


def _of_text(text: str, read: ValidationInfo) -> PlanFile:
    return of_text(text, name=str(read.context))


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill that was begun: its plan, and who carries it out.

    Args:
        begun_at: aware.
        where: `process`: of the command that began it; `dagster`: runs that Dagster's daemon launches.
        days_per_run: at most; of one in process.
        parallel: runs at once; of one in process.
        retries: the backfill whose failures this one takes up.
        format: of its file; files without one are of format 1.
    """

    backfill_id: str
    begun_at: datetime
    where: str
    days_per_run: int
    parallel: int
    file: Annotated[
        PlanFile,
        Field(alias="plan"),
        PlainValidator(_of_text),
        PlainSerializer(lambda file: to_text(file.plan, planned_at=file.planned_at)),
    ]
    retries: str | None = None
    format: Literal[1] = 1


class Book:
    """The backfills of an instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.folder = Path(instance.storage_directory()) / "pipeline_backfills"

    def add(self, backfill: Backfill) -> None:
        """Write it down, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._path(backfill.backfill_id), codec(Backfill).dump_json(backfill, by_alias=True))

    def ids(self) -> list[str]:
        """List the ids, the newest first: an id begins with the time when it was begun."""
        names = reversed(names_in(self.folder))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def get(self, backfill_id: str) -> Backfill:
        """One of them; the beginning of its id is enough.

        Raises:
            UsageError: there is none, or several begin so. StateUnreadable: its file is not one of the book.
        """
        found = [each for each in self.ids() if backfill_id and each.startswith(backfill_id)]
        if backfill_id in found:
            found = [backfill_id]
        if len(found) != 1:
            known = ", ".join(found or self.ids()[:5]) or "none yet"
            what = "several backfills begin with" if found else "there is no backfill"
            raise UsageError(f"{what} {backfill_id!r}; there are: {known}")
        return self._read(self._path(found[0]))

    def readable(
        self, limit: int | None = None, *, unreadable: Callable[[str], None] | None = None
    ) -> Iterator[Backfill]:
        """List the backfills, the newest first, but for those whose file cannot be read.

        Args:
            unreadable: told of each of these.
        """
        for each in self.ids()[:limit]:
            try:
                yield self._read(self._path(each))
            except (StateUnreadable, UsageError) as error:
                if unreadable is not None:
                    unreadable(str(error))

    def _read(self, path: Path) -> Backfill:
        try:
            return codec(Backfill).validate_json(path.read_bytes(), context=str(path))
        except (OSError, TypeError, ValueError) as error:
            raise StateUnreadable(
                f"{path} cannot be read as a backfill ({unreadable(error)}). What it had committed stands; delete the "
                "file, and plan anew for what it had left"
            ) from error

    def cancel(self, backfill_id: str) -> None:
        """From now on nothing of it is begun, by whatever process."""
        (self.folder / f"{backfill_id}.cancelled").touch()

    def is_cancelled(self, backfill_id: str) -> bool:
        """True once it was cancelled: for good."""
        return (self.folder / f"{backfill_id}.cancelled").exists()

    def is_held(self, backfill_id: str) -> bool:
        """True while a process carries it out."""
        with locked(self._lock(backfill_id), shared=True) as looked:
            return not looked

    @contextmanager
    def hold(self, backfill_id: str, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
        """Carry it out, alone, for as long as this process lives.

        Raises:
            BackfillHeld: another process does so.
        """
        with locked(self._lock(backfill_id), wait_seconds=LOOKED_AT_SECONDS, sleep=sleep) as held:
            if not held:
                raise BackfillHeld(
                    f"backfill {backfill_id} is being carried out by another process; `pipeline cancel` stops that"
                )
            yield

    def _lock(self, backfill_id: str) -> Path:
        file = self.folder / f"{backfill_id}.lock"
        file.touch()
        return file

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
