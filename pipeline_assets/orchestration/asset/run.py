"""One run of a daily asset: its days one after the other, what earlier attempts left of them, and what Dagster records.

Days are independent: a day that fails neither undoes nor hides the others. Whatever ends the run early, the days that
were committed are recorded.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.asset.day import DayCommit
from pipeline_assets.orchestration.asset.findings import Findings
from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.asset.unchanged_days import UnchangedDays
from pipeline_assets.orchestration.finished_days import FinishedDay, report
from pipeline_assets.orchestration.history.tags import SKIP_UNCHANGED_TAG
from pipeline_assets.orchestration.partition.materialization import Materialization, Renewal, named
from pipeline_assets.orchestration.partition.outcome import Outcome
from pipeline_assets.orchestration.partition.upstream import Upstream
from pipeline_assets.orchestration.retry.attempts import SettledDays, note, recall
from pipeline_assets.orchestration.retry.step import Step
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.store import Commit, Seen, Store

LOG_EVERY_SECONDS = 5.0
NOTE_EVERY_SECONDS = 1.0
"""So much work is lost with a worker that is killed; a note takes a few milliseconds."""

Records = Mapping[str, Materialization | Renewal]
"""What was recorded of one day, by table."""
Metadata = Mapping[dg.AssetKey, Mapping[str, Any]]
"""What was recorded of one day, by asset key, as Dagster has it."""


@dataclass(slots=True)
class DailyRun:
    """The days of one run of one asset. `execute` is what the Dagster step does.

    Args:
        upstreams: by parameter.
        history: first day, before which nothing is read; and the last day that is over.
    """

    spec: DailySpec
    context: dg.AssetExecutionContext
    step: Step
    store: Store
    upstreams: Mapping[str, Upstream]
    days: Sequence[date]
    history: tuple[date, date]
    _seen: dict[Partition, Seen] = field(default_factory=dict)
    _earlier: SettledDays = field(default_factory=SettledDays)
    _unchanged: UnchangedDays = field(init=False)
    _outcome: Outcome[Records] = field(init=False)
    _findings: Findings = field(init=False)
    _noted: set[date] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._unchanged = UnchangedDays(self.spec, self.store, self.upstreams, self.history)
        self._outcome = Outcome(self.spec.main, self.days, self.step, piecewise=True)
        self._findings = Findings(self.spec)

    def execute(self) -> Iterator[Any]:
        """Commit every day and yield what Dagster records.

        Raises:
            dagster.Failure: days failed; they are named, and the others are recorded.
            dagster.RetryRequested: as above, and some of them may pass soon.
        """
        self._look_at_heads()
        self._recall()
        if self.context.run.tags.get(SKIP_UNCHANGED_TAG) == "true":
            self._unchanged.look_up(self.step.instance, self.days)
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
        for day, recorded in self._settled():
            for table, key in self.spec.asset_keys.items():
                metadata = self._newer_record(table, day, recorded[key]) or recorded[key]
                self.context.add_asset_metadata(metadata, asset_key=key, partition_key=str(day))
        for key in self.spec.asset_keys.values():
            yield dg.MaterializeResult(asset_key=key)

    def _look_at_heads(self) -> None:
        """Before any input is read: who commits after this moment knew more than this run does."""
        for table in self.spec.contracts:
            partitions = [self.spec.partition(table, day) for day in self.days]
            self.store.sweep(partitions[0].table)
            self._seen.update(self.store.look(partitions))

    def _recall(self) -> None:
        """Take over the days that earlier attempts of this step settled."""
        earlier, days = recall(self.step, self.spec.code_version), set(self.days)
        # A commit that was replaced since is another one's; what it is now, only computing the day again tells.
        committed = {day: each for day, each in earlier.committed.items() if day in days and self._is_head(day, each)}
        given_up = {day: failed for day, failed in earlier.given_up.items() if day in days and day not in committed}
        found = tuple(each for each in earlier.found if each[2] in committed or each[2] in given_up)
        self._earlier = SettledDays(committed, given_up, found, earlier.recorded)
        self._outcome.recorded = committed.keys()
        self._outcome.failed.update(given_up)
        for each in found:
            self._findings.add(*each)

    def _is_head(self, day: date, recorded: Metadata) -> bool:
        return all(
            key in recorded
            and (head := self._head(table, day)) is not None
            and head.is_of(recorded[key]["digest"].value)
            and recorded[key]["code_version"].value == self.spec.code_version
            for table, key in self.spec.asset_keys.items()
        )

    def _head(self, table: str, day: date) -> Commit | None:
        return self.store.head(self.spec.partition(table, day))

    def _commit_days(self) -> None:
        began = logged = noted = time.monotonic()
        untold = []
        for done, day in enumerate(self.days, start=1):
            if day in self._outcome.recorded or day in self._outcome.failed:
                continue
            started = time.monotonic()
            self._outcome.attempt(day, partial(self._commit, day))
            now = time.monotonic()
            tell = partial(self._report, day, done, now - started)
            if day in self._outcome.failed and day not in self._outcome.given_up:
                untold.append(tell)  # another attempt may have another end
            else:
                tell()
            if self._outcome.is_hopeless:
                break
            if now - logged >= LOG_EVERY_SECONDS or (done == len(self.days) > 1):
                self._log_rate(done, now - began)
                logged = now
            if now - noted >= NOTE_EVERY_SECONDS:
                self._note()
                noted = now
        self._log_skipped()
        if self._outcome.failed:
            failure = self._outcome.failure()
            if isinstance(failure, dg.RetryRequested):
                self._note()
            else:
                for tell in untold:
                    tell()
            raise failure

    def _commit(self, day: date) -> Records:
        """Compute a day, or find that it needs no computing; its findings are kept whatever becomes of it."""
        record = Record(
            began_at=self.step.retrying.now(),
            code_version=self.spec.code_version,
            run_id=self.step.run_id,
            step=uuid.uuid4().hex,
        )
        commit = DayCommit(self.spec, self.store, self.upstreams, self.history, self._seen, record, day)
        try:
            unchanged = self._unchanged.find(day)
            return commit.compute() if unchanged is None else commit.renew(*unchanged)
        finally:
            for table, check, finding in commit.findings:
                self._findings.add(table, check, day, finding)

    def _report(self, day: date, done: int, seconds: float) -> None:
        """Tell whoever listens that a day is finished."""
        records, error = self._outcome.committed.get(day, {}), self._outcome.failed.get(day)
        for table, key in self.spec.asset_keys.items():
            record = records.get(table)
            rows = record.rows if record else 0
            books = (record.accounting if record else None) or Accounting(read=rows, kept=rows)
            report(
                FinishedDay(
                    table=key.to_user_string(),
                    day=day,
                    done=done,
                    total=len(self.days),
                    rows=rows,
                    read=books.read,
                    duplicates=books.duplicates,
                    rejected=books.rejected,
                    unchanged=record.unchanged if record else False,
                    seconds=seconds,
                    skipped=isinstance(record, Renewal),
                    error=None if error is None else str(error),
                )
            )

    def _log_rate(self, done: int, seconds: float) -> None:
        records = [record for each in self._outcome.committed.values() for record in each.values()]
        rows = sum(record.rows for record in records if isinstance(record, Materialization))
        rate = rows / max(seconds, 1e-9)
        self.context.log.info(f"{self.spec.main}: {done} of {len(self.days)} days, {rate:,.0f} rows/s")

    def _log_skipped(self) -> None:
        skipped = sum(isinstance(each[self.spec.main], Renewal) for each in self._outcome.committed.values())
        if skipped:
            self.context.log.info(
                f"{self.spec.main}: {skipped} of {len(self.days)} days were not computed: the code and all inputs are "
                "those of their records"
            )

    def _note(self) -> None:
        """Write down the days settled since the last time."""
        committed = {day: self._metadata(day) for day in self._outcome.committed if day not in self._noted}
        given_up = {day: failed for day, failed in self._outcome.given_up.items() if day not in self._noted}
        fresh = committed.keys() | given_up.keys()
        if not fresh:
            return
        found = tuple(each for each in self._findings.noted() if each[2] in fresh)
        self._noted |= fresh
        settled = len(self._noted) + len(self._outcome.recorded)
        told = f"{self.spec.main}: {settled} of {len(self.days)} days are settled"
        note(self.context, self.step, self.spec.code_version, told, SettledDays(committed, given_up, found))

    def _record_committed(self) -> None:
        for day, recorded in self._settled():
            for table, key in self.spec.asset_keys.items():
                is_recorded = (key, day) in self._earlier.recorded and day not in self._outcome.committed
                if not is_recorded and self._newer_record(table, day, recorded[key]) is None:
                    self.context.log_event(dg.AssetMaterialization(key, partition=str(day), metadata=recorded[key]))

    def _settled(self) -> Iterator[tuple[date, Metadata]]:
        """Committed days of this attempt and those before, with the metadata of their records."""
        yield from self._earlier.committed.items()
        for day in self._outcome.committed:
            yield day, self._metadata(day)

    def _metadata(self, day: date) -> Metadata:
        """Of the records of a day that this attempt committed."""
        records = self._outcome.committed[day]
        return {key: records[table].metadata() for table, key in self.spec.asset_keys.items()}

    def _newer_record(self, table: str, day: date, recorded: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Of the run that replaced this one's commit of the day meanwhile; None if none did.

        Dagster records every day of a step that succeeds, and the newest record is compared with the head. If the other
        run has recorded nothing yet, all that is known is the digest.
        """
        head = self._head(table, day)
        if head is None or head.is_of(recorded["digest"].value):
            return None
        newest = dg.AssetRecordsFilter(self.spec.asset_keys[table], asset_partitions=[str(day)])
        for record in self.step.instance.fetch_materializations(newest, limit=1).records:
            made = record.asset_materialization
            if made and "digest" in made.metadata and head.is_of(str(made.metadata["digest"].value)):
                return made.metadata
        return {**named(head), "unchanged": dg.MetadataValue.bool(False)}
