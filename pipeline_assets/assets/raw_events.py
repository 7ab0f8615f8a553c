"""`raw_events` and `rejected_events`: what landed on a day, as events or as rows with the reason why not."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline_assets import Accounting, Column, Contract, Finding, Result, check
from pipeline_assets.assets.source.landing_rows import columns_of, read_rows
from pipeline_assets.assets.source.records import FILE, LINE, TEXT, MalformedRecord
from pipeline_assets.assets.source.select import Source
from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import Landing, LandingFile

EVENT_COLUMNS = (
    Column("event_id", pa.string(), description="Unique per event; a redelivery has the same."),
    Column("user_id", pa.string(), nullable=True, description="Null for a guest."),
    Column("event_type", pa.string()),
    Column("amount", pa.decimal128(18, 4), nullable=True, description="Money, or what the source counts."),
    Column("event_time", pa.timestamp("us", "UTC"), description="When it happened."),
)
RAW_EVENTS = Contract((*EVENT_COLUMNS, Column("source_file", pa.string(), description="Path below the landing zone.")))
RULES = ("malformed", "cast", "required", "source_rule", "filtered", "too_late", "too_early")
REJECTED_EVENTS = Contract(
    (
        Column("source_file", pa.string(), description="Path below the landing zone."),
        Column("source_line", pa.int64(), nullable=True, description="Line in the file, from 1; null in Parquet."),
        Column("rule", pa.string(), one_of=RULES, description="What the row broke."),
        Column("reason", pa.string(), description="For a person."),
        Column("row_text", pa.string(), description="The row as it landed."),
    )
)
LANDING = "landing"
"""The asset that stands for the files."""
REJECTED_SHARE_EXPECTED = 0.05


def raw_events(day: date, *, landing: Landing, source: Source, timezone: str, lateness_days: int) -> Result:
    """Events that landed on a day, in the order of files and lines; and the rows that are none.

    Args:
        day: arrival day.
        lateness_days: events of days further back are rejected as too_late.

    Raises:
        LandingError: a file cannot be read. LandingInProgress: a file is still being written.
    """
    files = landing.files(day)
    landing.check_complete(day, files)
    fingerprint = landing.fingerprint(day, files)  # holds for what is read below: it is checked again at the end
    counted = {"read": 0, "kept": 0, "rejected": 0}

    def judged_files() -> Iterator[Mapping[str, pa.Table]]:
        _check_columns(files, source)
        for file in files:
            for batch in read_rows(file, source.columns):
                rows = _with_columns(batch.rows, source.columns)
                judged = source.judge(rows, day=day, timezone=timezone, lateness_days=lateness_days)
                kept = judged.filter(pc.is_null(judged["rule"])).select(RAW_EVENTS.schema.names)
                rejected = _rejected(judged, batch.malformed, file)
                counted["read"] += batch.rows.num_rows + len(batch.malformed)
                counted["kept"] += kept.num_rows
                counted["rejected"] += rejected.num_rows
                yield {"raw_events": kept, "rejected_events": rejected}

    def streams() -> Iterator[Mapping[str, pa.Table]]:
        try:
            yield from judged_files()
        except LandingError:
            landing.check_complete(day, files)  # half a file looks damaged: that it is being written explains it
            raise
        landing.check_complete(day, files)

    return Result(streams(), accounting=lambda: Accounting(**counted), made_from={LANDING: fingerprint})


@check(blocking=False, alert=True)
def rejected_share(day: date, rejected_events: pa.Table, raw_events: pa.RecordBatchReader) -> Finding:
    """No more than one row in twenty is rejected."""
    kept = sum(batch.num_rows for batch in raw_events)
    rejected = rejected_events.num_rows
    share = rejected / max(kept + rejected, 1)
    rules = {
        f"rejected_{count['values']}": count["counts"]
        for count in rejected_events["rule"].combine_chunks().value_counts().to_pylist()
    }
    message = f"{day}: {rejected} of {kept + rejected} rows rejected ({share:.2%})"
    return Finding(share <= REJECTED_SHARE_EXPECTED, message, {"rejected": rejected, "kept": kept, **rules})


@check(blocking=False)
def uploads_are_complete(day: date, landing: Landing) -> Finding:
    """No file of the day bears the name of an unfinished upload; such files are not read."""
    names = landing.unfinished(day)
    message = f"{day}: not read, by their names unfinished uploads: {', '.join(names)}" if names else f"{day}: none"
    return Finding(not names, message, {"unfinished": len(names)})


def _check_columns(files: Sequence[LandingFile], source: Source) -> None:
    """A column that no file of the day has is an error; of JSON lines, any of which may have any, none is known.

    Raises:
        LandingError: names it, and the columns that were found.
    """
    found = {file.name: columns_of(file) for file in files}
    named = {name: columns for name, columns in found.items() if columns}
    if None in found.values() or not named:
        return
    known = {column.lower() for columns in named.values() for column in columns}
    missing = [column for column in source.columns if column not in {*known, FILE, LINE, TEXT}]
    if missing:
        name, columns = next(iter(named.items()))
        raise LandingError(
            f"{name}: has no column {', '.join(missing)}, which {source.name} uses, nor has another file of the day; "
            f"its columns are {', '.join(columns)}"
        )


def _with_columns(rows: pa.Table, wanted: Sequence[str]) -> pa.Table:
    """Files of one day may differ in columns: one that another file has is null here."""
    present = {name.lower() for name in rows.column_names}
    for name in wanted:
        if name not in present:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
    return rows


def _rejected(judged: pa.Table, malformed: Sequence[MalformedRecord], file: LandingFile) -> pa.Table:
    """Rejected rows of a batch in the order of their lines."""
    broken = judged.filter(pc.is_valid(judged["rule"])).select([FILE, LINE, "rule", "reason", TEXT])
    columns = REJECTED_EVENTS.schema.names
    rows: list[dict[str, Any]] = [
        {
            "source_file": file.name,
            "source_line": each.line,
            "rule": "malformed",
            "reason": each.reason,
            "row_text": each.text,
        }
        for each in malformed
    ]
    schema = pa.schema([pa.field(column.name, column.type) for column in REJECTED_EVENTS.columns])
    joined = pa.concat_tables([broken.rename_columns(columns).cast(schema), pa.Table.from_pylist(rows, schema)])
    return joined.sort_by([("source_line", "ascending")]) if malformed else joined
