"""How much of a table may differ before somebody has to look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What each table may differ by: a number of rows, and a share of its rows, from 0 to 1. None: by anything."""

    max_rows: int | None = None
    max_share: float | None = None

    @property
    def is_open(self) -> bool:
        """True if no difference is beyond the tolerance."""
        return self.max_rows is None and self.max_share is None

    def is_exceeded(self, rows: int, share: float) -> bool:
        """True if a table of which so many rows differ is beyond the tolerance."""
        return (self.max_rows is not None and rows > self.max_rows) or (
            self.max_share is not None and share > self.max_share
        )
