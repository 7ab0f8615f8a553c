"""Bytes: partitions as single files, written aside and published in one atomic step.

Belongs here: files, locks, fsync, digests, Parquet encoding, the landing zone. Does not: Dagster, what a table means.
"""

from pathlib import Path

from pipeline_assets.errors import SettingsError
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.memory import MemoryStore
from pipeline_assets.store.protocol import Commit, Head, Pinned, Published, Seen, Staged, Store, Version

__all__ = ["Commit", "Head", "Pinned", "Published", "Seen", "Staged", "Store", "Version", "open_store"]


def open_store(uri: str | Path, *, history: int = 5) -> Store:
    """The store that a setting names: a folder, or `memory://name` for tests and examples.

    Args:
        history: how many replaced commits are kept per partition; 0 keeps none.

    Raises:
        SettingsError: there is no store of that kind.
    """
    scheme, separator, name = str(uri).partition("://")
    if not separator:
        return LocalStore(Path(uri), history=history)
    if scheme == "memory":
        return MemoryStore(name, history=history)
    raise SettingsError(f"{uri}: a store is a folder, or memory://name; {scheme}:// is not supported")
