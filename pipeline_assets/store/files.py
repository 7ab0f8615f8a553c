"""What the file system is asked in more than one place, with answers that no version of Python waters down."""

from __future__ import annotations

import os
from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """Names of the folder's entries, sorted; none if there is no such folder.

    `Path.glob` and `os.walk` also take a folder that cannot be read for an empty one: of permissions in every Python,
    of any error since 3.13.

    Raises:
        OSError: the folder is there and cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths, are what is asked for
    except FileNotFoundError:
        return []
