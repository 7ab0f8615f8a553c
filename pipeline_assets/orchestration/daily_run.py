"""One run of a daily asset: day after day through compute, stage, audit, publish, and what Dagster is told of it.

Days are independent: a day that fails neither undoes nor hides the others. Whatever ends the run early, the days that
were committed are recorded.
"""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipeline_assets.errors import (
    ContractBroken,
    LandingInProgress,
    PartitionConflict,
    PartitionMismatch,
    PipelineError,
    SourceError,
    StorageFull,
    StorageRefused,
    StoreBusy,
)
from pipeline_assets.orchestration import progress
from pipeline_assets.orchestration.frames import FrameKind, Result, frame_kinds, streams_of
from pipeline_assets.orchestration.record import Record
from pipeline_assets.orchestration.staging import StagedRows, located
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding
from pipeline_assets.store import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from pipeline_assets.orchestration.upstream import Read, Upstream
    from pipeline_assets.rules.checks import Check
    from pipeline_assets.rules.contract import Contract
    from pipeline_assets.rules.windows import Window
    from pipeline_assets.store import LocalStore, Version

HOPELESS = (StorageFull, StorageRefused, SourceError)
"""What would fail every further day the same way: the rest of the range is not attempted."""
MAY_PASS_NEXT_TIME = (PartitionConflict, StoreBusy, LandingInProgress)
LOG_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DailySpec:
    """What the author of a daily asset stated. The first contract is the main table's."""

    function: Callable[..., Any]
    contracts: Mapping[str, Contract]
    asset_keys: Mapping[str, dg.AssetKey]
    windows: Mapping[str, Window]
    params: Mapping[str, Any]
    checks: tuple[Check, ...]
    drops_rows: bool
    dead_letter: str | None
    timezone: str
    code_version: str

    @property
    def main(self) -> str:
        """Name of the main table."""
        return next(iter(self.contracts))

    def partition(self, table: str, day: date) -> Partition:
        """Where the store keeps that day of the table."""
        return Partition("/".join(self.asset_keys[table].path), day)


