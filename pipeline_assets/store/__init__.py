"""Bytes: partitions as single files, written aside and published in one atomic step.

Belongs here: files, locks, fsync, digests, Parquet encoding, the landing zone. Does not: Dagster, what a table means.
"""

from pathlib import Path

from pipeline_assets.errors import SettingsError
from pipeline_assets.store.landing import Landing, LandingZone, RetryAfter
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.memory import MemoryStore
from pipeline_assets.store.protocol import Commit, Flaw, FlawKind, Head, Pinned, Published, Seen, Staged, Store, Version

__all__ = [
    "Commit",
    "Flaw",
    "FlawKind",
    "Head",
    "Landing",
    "Pinned",
    "Published",
    "Seen",
    "Staged",
    "Store",
    "Version",
    "open_landing",
    "open_store",
]


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


def open_landing(landing: Path | str, *, cache: Path, token: str | None, retry_after: RetryAfter) -> Landing:
    """The landing zone that a setting names: a folder, or the template of a URL.

    Args:
        landing: a path is a folder, text is a template.
        cache: see `HttpLanding`; token and retry_after: see `HttpClient`. A folder needs none of them.

    Raises:
        SettingsError: the template cannot be used.
    """
    if isinstance(landing, Path):
        return LandingZone(landing)
    from pipeline_assets.store.http.client import HttpClient  # imports requests, which a folder does without
    from pipeline_assets.store.http.day_url import DayUrl
    from pipeline_assets.store.http.landing import HttpLanding

    return HttpLanding(HttpClient(DayUrl(landing), retry_after, token), cache=cache)
