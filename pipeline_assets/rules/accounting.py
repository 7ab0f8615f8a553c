"""Row accounting: no row vanishes. rows read = rows kept + duplicates + rejected."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where the rows that were read for one partition went. Counts of rows."""

    read: int
    kept: int
    duplicates: int = 0
    rejected: int = 0

    @property
    def unaccounted(self) -> int:
        """Rows that vanished (positive) or came from nowhere (negative); 0 when the books balance."""
        return self.read - self.kept - self.duplicates - self.rejected

    def __str__(self) -> str:
        return f"{self.read} read = {self.kept} kept + {self.duplicates} duplicates + {self.rejected} rejected" + (
            f" + {self.unaccounted} unaccounted for" if self.unaccounted else ""
        )
