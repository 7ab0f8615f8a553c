"""One run of a daily asset: day after day through compute, stage, audit, publish, and what Dagster is told of it.

Days are independent: a day that fails neither undoes nor hides the others. Whatever ends the run early, the days that
were committed are recorded.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipeline_assets.errors import ContractBroken, PartitionMismatch
from pipeline_assets.orchestration import progress
from pipeline_assets.orchestration.findings import ACCOUNTING_CHECK, CONTRACT_CHECK, INPUTS_CHECK, Findings
from pipeline_assets.orchestration.frames import FrameKind, Result, frame_kinds, streams_of
from pipeline_assets.orchestration.outcome import Outcome
from pipeline_assets.orchestration.record import Record
from pipeline_assets.orchestration.retry.attempts import Earlier, leave, recall
from pipeline_assets.orchestration.staging import StagedRows, located
from pipeline_assets.orchestration.upstream import Inputs
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding
from pipeline_assets.rules.reach import ranges_of
from pipeline_assets.store import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from pipeline_assets.orchestration.retry.step import Step
    from pipeline_assets.orchestration.upstream import Read, Upstream
    from pipeline_assets.rules.checks import Check
    from pipeline_assets.rules.contract import Contract
    from pipeline_assets.rules.windows import Window
    from pipeline_assets.store import LocalStore, Version

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
    history: tuple[date, date]
    """First day, and the last one that is over."""
    step: Step
    _earlier: Earlier = field(default_factory=Earlier)
    _outcome: Outcome[dict[str, Record]] = field(init=False)
    _findings: Findings = field(init=False)
    _expected: dict[Partition, Version | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._outcome = Outcome(self.spec.main, self.days, self.step, piecewise=True)
        warnings = {INPUTS_CHECK, *(each.name for each in self.spec.checks if not each.blocking)}
        self._findings = Findings(self.spec.asset_keys, warnings)

    def execute(self) -> Iterator[Any]:
        """Commit every day and yield what Dagster records.

        Raises:
            dagster.Failure: days failed; they are named, and the others are recorded.
            dagster.RetryRequested: as above, and some of them may pass soon.
        """
        self._look_at_heads()
        self._recall()
        try:
            self._commit_days()
        except BaseException:
            # On success Dagster records every day itself; when the step fails or is interrupted it would record none.
            self._record_committed()
            yield from self._findings.results()
            raise
        finally:
            for upstream in self.upstreams.values():
                upstream.close()
        yield from self._findings.results()
        for table, key in self.spec.asset_keys.items():
            for day, recorded in self._earlier.committed.items():
                self.context.add_asset_metadata(recorded[key], asset_key=key, partition_key=str(day))
            for day, records in self._outcome.committed.items():
                self.context.add_asset_metadata(records[table].metadata(), asset_key=key, partition_key=str(day))
            yield dg.MaterializeResult(asset_key=key)

    def _look_at_heads(self) -> None:
        """Before any input is read: who commits after this moment knew more than this run does."""
        for table in self.spec.contracts:
            self.store.sweep("/".join(self.spec.asset_keys[table].path))
            for day in self.days:
                partition = self.spec.partition(table, day)
                self._expected[partition] = self.store.version(partition)

    def _recall(self) -> None:
        """Days that earlier attempts of this step settled are not computed again."""
        earlier = recall(self.step)
        # A commit that was replaced since is another one's; what it is now, only computing the day again tells.
        committed = {
            day: each for day, each in earlier.committed.items() if day in self.days and self._is_head(day, each)
        }
        given_up = {day: failed for day, failed in earlier.given_up.items() if day not in committed}
        found = tuple(each for each in earlier.found if each[2] in committed or each[2] in given_up)
        self._earlier = Earlier(committed, given_up, found)
        self._outcome.recorded = committed.keys()
        self._outcome.failed.update(given_up)
        for noted in found:
            self._findings.note(*noted)

    def _is_head(self, day: date, recorded: Mapping[dg.AssetKey, Mapping[str, Any]]) -> bool:
        for table, key in self.spec.asset_keys.items():
            head = self.store.head(self.spec.partition(table, day))
            if head is None or key not in recorded or recorded[key]["digest"].value != head.digest:
                return False
        return True

    def _record_committed(self) -> None:
        for day, records in self._outcome.committed.items():
            for table, key in self.spec.asset_keys.items():
                self.context.log_event(
                    dg.AssetMaterialization(key, partition=str(day), metadata=records[table].metadata())
                )

    def _commit_days(self) -> None:
        began = logged = time.monotonic()
        rows = 0
        untold = []
        for done, day in enumerate(self.days, start=1):
            if day in self._outcome.recorded or day in self._outcome.failed:
                continue
            started = time.monotonic()
            self._outcome.attempt(day, partial(self._commit, day))
            records = self._outcome.committed.get(day, {})
            now = time.monotonic()
            report = partial(self._report, day, done, records, now - started)
            if day in self._outcome.failed and day not in self._outcome.given_up:
                untold.append(report)  # another attempt may have another end
            else:
                report()
            if self._outcome.is_hopeless:
                break
            rows += sum(record.rows for record in records.values())
            if now - logged >= LOG_EVERY_SECONDS or (done == len(self.days) > 1):
                self.context.log.info(
                    f"{self.spec.main}: {done} of {len(self.days)} days, {rows / max(now - began, 1e-9):,.0f} rows/s"
                )
                logged = now
        if self._outcome.failed:
            raised = self._outcome.failure()
            if isinstance(raised, dg.RetryRequested):
                self._leave()
            else:
                for report in untold:
                    report()
            raise raised

    def _leave(self) -> None:
        outcome = self._outcome
        settled = {*outcome.recorded, *outcome.committed, *outcome.given_up}
        if settled:
            found = tuple(each for each in self._findings.noted() if each[2] in settled)
            leave(self.context, self.step, Earlier(given_up=outcome.given_up, found=found))

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
                self._findings.note(table, CONTRACT_CHECK, day, Finding(passed=True, message="every row keeps it"))
            self._note_missing_inputs(day, reads)
            accounting = self._account(day, result, staged)
            self._check(day, staged)
            # The main table last: who reads it finds what was rejected from it.
            published = {
                table: self.store.publish(one.staged, expected=self._expected[spec.partition(table, day)])
                for table, one in reversed(staged.items())
            }
        seconds = time.monotonic() - started
        inputs = {name: read.inputs for name, read in reads.items()}
        for name, digest in (result.made_from if result else {}).items():
            inputs[name] = Inputs({day: digest}, ())
        return {
            table: Record(
                published=published[table],
                rows=one.rows,
                schema=one.schema,
                preview=one.preview,
                seconds=seconds,
                code_version=spec.code_version,
                accounting=accounting if table == spec.main else None,
                inputs=inputs,
                contract=spec.contracts[table],
            )
            for table, one in staged.items()
        }

    def _read(self, name: str, day: date, kind: FrameKind) -> Read:
        return self.upstreams[name].read(day, self.spec.windows[name], kind, self.history)

    def _note_missing_inputs(self, day: date, reads: Mapping[str, Read]) -> None:
        if all(window.is_single_day for window in self.spec.windows.values()):
            return
        missing = {name: read.inputs.missing for name, read in reads.items() if read.inputs.missing}
        listed = "; ".join(f"{name} of {_folded(days)}" for name, days in missing.items())
        message = f"{self.spec.partition(self.spec.main, day)} was made without " + (listed or "gaps")
        self._findings.note(self.spec.main, INPUTS_CHECK, day, Finding(not missing, message))

    def _audited(self, table: str, day: date, step: Callable[[], None]) -> None:
        try:
            step()
        except (ContractBroken, PartitionMismatch) as error:
            placed = located(error, self.spec.partition(table, day))
            self._findings.note(table, CONTRACT_CHECK, day, Finding(passed=False, message=str(placed)))
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
        self._findings.note(spec.main, ACCOUNTING_CHECK, day, Finding(balanced, message, numbers))
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
            if not isinstance(finding, Finding):
                msg = f"check {check.name} returned a {type(finding).__name__}; a check returns a Finding"
                raise TypeError(msg)
            self._findings.note(spec.main, check.name, day, finding)
            if check.blocking and not finding.passed:
                blocked.append(f"{check.name}: {finding.message}")
        if blocked:
            msg = f"{spec.partition(spec.main, day)}: {'; '.join(blocked)}. The partition was not published."
            raise ContractBroken(msg)

    def _report(self, day: date, done: int, records: Mapping[str, Record], seconds: float) -> None:
        error = self._outcome.failed.get(day)
        for table, key in self.spec.asset_keys.items():
            record = records.get(table)
            books = record.accounting if record else None
            rows = record.rows if record else 0
            progress.report(
                progress.DayDone(
                    table=key.to_user_string(),
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


def _folded(days: Sequence[date]) -> str:
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges_of(days))
