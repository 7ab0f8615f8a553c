"""One error tree. What belongs here: everything the project raises on purpose. What does not: bugs.

Grouped by what a handler does, each group a base class. `kind` is stable: alerts, retry rules and exit codes may rely
on it.

    PipelineError
    |-- MustChange                  somebody must change something, running again does not help
    |   |-- SettingsError           kind "settings"            an environment variable that cannot be used as it is set
    |   |-- UsageError              kind "usage"               an option, an argument or a file that a command was given
    |   |-- StateUnreadable         kind "state_unreadable"    a cursor or a file of the book that is not ours
    |   |-- DagsterRefused          kind "dagster_refused"     what a Dagster webserver was asked for, it will not do
    |   |-- PlanOutdated            kind "plan_outdated"       a plan that would say another thing if it were made now
    |   |-- DefinitionError         kind "definition"          a table that cannot be made or kept as it is defined
    |   |-- SourceError             kind "source"              the SELECT of a source
    |   |-- LandingError            kind "landing"             a landing file that cannot be read
    |   |   `-- LandingMissing      kind "landing_missing"     a landing file that the server does not have
    |   |-- AccessDenied            kind "access_denied"       credentials that a server does not accept
    |   |-- ContractBroken          kind "contract"            rows that break the contract of their table
    |   |-- PartitionMismatch       kind "partition_mismatch"  rows that belong to another day
    |   |-- PartitionMissing        kind "missing"             a partition that has not been computed
    |   |-- PartitionDamaged        kind "damaged"             a file of the lake that is not what was written
    |   |-- StorageRefused          kind "storage_refused"     permissions, a read-only or broken file system
    |   `-- StorageFull             kind "storage_full"        no space or quota left
    |-- MayPass                     the same step may pass when it is run again from its inputs
    |   |-- LandingInProgress       kind "landing_in_progress" a landing file that is still being written
    |   |-- LandingUnavailable      kind "landing_unavailable" a server that is down, busy, or hung up in the middle
    |   |-- PartitionConflict       kind "conflict"            another run published this partition meanwhile
    |   |-- StoreBusy               kind "busy"                a lock that was not free in time
    |   |-- BackfillHeld            kind "backfill_held"       a backfill that another process is carrying out
    |   `-- WorkerDied              kind "worker_died"         a process that carried out runs of a backfill is gone
    `-- Unknown                     whether it was done is not known: look before it is asked for again
        |-- NoAnswer                kind "no_answer"           a Dagster webserver that gave no answer
        `-- WatchLost               kind "watch_lost"          a webserver that stopped answering; Dagster goes on
"""

from typing import ClassVar


class PipelineError(Exception):
    """Base of the tree. The message says what happened, where, what was found, and what to do next."""

    kind: ClassVar[str] = "pipeline"

    def __init_subclass__(cls, *, kind: str | None = None) -> None:
        """A class that states no kind has that of its base."""
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind


class MustChange(PipelineError):
    """Somebody must change something first; the same again ends the same way."""


class MayPass(PipelineError):
    """The same may pass when it is run again. An error of your own with this base is tried again soon."""


class Unknown(PipelineError):
    """Whether what was asked for was done is not known. Look before you ask again."""


class SettingsError(MustChange, kind="settings"):
    """A setting that cannot be used as it is."""


class UsageError(MustChange, kind="usage"):
    """An option, an argument or a file that a command was given, and that cannot be used."""


class StateUnreadable(MustChange, kind="state_unreadable"):
    """What was kept for a later tick or command cannot be read as that."""


class DagsterRefused(MustChange, kind="dagster_refused"):
    """A Dagster webserver will not, or cannot, do what it was asked for."""


class DefinitionError(MustChange, kind="definition"):
    """A table cannot be made or kept as it is defined: its file, its name, its partitions, its inputs."""


class PlanOutdated(MustChange, kind="plan_outdated"):
    """Since a plan was made, something that it speaks of moved. The message is a line for each."""


class SourceError(MustChange, kind="source"):
    """The SELECT of a source cannot be parsed, or does not make events out of landing rows."""


class LandingError(MustChange, kind="landing"):
    """A landing file or folder that cannot be read as what it claims to be."""


class LandingMissing(LandingError, kind="landing_missing"):
    """A landing file of a day was asked for, and the server has none."""


class AccessDenied(MustChange, kind="access_denied"):
    """Credentials are missing, or a server does not accept them."""


class LandingUnavailable(MayPass, kind="landing_unavailable"):
    """The server of the landing zone gave no whole answer: time-out, reset, 429, 5xx, a body that was cut off.

    Args:
        message: what happened.
        retry_after_seconds: how long the server asked to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class LandingInProgress(MayPass, kind="landing_in_progress"):
    """A landing file changed, or was open for writing, while it was read."""


class ContractBroken(MustChange, kind="contract"):
    """Staged rows do not keep the contract of their table. Nothing was published."""


class PartitionMismatch(MustChange, kind="partition_mismatch"):
    """A frame holds rows that do not belong to the partition it was returned for. Nothing was published."""


class PartitionMissing(MustChange, kind="missing"):
    """A partition or a commit was asked for that does not exist."""


class PartitionDamaged(MustChange, kind="damaged"):
    """The file of a partition, or of a commit that is kept, cannot be read as what was written."""


class PartitionConflict(MayPass, kind="conflict"):
    """Another run published this partition after this run first looked at it. Nothing was replaced."""


class StoreBusy(MayPass, kind="busy"):
    """A partition stayed locked by another process for longer than the store waits."""


class StorageRefused(MustChange, kind="storage_refused"):
    """The file system refused an operation."""


class StorageFull(MustChange, kind="storage_full"):
    """The file system has no space or quota left. What was published before is still there."""


class BackfillHeld(MayPass, kind="backfill_held"):
    """Another process is carrying out the backfill. Nothing was begun."""


class WorkerDied(MayPass, kind="worker_died"):
    """A process that carried out runs of a backfill is gone. What it had committed stands."""


class NoAnswer(Unknown, kind="no_answer"):
    """A Dagster webserver was asked, and did not answer."""


class WatchLost(Unknown, kind="watch_lost"):
    """The webserver does not answer any more; Dagster goes on with what was launched."""
