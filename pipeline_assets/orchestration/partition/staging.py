"""One partition from frame to staged file: conform, audit, write. Nothing here is visible to a reader yet."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline_assets.errors import ContractBroken, PipelineError
from pipeline_assets.orchestration.partition.frames import FrameKind, is_stream, tables_of, to_pandas
from pipeline_assets.orchestration.partition.materialization import markdown
from pipeline_assets.rules.contract import Audit, Contract
from pipeline_assets.store import Staged
from pipeline_assets.store.parquet import PartitionWriter, read_batches, read_table


@dataclass(slots=True)
class StagedRows:
    """Writes the frames of one partition into its staged file, auditing them on the way.

    Args:
        contract: None takes the frame's own schema and audits nothing.
        timezone: of the partition's day.
    """

    staged: Staged
    contract: Contract | None
    timezone: str
    rows: int = 0
    schema: pa.Schema | None = None
    preview: str = ""
    """The first rows, in Markdown."""
    _writer: PartitionWriter | None = None
    _audit: Audit | None = None
    _table: pa.Table | None = None
    _frames: int = 0

    def write(self, frame: object) -> None:
        """Add the rows of a frame.

        Raises:
            ContractBroken: the frame is none, or its columns are not the contract's.
        """
        for table in tables_of(frame):
            conformed = self.contract.conform(table) if self.contract else table
            if self._writer is None:
                self._open(conformed.schema)
            self._add(conformed)
            self._frames += 1
            # A frame that is in memory anyway serves the checks; a stream is read back from the staged file.
            self._table = conformed if self._frames == 1 and not is_stream(frame) else None
        if self._writer is None and is_stream(frame):
            self.write(frame.schema.empty_table())  # type: ignore[attr-defined]  # it is a reader

    def close(self) -> None:
        """Finish the file and check that its rows keep the contract.

        Raises:
            ContractBroken, PartitionMismatch: nothing may be published.
        """
        if self._writer is None:
            if self.contract is None:
                raise ContractBroken("no frame was returned; return an empty frame with columns for a day without rows")
            self.write(self.contract.schema.empty_table())
        if self._audit is not None:
            self._audit.close()
        assert self._writer is not None  # noqa: S101 - opened by write
        self._writer.close()

    @property
    def digest(self) -> str:
        """Of the rows; the file is closed."""
        assert self._writer is not None  # noqa: S101 - opened by write
        return self._writer.digest

    def abandon(self) -> None:
        """Let go of the file after an error."""
        if self._writer is not None:
            self._writer.abandon()

    def read(self, kind: FrameKind) -> Any:
        """Read the staged rows, for a check."""
        if self._table is not None and kind is not FrameKind.READER:
            return to_pandas(self._table) if kind is FrameKind.DATAFRAME else self._table
        file = self.staged.source()
        if kind is FrameKind.READER:
            return read_batches(file)
        with file:
            table = read_table(file)
        return to_pandas(table) if kind is FrameKind.DATAFRAME else table

    def _open(self, schema: pa.Schema) -> None:
        contract = self.contract
        self.schema = contract.schema if contract else schema
        self._writer = PartitionWriter(
            self.staged, self.schema, contract_version=str(contract.version) if contract else ""
        )
        if contract:
            self._audit = Audit(contract, self.staged.partition.day, self.timezone)

    def _add(self, table: pa.Table) -> None:
        assert self._writer is not None  # noqa: S101 - opened by write
        if self.rows == 0:
            self.preview = markdown(table)
        self.rows += table.num_rows
        if self._audit is not None:
            self._audit.watch(table)
            if self._audit.is_broken:
                return  # never published; read on only to count what else is broken
        self._writer.write(table)


def located(error: PipelineError, partition: object) -> PipelineError:
    """Lead an error's message by the partition that it is about."""
    text = str(error)
    return error if text.startswith(str(partition)) else type(error)(f"{partition}: {text}")
