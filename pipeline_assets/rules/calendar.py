"""Days of a time zone as spans of UTC."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline_assets.errors import SettingsError


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        SettingsError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(
            f"time zone {name!r} does not exist; use an IANA name such as 'Europe/London' or 'UTC'"
        ) from error


def day_bounds(day: date, timezone: str) -> tuple[datetime, datetime]:
    """First instant of the day and of the next one, in UTC: 23, 24 or 25 hours apart, seldom anything else."""
    local = zone(timezone)
    start, end = (
        datetime.combine(each, time.min, tzinfo=local).astimezone(UTC) for each in (day, day + timedelta(days=1))
    )
    return start, end
