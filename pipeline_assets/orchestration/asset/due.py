"""A due as Dagster knows it: metadata that deliveries are compared with, and a FreshnessPolicy for the UI.

The policy looks at the newest materialization of an asset, whatever its partition, so computing an old day again makes
an asset look fresh. It is a signal; deliveries are judged in `sla/`.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from pipeline_assets.rules.due import WEEKDAYS, Due, due_from_json

DUE_METADATA = "pipeline/due"
_DAY = timedelta(days=1)


def due_metadata(due: Due) -> dict[str, dg.JsonMetadataValue]:
    """Give what an asset has to carry to have a due: `metadata={**due_metadata(by("06:00", timezone="UTC"))}`.

    Raises:
        ValueError: the due has no time zone.
    """
    if due.timezone is None:
        raise ValueError(f"{due.words}: no time zone is stated; take it from the partitions with in_zone()")
    return {DUE_METADATA: dg.MetadataValue.json(due.as_json())}


def due_of(metadata: Mapping[str, Any]) -> Due | None:
    """Read the due of an asset with this metadata."""
    value = metadata.get(DUE_METADATA)
    data = value.data if isinstance(value, dg.JsonMetadataValue) else None
    return due_from_json(data) if isinstance(data, dict) else None


def freshness_policy(due: Due) -> dg.FreshnessPolicy:
    """Give the nearest policy that Dagster has: it knows no holidays, and no days before an asset's first.

    Args:
        due: with its time zone.
    """
    # Monday's partition is due on the day that lies `days_after` later; cron's week begins on Sunday.
    numbers = sorted((weekday + 1 + due.days_after) % len(WEEKDAYS) for weekday in due.weekdays)
    weekdays = "*" if len(numbers) == len(WEEKDAYS) else ",".join(str(number) for number in numbers)
    # Since the day was over; Dagster takes a minute at least and, as there may be a deadline each day, a day at most.
    after_midnight = timedelta(hours=due.at.hour, minutes=due.at.minute) + (due.days_after - 1) * _DAY
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{due.at.minute} {due.at.hour} * * {weekdays}",
        lower_bound_delta=min(max(after_midnight, timedelta(minutes=1)), _DAY),
        timezone=due.timezone or "UTC",
    )
