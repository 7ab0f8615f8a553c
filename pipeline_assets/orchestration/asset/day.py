"""One day of a daily asset, from its inputs to its published tables.

What it needs of the run is passed in, and what came of it is handed back. Does not belong here: Dagster.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pipeline_assets.errors import ContractBroken, PartitionMismatch
from pipeline_assets.orchestration.asset import audit
from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.partition.frames import FrameKind, Result, frame_kinds, streams_of
from pipeline_assets.orchestration.partition.materialization import Materialization, Renewal
from pipeline_assets.orchestration.partition.staging import StagedRows, located
from pipeline_assets.orchestration.partition.upstream import InputRows, Inputs, Upstream
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding
from pipeline_assets.rules.windows import same_day
from pipeline_assets.store import Seen, Store


@dataclass(frozen=True, slots=True)
class DayCommit:
    """The commit of one day of all tables that a function makes.

    Args:
        upstreams: by parameter.
        history: first day, before which nothing is read; and the last day that is over.
        seen: the heads when the step began.
        record: of every commit of this run, as far as that is known before it is made.
        findings: what was found so far, whatever becomes of the day.
    """

    spec: DailySpec
    store: Store
    upstreams: Mapping[str, Upstream]
    history: tuple[date, date]
    seen: Mapping[Partition, Seen]
    record: Record
    day: date
    findings: list[audit.Found] = field(default_factory=list)

    def compute(self) -> dict[str, Materialization]:
        """Call the function, stage and audit what it returns, and publish it; by table.

        Raises:
            ContractBroken, PartitionMismatch: the rows are refused.
            PartitionConflict: somebody published since the step began.
            PartitionMissing: an input has not been computed.
        """
        started = time.monotonic()
        returned, inputs = self._call()
        result = returned if isinstance(returned, Result) else None
        with ExitStack() as stack:
            staged = {table: self._stage(table, stack) for table in self.spec.contracts}
            self._write(staged, returned if result is None else result.rows)
            self._audit_inputs(inputs)
            accounting = self._account(staged, result) if self.spec.drops_rows else None
            self._check(lambda table, kind: staged[table].read(kind))
            for name, digest in (result.made_from if result else {}).items():
                inputs[name] = Inputs({self.day: digest}, ())
            records = self._records(staged, inputs, accounting, time.monotonic() - started)
            # The main table last: who reads it finds what was rejected from it.
            published = {
                table: self.store.publish(one.staged, records[table], seen=self.seen[one.staged.partition])
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
                code_version=self.spec.code_version,
                accounting=accounting if table == self.spec.main else None,
                inputs=inputs,
                contract=self.spec.contracts[table],
            )
            for table, one in staged.items()
        }

    def renew(self, records: Mapping[str, Renewal], inputs: Mapping[str, Inputs]) -> Mapping[str, Renewal]:
        """Check the heads of a day that needs no computing as if it had been computed; its records.

        Raises:
            ContractBroken: a blocking check fails.
        """
        for table in records:
            self.findings.append((table, audit.CONTRACT_CHECK, audit.CONTRACT_KEPT))
        self._audit_inputs(inputs)
        books = records[self.spec.main].accounting
        if books is not None:
            finding = audit.row_accounting(self._main, books, books.kept, books.rejected)
            self.findings.append((self.spec.main, audit.ACCOUNTING_CHECK, finding))
        heads = {table: Upstream(self.store, self.spec.partition(table, self.day).table) for table in records}
        try:
            self._check(lambda table, kind: heads[table].read(self.day, same_day(), kind, self.history).frame)
        finally:
            for head in heads.values():
                head.close()
        return records

    @property
    def _main(self) -> Partition:
        return self.spec.partition(self.spec.main, self.day)

    def _call(self) -> tuple[Any, dict[str, Inputs]]:
        """What the function returns, and what it was given."""
        kinds = frame_kinds(self.spec.function)
        reads = {name: self._read(name, kinds.get(name) or FrameKind.TABLE) for name in self.spec.windows}
        frames = {name: read.frame for name, read in reads.items()}
        returned = self.spec.function(self.day, **frames, **self.spec.params)
        return returned, {name: read.inputs for name, read in reads.items()}

    def _read(self, name: str, kind: FrameKind) -> InputRows:
        return self.upstreams[name].read(self.day, self.spec.windows[name], kind, self.history)

    def _records(
        self,
        staged: Mapping[str, StagedRows],
        inputs: Mapping[str, Inputs],
        accounting: Accounting | None,
        seconds: float,
    ) -> dict[str, Record]:
        """How each table of the day was made; the accounting is the main table's."""
        prefix = self.spec.asset_keys[self.spec.main].path[:-1]  # of upstream tables as well
        read = {"/".join([*prefix, name]): dict(each.digests) for name, each in inputs.items()}
        records = {
            table: replace(
                self.record,
                digest=one.digest,
                inputs=read,
                seconds=seconds,
                rows=one.rows,
                key=self.spec.contracts[table].key,
            )
            for table, one in staged.items()
        }
        if accounting is not None:
            # Counts of a pandas frame are numpy's integers, which JSON does not take.
            records[self.spec.main] = replace(
                records[self.spec.main],
                rows_read=int(accounting.read),
                rows_duplicate=int(accounting.duplicates),
                rows_rejected=int(accounting.rejected),
            )
        return records

    def _stage(self, table: str, stack: ExitStack) -> StagedRows:
        staged = stack.enter_context(self.store.stage(self.spec.partition(table, self.day)))
        rows = StagedRows(staged, self.spec.contracts[table], self.spec.timezone)
        stack.callback(rows.abandon)
        return rows

    def _write(self, staged: Mapping[str, StagedRows], rows: Any) -> None:
        """Write the rows of every table, checked against its contract on the way."""
        for table, frame in [(self.spec.main, rows)] if len(staged) == 1 else streams_of(rows, staged):
            with self._within_contract(table):
                staged[table].write(frame)
        for table, one in staged.items():
            with self._within_contract(table):
                one.close()
            self.findings.append((table, audit.CONTRACT_CHECK, audit.CONTRACT_KEPT))

    @contextmanager
    def _within_contract(self, table: str) -> Iterator[None]:
        try:
            yield
        except (ContractBroken, PartitionMismatch) as error:
            placed = located(error, self.spec.partition(table, self.day))
            self.findings.append((table, audit.CONTRACT_CHECK, Finding(passed=False, message=str(placed))))
            raise placed from error

    def _audit_inputs(self, inputs: Mapping[str, Inputs]) -> None:
        if self.spec.reads_windows:
            self.findings.append((self.spec.main, audit.INPUTS_CHECK, audit.inputs_complete(self._main, inputs)))

    def _account(self, staged: Mapping[str, StagedRows], result: Result | None) -> Accounting:
        """Hold the day's books against the rows that were really staged."""
        spec = self.spec
        if result is None:
            raise ContractBroken(
                f"{self._main}: the asset drops rows, so its function returns Result(rows, accounting)"
            )
        books = result.accounting() if callable(result.accounting) else result.accounting
        rejected = staged[spec.dead_letter].rows if spec.dead_letter else books.rejected
        finding = audit.row_accounting(self._main, books, staged[spec.main].rows, rejected)
        self.findings.append((spec.main, audit.ACCOUNTING_CHECK, finding))
        if not finding.passed:
            raise ContractBroken(f"{finding.message}. Rows must not vanish: the partition was not published.")
        return books

    def _check(self, rows: audit.Frames) -> None:
        """Run the author's checks on the rows of the tables."""

        def frame(name: str, kind: FrameKind) -> Any:
            return rows(name, kind) if name in self.spec.contracts else self._read(name, kind).frame

        blocked = []
        for check, finding in audit.author_checks(self.spec, self.day, frame):
            self.findings.append((self.spec.main, check.name, finding))
            if check.blocking and not finding.passed:
                blocked.append(f"{check.name}: {finding.message}")
        if blocked:
            raise ContractBroken(f"{self._main}: {'; '.join(blocked)}. The partition was not published.")