@dataclass(slots=True)
class DailyRun:
    """The days of one run of one asset. `execute` is what the Dagster step does."""

    spec: DailySpec
    context: dg.AssetExecutionContext
    store: LocalStore
    upstreams: Mapping[str, Upstream]
    days: Sequence[date]
    _committed: dict[date, dict[str, Record]] = field(default_factory=dict)
    _failed: dict[date, Exception] = field(default_factory=dict)
    _findings: dict[tuple[str, str], dict[date, Finding]] = field(default_factory=dict)
    _expected: dict[Partition, Version | None] = field(default_factory=dict)

    def execute(self) -> Iterator[Any]:
        """Commit every day and yield what Dagster records.

        Raises:
            dagster.Failure: days failed; they are named, and the others are recorded.
        """
        spec = self.spec
        # Before any input is read: who commits after this moment knew more than this run does.
        for table in spec.contracts:
            self.store.sweep("/".join(spec.asset_keys[table].path))
            for day in self.days:
                partition = spec.partition(table, day)
                self._expected[partition] = self.store.version(partition)
        interrupt: BaseException | None = None
        try:
            self._commit_days()
        except BaseException as error:  # noqa: BLE001 - raised again below, once the committed days are recorded
            interrupt = error
        finally:
            for upstream in self.upstreams.values():
                upstream.close()
        if interrupt or self._failed:
            # On success Dagster records every day itself; on failure it would record none.
            self._record_committed()
        yield from self._check_results()  # and with the first of these Dagster takes the events logged above
        if interrupt:
            raise interrupt
        if self._failed:
            raise self._failure()
        for table, key in spec.asset_keys.items():
            for day, records in self._committed.items():
                self.context.add_asset_metadata(records[table].metadata(), asset_key=key, partition_key=day.isoformat())
            yield dg.MaterializeResult(asset_key=key)

    def _commit_days(self) -> None:
        logged, began, rows = time.monotonic(), time.monotonic(), 0
        for done, day in enumerate(self.days, start=1):
            started = time.monotonic()
            try:
                self._committed[day] = self._commit(day)
                rows += sum(record.rows for record in self._committed[day].values())
            except Exception as error:  # noqa: BLE001 - any failure is this day's alone; all are raised at the end
                self._failed[day] = error
                detail = "" if isinstance(error, PipelineError) else "".join(traceback.format_exception(error))
                self.context.log.error(  # noqa: TRY400 - a traceback is for bugs
                    f"{self.spec.main} {day} failed: {error}\n{detail}".rstrip()
                )
            self._report(day, done, time.monotonic() - started)
            if isinstance(self._failed.get(day), HOPELESS):
                break
            now = time.monotonic()
            if now - logged >= LOG_EVERY_SECONDS or (done == len(self.days) > 1):
                self.context.log.info(
                    f"{self.spec.main}: {done} of {len(self.days)} days, {rows / max(now - began, 1e-9):,.0f} rows/s"
                )
                logged = now

    def _commit(self, day: date) -> dict[str, Record]:
        """Compute, stage, audit and publish every table of one day."""
        spec, started = self.spec, time.monotonic()
        kinds = frame_kinds(spec.function)
        reads = {name: self._read(name, day, kinds.get(name) or FrameKind.TABLE) for name in spec.windows}
        returned = spec.function(day, **{name: read.frame for name, read in reads.items()}, **spec.params)
        result = returned if isinstance(returned, Result) else None
        rows = returned if result is None else result.rows
        with ExitStack() as stack:
            staged = {
                table: StagedRows(
                    stack.enter_context(self.store.stage(spec.partition(table, day))), contract, spec.timezone
                )
                for table, contract in spec.contracts.items()
            }
            for one in staged.values():
                stack.callback(one.abandon)
            single = len(staged) == 1
            for table, frame in [(spec.main, rows)] if single else streams_of(rows, staged):
                self._audited(table, day, partial(staged[table].write, frame))
            for table, one in staged.items():
                self._audited(table, day, one.close)
                self._find(table, "contract", day, Finding(passed=True, message="kept", numbers={}))
            accounting = self._account(day, result, staged)
            self._check(day, staged)
            published = {
                table: self.store.publish(one.staged, expected=self._expected[spec.partition(table, day)])
                for table, one in staged.items()
            }
        seconds = time.monotonic() - started
        return {
            table: Record(
                published=published[table],
                rows=one.rows,
                schema=one.schema,
                preview=one.preview,
                seconds=seconds,
                code_version=spec.code_version,
                accounting=accounting if table == spec.main else None,
                reads=reads,
                contract=spec.contracts[table],
            )
            for table, one in staged.items()
        }

    def _read(self, name: str, day: date, kind: FrameKind) -> Read:
        return self.upstreams[name].read(day, self.spec.windows[name].upstream_of(day), kind)

    def _audited(self, table: str, day: date, step: Callable[[], None]) -> None:
        try:
            step()
        except (ContractBroken, PartitionMismatch) as error:
            placed = located(error, self.spec.partition(table, day))
            self._find(table, "contract", day, Finding(passed=False, message=str(placed)))
            raise placed from error

    def _account(self, day: date, result: Result | None, staged: Mapping[str, StagedRows]) -> Accounting | None:
        """The day's books, held against the rows that were really staged."""
        spec = self.spec
        if not spec.drops_rows:
            return None
        partition = spec.partition(spec.main, day)
        if result is None:
            msg = f"{partition}: the asset drops rows, so its function returns Result(rows, accounting)"
            raise ContractBroken(msg)
        books = result.accounting() if callable(result.accounting) else result.accounting
        kept = staged[spec.main].rows
        rejected = staged[spec.dead_letter].rows if spec.dead_letter else books.rejected
        balanced = books.unaccounted == 0 and books.kept == kept and books.rejected == rejected
        numbers = {
            "read": books.read,
            "kept": kept,
            "duplicates": books.duplicates,
            "rejected": rejected,
            "unaccounted": books.read - kept - books.duplicates - rejected,
        }
        message = f"{partition}: {books}; staged: {kept} kept, {rejected} rejected"
        self._find(spec.main, "row_accounting", day, Finding(balanced, message, numbers))
        if not balanced:
            raise ContractBroken(f"{message}. Rows must not vanish: the partition was not published.")
        return books

    def _check(self, day: date, staged: Mapping[str, StagedRows]) -> None:
        spec, blocked = self.spec, []
        for check in spec.checks:
            kinds = frame_kinds(check.function)
            arguments: dict[str, Any] = {}
            for name, kind in kinds.items():
                wanted = kind or FrameKind.TABLE
                if name in staged:
                    arguments[name] = staged[name].read(wanted)
                elif name in spec.windows:
                    arguments[name] = self._read(name, day, wanted).frame
                elif name in spec.params:
                    arguments[name] = spec.params[name]
                elif name == "day":
                    arguments[name] = day
            finding = check.function(**arguments)
            self._find(spec.main, check.name, day, finding)
            if check.blocking and not finding.passed:
                blocked.append(f"{check.name}: {finding.message}")
        if blocked:
            msg = f"{spec.partition(spec.main, day)}: {'; '.join(blocked)}. The partition was not published."
            raise ContractBroken(msg)

    def _find(self, table: str, check: str, day: date, finding: Finding) -> None:
        self._findings.setdefault((table, check), {})[day] = finding

    def _check_results(self) -> Iterator[dg.AssetCheckResult]:
        blocking = {check.name: check.blocking for check in self.spec.checks}
        for (table, name), findings in self._findings.items():
            failed = {day: finding for day, finding in findings.items() if not finding.passed}
            shown = next(iter(failed.values()), None) or next(reversed(findings.values()))
            metadata: dict[str, Any] = {
                "days_checked": len(findings),
                "days_failed": [day.isoformat() for day in failed],
                **(shown.numbers if len(findings) == 1 or failed else _summed(findings.values())),
            }
            yield dg.AssetCheckResult(
                asset_key=self.spec.asset_keys[table],
                check_name=name,
                passed=not failed,
                severity=dg.AssetCheckSeverity.ERROR if blocking.get(name, True) else dg.AssetCheckSeverity.WARN,
                description=shown.message if failed or len(findings) == 1 else f"{len(findings)} days passed",
                metadata=metadata,
            )

    def _record_committed(self) -> None:
        for day, records in self._committed.items():
            for table, record in records.items():
                self.context.log_event(
                    dg.AssetMaterialization(
                        self.spec.asset_keys[table], partition=day.isoformat(), metadata=record.metadata()
                    )
                )

    def _failure(self) -> dg.Failure:
        attempted = len(self._committed) + len(self._failed)
        not_attempted = len(self.days) - attempted
        first_day, first = next(iter(self._failed.items()))
        tail = f" {not_attempted} further days were not attempted." if not_attempted else ""
        described = "\n".join(f"  {day}: {type(error).__name__}: {error}" for day, error in self._failed.items())
        failure = dg.Failure(
            description=(
                f"{self.spec.main}: {len(self._failed)} of {len(self.days)} days failed; "
                f"{len(self._committed)} were committed and recorded.{tail}\n{described}"
            ),
            metadata={
                "failed_days": [day.isoformat() for day in self._failed],
                "committed_days": [day.isoformat() for day in self._committed],
                "kind": getattr(first, "kind", "bug"),
                "first_failed_day": first_day.isoformat(),
            },
            allow_retries=all(isinstance(error, MAY_PASS_NEXT_TIME) for error in self._failed.values()),
        )
        failure.__cause__ = first
        return failure

    def _report(self, day: date, done: int, seconds: float) -> None:
        error = self._failed.get(day)
        for table in self.spec.contracts:
            record = self._committed[day][table] if error is None else None
            books = record.accounting if record else None
            rows = record.rows if record else 0
            progress.report(
                progress.DayDone(
                    table=self.spec.asset_keys[table].to_user_string(),
                    day=day,
                    done=done,
                    total=len(self.days),
                    rows=rows,
                    read=books.read if books else rows,
                    duplicates=books.duplicates if books else 0,
                    rejected=books.rejected if books else 0,
                    unchanged=record.published.unchanged if record else False,
                    seconds=seconds,
                    error=None if error is None else str(error),
                )
            )


def _summed(findings: Any) -> dict[str, int | float]:
    total: dict[str, int | float] = {}
    for finding in findings:
        for name, number in finding.numbers.items():
            if isinstance(number, int | float):
                total[name] = total.get(name, 0) + number
    return total
