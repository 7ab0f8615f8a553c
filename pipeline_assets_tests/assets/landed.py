"""Landing files, and what `raw_events` makes of them. It never loses a row: whoever asks for an outcome checks that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline_assets.assets.raw_events import RAW_EVENTS, REJECTED_EVENTS, raw_events
from pipeline_assets.assets.source.select import Source, parse_source
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.contract import Audit, Contract
from pipeline_assets.store.landing import LandingZone

DAY = date(2026, 6, 10)
SOURCES = Path(__file__).resolve().parents[2] / "sources"
HEADER = "id,who,kind,amount,time\n"
SOURCE = parse_source(
    """
    SELECT id AS event_id, who AS user_id, kind AS event_type, amount, CAST(time AS TIMESTAMPTZ) AS event_time
    FROM landing
    """,
    name="test.sql",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one arrival day gave."""

    kept: pa.Table
    rejected: pa.Table
    accounting: Accounting

    def ids(self) -> list[str]:
        """Of the kept events, in their order."""
        return list(self.kept["event_id"].to_pylist())

    def rejects(self, *columns: str) -> list[tuple[Any, ...]]:
        """The columns of rejected rows, in their order."""
        return list(zip(*(self.rejected[name].to_pylist() for name in columns), strict=True))


def land(root: Path, name: str, data: bytes | str, day: date = DAY) -> Path:
    """Put a file into the folder of an arrival day."""
    path = root / f"dt={day}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def arrive(
    root: Path, day: date = DAY, *, source: Source = SOURCE, timezone: str = "UTC", lateness_days: int = 3
) -> Outcome:
    """What `raw_events` makes of the day's files; both tables keep their contracts, and the books balance."""
    result = raw_events(day, landing=LandingZone(root), source=source, timezone=timezone, lateness_days=lateness_days)
    frames = list(result.rows)
    kept = _table([frame["raw_events"] for frame in frames], RAW_EVENTS, day)
    rejected = _table([frame["rejected_events"] for frame in frames], REJECTED_EVENTS, day)
    assert callable(result.accounting)
    accounting = result.accounting()
    assert accounting.unaccounted == 0
    assert (accounting.kept, accounting.rejected) == (kept.num_rows, rejected.num_rows)
    return Outcome(kept, rejected, accounting)


def _table(frames: list[pa.Table], contract: Contract, day: date) -> pa.Table:
    audit = Audit(contract, day, "UTC")
    tables = [audit.watch(contract.conform(frame)) for frame in frames]
    audit.close()
    return pa.concat_tables([contract.schema.empty_table(), *(table.cast(contract.schema) for table in tables)])
