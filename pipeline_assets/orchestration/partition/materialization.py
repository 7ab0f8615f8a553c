"""The record of a commit: how it was made. It goes to Dagster's event log as metadata of the partition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pyarrow as pa

from pipeline_assets.orchestration.history.event_log import COMMIT_NAMES
from pipeline_assets.orchestration.history.materializations import COMMIT
from pipeline_assets.orchestration.partition.table_keys import KEY_CONSTRAINT
from pipeline_assets.orchestration.partition.upstream import Inputs
from pipeline_assets.record import Record
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.contract import Contract
from pipeline_assets.store import Commit, Published

PREVIEW_ROWS = 5
PREVIEW_CELL_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Materialization:
    """Everything the project writes about one commit. Field names are the metadata keys that later readers rely on.

    A range keeps the records of all its days to its end, so there are no rows in them.

    Args:
        preview: the first rows, see `markdown`.
        inputs: by name of the parameter.
    """

    published: Published
    rows: int
    schema: pa.Schema
    preview: str
    seconds: float
    code_version: str | None = None
    accounting: Accounting | None = None
    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    contract: Contract | None = None

    @property
    def unchanged(self) -> bool:
        """True if the commit before it had the same digest."""
        return self.published.unchanged

    def metadata(self) -> dict[str, Any]:
        """Give the metadata of one partition's materialization."""
        commit = self.published.commit
        values: dict[str, Any] = {
            "dagster/row_count": dg.MetadataValue.int(self.rows),
            "dagster/uri": dg.MetadataValue.path(commit.uri),
            "dagster/column_schema": table_schema(self.schema, self.contract),
            "bytes": dg.MetadataValue.int(commit.size_bytes),
            "unchanged": dg.MetadataValue.bool(self.published.unchanged),
            "seconds": dg.MetadataValue.float(round(self.seconds, 4)),
            "preview": dg.MetadataValue.md(self.preview),
            **named(commit),
        }
        if self.code_version:
            values["code_version"] = dg.MetadataValue.text(self.code_version)
        if self.accounting:
            # Counts of a pandas frame are numpy's integers, which Dagster does not take.
            values["rows_read"] = dg.MetadataValue.int(int(self.accounting.read))
            values["rows_duplicate"] = dg.MetadataValue.int(int(self.accounting.duplicates))
            values["rows_rejected"] = dg.MetadataValue.int(int(self.accounting.rejected))
        if self.inputs:
            values["inputs"] = dg.MetadataValue.json(
                {name: {str(day): digest for day, digest in each.digests.items()} for name, each in self.inputs.items()}
            )
            missing = {name: [str(day) for day in each.missing] for name, each in self.inputs.items() if each.missing}
            if missing:
                values["inputs_missing"] = dg.MetadataValue.json(missing)
        return values


@dataclass(frozen=True, slots=True)
class Renewal:
    """A record that is written again as it was, as its partition needed no computing.

    Args:
        before: metadata of the record.
        skipped: why.
    """

    before: Mapping[str, dg.MetadataValue[Any]]
    skipped: str

    @property
    def rows(self) -> int:
        """Give the number of the partition's rows."""
        return int(self._count("dagster/row_count") or 0)

    @property
    def accounting(self) -> Accounting | None:
        """Give the accounting as it was recorded; None for a table that has none."""
        read = self._count("rows_read")
        if read is None:
            return None
        return Accounting(read, self.rows, self._count("rows_duplicate") or 0, self._count("rows_rejected") or 0)

    @property
    def unchanged(self) -> bool:
        """True: a partition that needed no computing is as it was."""
        return True

    def metadata(self) -> dict[str, Any]:
        """Give the metadata of one partition's materialization."""
        told = {"unchanged": dg.MetadataValue.bool(True), "skipped": dg.MetadataValue.text(self.skipped)}
        return {**self.before, **told}

    def _count(self, name: str) -> int | None:
        value = value_of(self.before, name)
        return value if isinstance(value, int) else None


def named(commit: Commit) -> dict[str, dg.MetadataValue[Any]]:
    """Give the digest of its rows, and what names it in the lake: by that the event log's copy is known as its."""
    record = commit.record or Record(version=commit.version)
    names = {name: value for name in COMMIT_NAMES if (value := getattr(record, name))}
    return {"digest": dg.MetadataValue.text(commit.digest), COMMIT: dg.MetadataValue.json(names)}


def metadata_of(commit: Commit) -> dict[str, dg.MetadataValue[Any]]:
    """Give the metadata of a commit that is recorded again, as far as its record in the lake tells it."""
    record = commit.record or Record()
    numbers = {
        "dagster/row_count": record.rows,
        "bytes": commit.size_bytes,
        "rows_read": record.rows_read,
        "rows_duplicate": record.rows_duplicate,
        "rows_rejected": record.rows_rejected,
    }
    inputs = {
        name.rpartition("/")[2]: {str(day): digest for day, digest in days.items()}
        for name, days in record.inputs.items()
    }
    return {
        **named(commit),
        "dagster/uri": dg.MetadataValue.path(commit.uri),
        "unchanged": dg.MetadataValue.bool(record.unchanged),
        **{name: dg.MetadataValue.int(value) for name, value in numbers.items() if value is not None},
        **({} if record.seconds is None else {"seconds": dg.MetadataValue.float(round(record.seconds, 4))}),
        **({} if record.code_version is None else {"code_version": dg.MetadataValue.text(record.code_version)}),
        **({"inputs": dg.MetadataValue.json(inputs)} if inputs else {}),
    }


def value_of(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> Any:
    """Take a value out of metadata; None if it is not there."""
    return metadata[name].value if name in metadata else None


def table_schema(schema: pa.Schema, contract: Contract | None = None) -> dg.TableSchemaMetadataValue:
    """Give column names, types and descriptions for the Dagster UI."""
    key = contract.key if contract else ()
    described = {column.name: column.description for column in contract.columns} if contract else {}
    return dg.MetadataValue.table_schema(
        dg.TableSchema(
            columns=[
                dg.TableColumn(
                    field.name,
                    type=str(field.type),
                    description=described.get(field.name) or None,
                    constraints=dg.TableColumnConstraints(
                        nullable=field.nullable, other=[KEY_CONSTRAINT] if field.name in key else []
                    ),
                )
                for field in schema
            ]
        )
    )


def markdown(rows: pa.Table) -> str:
    """Write the first rows as a Markdown table."""
    head = rows.slice(0, PREVIEW_ROWS)
    if head.num_rows == 0:
        return "no rows"
    lines = [head.column_names, ["---"] * head.num_columns]
    lines += [[_cell(value) for value in row.values()] for row in head.to_pylist()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", " ").replace("\n", " ")
    return text if len(text) <= PREVIEW_CELL_CHARACTERS else text[: PREVIEW_CELL_CHARACTERS - 1] + "…"
