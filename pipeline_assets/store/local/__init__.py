"""A store on a local file system."""

from pipeline_assets.store.local.store import LocalStore

__all__ = ["LocalStore"]
