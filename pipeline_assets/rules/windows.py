"""Which days of an upstream table one day of a downstream table is made from, and the way back."""

from dataclasses import dataclass
from datetime import date, timedelta

from pipeline_assets.partition import days_between


@dataclass(frozen=True, slots=True)
class Window:
    """Days `first_offset` to `last_offset` around a day, both included; the day itself is always in it.

    Of several days whatever has been computed is read: the history has a first day, and what will arrive tomorrow is
    not there today.
    """

    first_offset: int
    last_offset: int

    def __post_init__(self) -> None:
        if self.first_offset > 0 or self.last_offset < 0:
            raise ValueError(
                f"a window holds its own day: {self.first_offset=} must be <= 0 and {self.last_offset=} >= 0"
            )

    @property
    def is_single_day(self) -> bool:
        """True when the window is the day itself."""
        return self.first_offset == self.last_offset == 0

    def upstream_of(self, day: date) -> list[date]:
        """Upstream days that the downstream `day` reads."""
        return days_between(day + timedelta(days=self.first_offset), day + timedelta(days=self.last_offset))

    def downstream_of(self, day: date) -> list[date]:
        """Downstream days that read the upstream `day`."""
        return days_between(day - timedelta(days=self.last_offset), day - timedelta(days=self.first_offset))


def same_day() -> Window:
    """The same day of the upstream table."""
    return Window(0, 0)


def trailing(*, days: int) -> Window:
    """The day and the `days - 1` before it."""
    return Window(1 - days, 0)


def arrivals(*, lateness_days: int) -> Window:
    """Arrival days that may hold events of a day.

    From one before, because arrival and event may be in different zones, to `lateness_days` after.
    """
    return Window(-1, lateness_days)
