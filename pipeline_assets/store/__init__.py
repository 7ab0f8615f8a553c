"""Bytes: partitions as single files, written aside and published in one atomic step.

Belongs here: files, locks, fsync, digests, Parquet encoding, the landing zone. Does not: Dagster, what a table means.
"""

from pipeline_assets.partition import Partition
from pipeline_assets.store.commit import Commit, Published, Version
from pipeline_assets.store.local import LocalStore, Pinned, Staged

__all__ = ["Commit", "LocalStore", "Partition", "Pinned", "Published", "Staged", "Version"]
