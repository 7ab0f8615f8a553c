"""Pages that people open in a browser, beside the tables: `{root}/_reports/{name}/dt=YYYY-MM-DD/{name}.html`.

A page is no partition: nothing is computed from it, so there is no history and nobody to conflict with. The last one
that was written stands, whole.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path

from pipeline_assets.partition import Partition
from pipeline_assets.store.commit import hive_path
from pipeline_assets.store.local import explained

FOLDER = "_reports"


def page_path(root: Path, name: str, day: date) -> Path:
    """Where the page of a day is, or will be."""
    return root / FOLDER / hive_path(Partition(name, day)) / f"{name}.html"


def write_page(
    root: Path, name: str, day: date, page: str, *, new_id: Callable[[], str] = lambda: uuid.uuid4().hex
) -> Path:
    """Put a page in the place of the one before it, if there is one. A reader sees one of them whole.

    Args:
        root: the lake's.
        new_id: names the file that is written aside; must not repeat.

    Raises:
        StorageFull, StorageRefused: the file system's answer. The page before stays.
    """
    target = page_path(root, name, day)
    aside = target.with_name(f".{target.name}.{new_id()}")
    with explained(f"the page {name} of {day}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("xb") as file:
                file.write(page.encode())
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return target
