"""Parquet bytes that are a function of rows and schema alone, and reading them back.

Deterministic: rows are cut into row groups at fixed counts, each group is one contiguous chunk, and what depends on
the data (which columns get a dictionary) is decided from the first rows of the partition, never from how the rows
happened to arrive. The footer names table, partition and contract version; nothing in it tells when or by whom.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline_assets.errors import PartitionDamaged
from pipeline_assets.partition import Partition
from pipeline_assets.store.protocol import Staged
from pipeline_assets.store.row_digest import RowDigest

ROW_GROUP_ROWS = 1 << 20
"""What the writer holds in memory. Groups of 128 Ki rows took 1.07 times as long to write."""
READ_BATCH_ROWS = 1 << 17
DICTIONARY_GLANCE_ROWS, DICTIONARY_GLANCE_SHARE = 1 << 13, 0.97
DICTIONARY_SAMPLE_ROWS, DICTIONARY_SAMPLE_SHARE = 1 << 17, 0.45
"""Rows looked at, and the share of distinct values up to which a column gets a dictionary."""
INT64_DIGITS = 18
CONTRACT_VERSION = "contract_version"


class PartitionWriter:
    """Writes batches of one schema into a staged file; memory holds one row group.

    Args:
        schema: extension metadata (pandas' own, for one) is not kept.
        contract_version: goes into the footer when given.
    """

    def __init__(self, staged: Staged, schema: pa.Schema, *, contract_version: str = "") -> None:
        partition = staged.partition
        footer = {"table": partition.table, "partition": partition.key.isoformat()}
        if contract_version:
            footer[CONTRACT_VERSION] = contract_version
        self.rows = 0
        self._digest = RowDigest(schema, contract_version=contract_version)
        self._schema = pa.schema([field.remove_metadata() for field in schema], metadata=footer)
        self._staged = staged
        self._file = staged.sink()
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._held_rows = 0

    def write(self, batch: pa.Table) -> None:
        """Add rows, given in the writer's schema."""
        table = batch.cast(self._schema).replace_schema_metadata(self._schema.metadata)
        while table.num_rows:
            head = table.slice(0, ROW_GROUP_ROWS - self._held_rows)
            self._held.append(head)
            self._held_rows += head.num_rows
            if self._held_rows == ROW_GROUP_ROWS:
                self._flush()
            table = table.slice(head.num_rows)

    @property
    def digest(self) -> str:
        """Of the rows that were written; see `RowDigest`."""
        return self._digest.text()

    def close(self) -> None:
        """Write what is held, and the footer."""
        if self._held_rows or self._writer is None:
            self._flush()
        assert self._writer is not None  # noqa: S101 - the flush has made it
        with self._staged.explained():
            self._writer.add_key_value_metadata({"digest": self.digest})
            self._writer.close()
            self._file.close()

    def abandon(self) -> None:
        """Let go of the file; what it holds is of no use."""
        self._file.close()

    def _flush(self) -> None:
        # One contiguous chunk, so that page boundaries cannot follow the batches that happened to arrive, whatever
        # pyarrow makes of chunks (24 to 26: nothing; no document says so).
        group = pa.concat_tables([self._schema.empty_table(), *self._held]).combine_chunks()
        self._held, self._held_rows = [], 0
        with self._staged.explained():
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._file, self._schema, **_options(group))
            self._writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
        self._digest.add(group)
        self.rows += group.num_rows


@contextmanager
def undamaged(partition: Partition) -> Iterator[None]:
    """Turn what Arrow says of a partition's file that it cannot read into an error that names the partition.

    Raises:
        PartitionDamaged: the file is no Parquet, or was changed.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise PartitionDamaged(
            f"{partition}: its file cannot be read ({str(error).strip()}). The next plan makes it again; "
            "`pipeline fsck` says what else is wrong, and `pipeline restore` brings a commit from before back."
        ) from error


def read_table(file: pa.NativeFile) -> pa.Table:
    """All rows of a Parquet file."""
    # pq.read_table imports pandas, a quarter of a second in each process, and takes 1.4 times as long for a small file.
    return pq.ParquetFile(file, pre_buffer=True).read().replace_schema_metadata(None)


def read_batches(file: pa.NativeFile) -> pa.RecordBatchReader:
    """The rows of a Parquet file as a stream, one row group in memory at a time."""
    # With pre_buffer every row group that was read stays in memory: 97 MB instead of 9.5 MB for 12 million integers.
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    schema = parquet.schema_arrow.remove_metadata()
    return pa.RecordBatchReader.from_batches(
        schema, (batch.replace_schema_metadata(None) for batch in parquet.iter_batches(READ_BATCH_ROWS))
    )


def undamaged_batches(partition: Partition, file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The rows of a partition as a stream, as `read_batches`.

    Raises:
        PartitionDamaged: see `undamaged`; when the batch is asked for that cannot be read.
    """
    with undamaged(partition):
        batches = read_batches(file)
    while True:
        with undamaged(partition):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def rows_digest(file: pa.NativeFile) -> str | None:
    """The digest of a file's rows; None if it holds none, being no Parquet file or a damaged one."""
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        version = (parquet.metadata.metadata or {}).get(CONTRACT_VERSION.encode(), b"")
        digest = RowDigest(parquet.schema_arrow, contract_version=version.decode())
        for batch in parquet.iter_batches(READ_BATCH_ROWS):
            digest.add(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError):
        return None
    return digest.text()


def row_count(file: pa.NativeFile) -> int:
    """Number of rows, from the footer."""
    return int(pq.read_metadata(file).num_rows)


def uncompressed_bytes(file: pa.NativeFile) -> int:
    """Size of the decoded column chunks, from the footer: how much memory a whole read would take, about."""
    metadata = pq.read_metadata(file)
    return sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))


def _options(first: pa.Table) -> Mapping[str, Any]:
    dictionary, encoding = [], {}
    for field in first.schema:
        if _may_repeat(field.type) and _repeats(first[field.name]):
            dictionary.append(field.name)
        elif pt.is_floating(field.type) and not pt.is_float16(field.type):
            encoding[field.name] = "BYTE_STREAM_SPLIT"
        elif _stored_as_integer(field.type):
            encoding[field.name] = "DELTA_BINARY_PACKED"
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": dictionary,
        "column_encoding": encoding,
        "store_decimal_as_integer": True,
        # Of long strings they cost a tenth of the write, and one row group has nothing to prune.
        "write_statistics": [field.name for field in first.schema if not pt.is_string(field.type)],
    }


def _stored_as_integer(kind: pa.DataType) -> bool:
    if pt.is_decimal(kind):
        return bool(kind.precision <= INT64_DIGITS)
    return any(test(kind) for test in (pt.is_integer, pt.is_date, pt.is_time, pt.is_timestamp, pt.is_duration))


def _may_repeat(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pt.is_string, pt.is_large_string, pt.is_floating, pt.is_decimal))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a dictionary pays: not for keys, as a glance tells; for users and prices, as a longer look does."""
    glance, sample = column.slice(0, DICTIONARY_GLANCE_ROWS), column.slice(0, DICTIONARY_SAMPLE_ROWS)
    if pc.count_distinct(glance).as_py() > len(glance) * DICTIONARY_GLANCE_SHARE:
        return False
    return bool(pc.count_distinct(sample).as_py() <= len(sample) * DICTIONARY_SAMPLE_SHARE)
