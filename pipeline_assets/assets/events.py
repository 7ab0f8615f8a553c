"""`events`: what happened on a day, one row per event, whenever it arrived."""

from collections.abc import Iterator
from datetime import date

import pyarrow as pa

from pipeline_assets import Accounting, Contract, Result
from pipeline_assets.assets.database import cursor, single_row
from pipeline_assets.assets.raw_events import EVENT_COLUMNS
from pipeline_assets.rules.calendar import day_bounds

EVENTS = Contract(EVENT_COLUMNS, key=("event_id",), day_column="event_time")
BATCH_ROWS = 100_000


def events(day: date, raw_events: pa.RecordBatchReader, *, timezone: str) -> Result:
    """Distinct events of a day. Of several arrivals of one event_id the latest wins, ties are settled by content.

    Only arrivals with a time of this day compete: an id that comes with times of two days is an event of both.

    Args:
        raw_events: arrivals around the day, `dt` being the arrival day.
        timezone: of the day.
    """
    start, end = day_bounds(day, timezone)
    counted = {"read": 0, "kept": 0, "duplicates": 0}

    def batches() -> Iterator[pa.RecordBatch]:
        with cursor() as connection:
            connection.register("raw_events", raw_events)
            connection.execute(
                """
                CREATE TEMP TABLE of_day AS
                SELECT * FROM raw_events WHERE event_time >= $start AND event_time < $end
                """,
                {"start": start, "end": end},
            )
            read, kept = single_row(connection, "SELECT count(*), count(DISTINCT event_id) FROM of_day")
            counted.update(read=read, kept=kept, duplicates=read - kept)
            yield from connection.sql(
                """
                SELECT event_id, user_id, event_type, amount, event_time FROM of_day
                QUALIFY row_number() OVER (
                    PARTITION BY event_id ORDER BY dt DESC, event_time DESC, event_type, user_id, amount) = 1
                ORDER BY event_id
                """
            ).to_arrow_reader(BATCH_ROWS)

    schema = pa.schema([pa.field(column.name, column.type) for column in EVENT_COLUMNS])
    return Result(pa.RecordBatchReader.from_batches(schema, batches()), lambda: Accounting(**counted))
