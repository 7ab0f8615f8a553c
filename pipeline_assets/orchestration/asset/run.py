"""One run of a daily asset: day after day through compute, stage, audit, publish, and what Dagster is told of it.

Days are independent: a day that fails neither undoes nor hides the others. Whatever ends the run early, the days that
were committed are recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.asset.audit import INPUTS_CHECK, Audit, Findings
from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.asset.unchanged import Unchanged
from pipeline_assets.orchestration.finished_days import FinishedDay, report
from pipeline_assets.orchestration.partition.frames import FrameKind, Result, frame_kinds, streams_of
from pipeline_assets.orchestration.partition.materialization import Materialization, Renewal
from pipeline_assets.orchestration.partition.outcome import Outcome
from pipeline_assets.orchestration.partition.staging import StagedRows
from pipeline_assets.orchestration.partition.upstream import Inputs, Read, Upstream
from pipeline_assets.orchestration.retry.attempts import Earlier, note, recall
from pipeline_assets.orchestration.retry.step import Step
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.windows import same_day
from pipeline_assets.store import Seen, Store

LOG_EVERY_SECONDS = 5.0
NOTE_EVERY_SECONDS = 1.0
"""So much work is lost with a worker that is killed; a note takes a few milliseconds."""


@dataclass(slots=True)
class DailyRun:
    """The days of one run of one asset. `execute` is what the Dagster step does."""

    spec: DailySpec
    context: dg.AssetExecutionContext
    store: Store
    upstreams: Mapping[str, Upstream]
    days: Sequence[date]
    history: tuple[date, date]
    """First day, and the last one that is over."""
    step: Step
    skips_unchanged: bool = False
    """Days that need no computing are recorded as they are."""
    _earlier: Earlier = field(default_factory=Earlier)
    _outcome: Outcome[dict[str, Materialization | Renewal]] = field(init=False)
    _findings: Findings = field(init=False)
    _audit: Audit = field(init=False)
    _seen: Mapping[Partition, Seen] = field(default_factory=dict)
    _noted: set[date] = field(default_factory=set)
    _unchanged: Unchanged = field(init=False)
    _heads: dict[str, Upstream] = field(init=False)

    def __post_init__(self) -> None:
        self._outcome = Outcome(self.spec.main, self.days, self.step, piecewise=True)
        warnings = {INPUTS_CHECK, *(each.name for each in self.spec.checks if not each.blocking)}
        self._findings = Findings(self.spec.asset_keys, warnings)
        self._audit = Audit(self.spec, self._findings)
        self._unchanged = Unchanged(self.spec, self.store, self.upstreams, self.history)
        tables = {table: "/".join(key.path) for table, key in self.spec.asset_keys.items()}
        self._heads = {table: Upstream(self.store, name) for table, name in tables.items()}

    def execute(self) -> Iterator[Any]:
        """Commit every day and yield what Dagster records.

        Raises:
            dagster.Failure: days failed; they are named, and the others are recorded.
            dagster.RetryRequested: as above, and some of them may pass soon.
        """
        self._look_at_heads()
        self._recall()
        if self.skips_unchanged:
            self._unchanged.look_up(self.step.instance, self.days)
        try:
            self._commit_days()
        except BaseException:
            # On success Dagster records every day itself; when the step fails or is interrupted it would record none.
            self._record_committed()
            yield from self._findings.results()
            raise
        finally:
            for upstream in (*self.upstreams.values(), *self._heads.values()):
                upstream.close()
        yield from self._findings.results()
        for day, recorded in self._settled():
            for table, key in self.spec.asset_keys.items():
                metadata = self._newer_record(table, day, recorded[key]) or recorded[key]
                self.context.add_asset_metadata(metadata, asset_key=key, partition_key=str(day))
        for key in self.spec.asset_keys.values():
            yield dg.MaterializeResult(asset_key=key)

    def _newer_record(self, table: str, day: date, recorded: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Of the run that replaced this one's commit of the day meanwhile; None if none did.

        Dagster records every day of a step that succeeds, and it is the newest record that is held against the head. If
        the other run has recorded nothing yet, all that is known is the digest.
        """
        head = self.store.head(self.spec.partition(table, day))
        if head is None or head.digest == recorded["digest"].value:
            return None
        newest = dg.AssetRecordsFilter(self.spec.asset_keys[table], asset_partitions=[str(day)])
        for record in self.step.instance.fetch_materializations(newest, limit=1).records:
            made = record.asset_materialization
            if made and "digest" in made.metadata and made.metadata["digest"].value == head.digest:
                return made.metadata
        return {"digest": dg.MetadataValue.text(head.digest), "unchanged": dg.MetadataValue.bool(False)}

    def _look_at_heads(self) -> None:
        """Before any input is read: who commits after this moment knew more than this run does."""
        for table in self.spec.contracts:
            self.store.sweep("/".join(self.spec.asset_keys[table].path))
        self._seen = self.store.look(
            self.spec.partition(table, day) for table in self.spec.contracts for day in self.days
        )

    def _recall(self) -> None:
        """Days that earlier attempts of this step settled are not computed again."""
        earlier, days = recall(self.step, self.spec.code_version), set(self.days)
        # A commit that was replaced since is another one's; what it is now, only computing the day again tells.
        committed = {day: each for day, each in earlier.committed.items() if day in days and self._is_head(day, each)}
        given_up = {day: failed for day, failed in earlier.given_up.items() if day in days and day not in committed}
        found = tuple(each for each in earlier.found if each[2] in committed or each[2] in given_up)
        self._earlier = Earlier(committed, given_up, found, earlier.recorded)
        self._outcome.recorded = committed.keys()
        self._outcome.failed.update(given_up)
        for noted in found:
            self._findings.note(*noted)

    def _is_head(self, day: date, recorded: Mapping[dg.AssetKey, Mapping[str, Any]]) -> bool:
        for table, key in self.spec.asset_keys.items():
            head = self.store.head(self.spec.partition(table, day))
            if head is None or key not in recorded or recorded[key]["digest"].value != head.digest:
                return False
            if recorded[key]["code_version"].value != self.spec.code_version:
                return False
        return True

    def _record_committed(self) -> None:
        for day, recorded in self._settled():
            for table, key in self.spec.asset_keys.items():
                is_recorded = (key, day) in self._earlier.recorded and day not in self._outcome.committed
                if not is_recorded and self._newer_record(table, day, recorded[key]) is None:
                    self.context.log_event(dg.AssetMaterialization(key, partition=str(day), metadata=recorded[key]))

    def _settled(self) -> Iterator[tuple[date, Mapping[dg.AssetKey, Mapping[str, Any]]]]:
        """Committed days of this attempt and those before, with the metadata of their records."""
        yield from self._earlier.committed.items()
        for day in self._outcome.committed:
            yield day, self._metadata(day)

    def _metadata(self, day: date) -> dict[dg.AssetKey, dict[str, Any]]:
        """Of the records of a day that this attempt committed."""
        records = self._outcome.committed[day]
        return {key: records[table].metadata() for table, key in self.spec.asset_keys.items()}

    def _commit_days(self) -> None:
        began = logged = noted = time.monotonic()
        rows = skipped = 0
        untold = []
        for done, day in enumerate(self.days, start=1):
            if day in self._outcome.recorded or day in self._outcome.failed:
                continue
            started = time.monotonic()
            self._outcome.attempt(day, partial(self._settle, day))
            records = self._outcome.committed.get(day, {})
            now = time.monotonic()
            report = partial(self._report, day, done, records, now - started)
            if day in self._outcome.failed and day not in self._outcome.given_up:
                untold.append(report)  # another attempt may have another end
            else:
                report()
            if self._outcome.is_hopeless:
                break
            rows += sum(record.rows for record in records.values() if isinstance(record, Materialization))
            skipped += any(isinstance(record, Renewal) for record in records.values())
            if now - logged >= LOG_EVERY_SECONDS or (done == len(self.days) > 1):
                self.context.log.info(
                    f"{self.spec.main}: {done} of {len(self.days)} days, {rows / max(now - began, 1e-9):,.0f} rows/s"
                )
                logged = now
            if now - noted >= NOTE_EVERY_SECONDS:
                self._note()
                noted = now
        if skipped:
            self.context.log.info(
                f"{self.spec.main}: {skipped} of {len(self.days)} days were not computed: the code and all inputs are "
                "those of their records"
            )
        self._raise_failure(untold)

    def _raise_failure(self, untold: Sequence[Callable[[], None]]) -> None:
        if not self._outcome.failed:
            return
        raised = self._outcome.failure()
        if isinstance(raised, dg.RetryRequested):
            self._note()
        else:
            for report in untold:
                report()
        raise raised

    def _note(self) -> None:
        """Write down the days settled since the last time."""
        committed = {day: self._metadata(day) for day in self._outcome.committed if day not in self._noted}
        given_up = {day: failed for day, failed in self._outcome.given_up.items() if day not in self._noted}
        fresh = committed.keys() | given_up.keys()
        if fresh:
            found = tuple(each for each in self._findings.noted() if each[2] in fresh)
            self._noted |= fresh
            settled = len(self._noted) + len(self._outcome.recorded)
            told = f"{self.spec.main}: {settled} of {len(self.days)} days are settled"
            note(self.context, self.step, self.spec.code_version, told, Earlier(committed, given_up, found))

    def _settle(self, day: date) -> dict[str, Materialization | Renewal]:
        """Commit a day, or find that it needs no computing; then it is checked as if it had been."""
        found = self._unchanged.record(day)
        if found is None:
            return dict(self._commit(day))
        records, inputs = found
        for table in records:
            self._audit.note_kept(table, day)
        self._audit.note_missing_inputs(day, inputs)
        books = records[self.spec.main].accounting
        if books is not None:
            self._audit.note_books(day, books, books.kept, books.rejected)
        rows = {table: partial(self._read_head, table, day) for table in records}
        self._audit.check(day, rows, partial(self._frame, day))
        return dict(records)

    def _read_head(self, table: str, day: date, kind: FrameKind) -> Any:
        return self._heads[table].read(day, same_day(), kind, self.history).frame

    def _commit(self, day: date) -> dict[str, Materialization]:
        """Compute, stage, audit and publish every table of one day."""
        spec, started, began_at = self.spec, time.monotonic(), self.step.retrying.now()
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
                self._audit.within_contract(table, day, partial(staged[table].write, frame))
            for table, one in staged.items():
                self._audit.within_contract(table, day, one.close)
                self._audit.note_kept(table, day)
            self._audit.note_missing_inputs(day, {name: read.inputs for name, read in reads.items()})
            accounting = self._audit.account(day, result, staged)
            self._audit.check(day, {table: one.read for table, one in staged.items()}, partial(self._frame, day))
            inputs = {name: read.inputs for name, read in reads.items()}
            for name, digest in (result.made_from if result else {}).items():
                inputs[name] = Inputs({day: digest}, ())
            record = self._record(inputs, began_at, time.monotonic() - started)
            # The main table last: who reads it finds what was rejected from it.
            published = {
                table: self.store.publish(
                    one.staged, replace(record, rows=one.rows), seen=self._seen[spec.partition(table, day)]
                )
                for table, one in reversed(staged.items())
            }
        seconds = time.monotonic() - started
        return {
            table: Materialization(
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

    def _record(self, inputs: Mapping[str, Inputs], began_at: datetime, seconds: float) -> Record:
        """How the tables of a day were made, but for their rows."""
        tables = {name: upstream.table for name, upstream in self.upstreams.items()}
        return Record(
            inputs={tables.get(name, name): dict(each.digests) for name, each in inputs.items()},
            began_at=began_at,
            recorded_at=self.step.retrying.now(),
            code_version=self.spec.code_version,
            seconds=seconds,
            run_id=self.step.run_id,
        )

    def _frame(self, day: date, name: str, kind: FrameKind) -> Any:
        return self._read(name, day, kind).frame

    def _read(self, name: str, day: date, kind: FrameKind) -> Read:
        return self.upstreams[name].read(day, self.spec.windows[name], kind, self.history)

    def _report(self, day: date, done: int, records: Mapping[str, Materialization | Renewal], seconds: float) -> None:
        error = self._outcome.failed.get(day)
        for table, key in self.spec.asset_keys.items():
            record = records.get(table)
            books = record.accounting if record else None
            rows = record.rows if record else 0
            report(
                FinishedDay(
                    table=key.to_user_string(),
                    day=day,
                    done=done,
                    total=len(self.days),
                    rows=rows,
                    read=books.read if books else rows,
                    duplicates=books.duplicates if books else 0,
                    rejected=books.rejected if books else 0,
                    unchanged=record.unchanged if record else False,
                    seconds=seconds,
                    skipped=isinstance(record, Renewal),
                    error=None if error is None else str(error),
                )
            )
