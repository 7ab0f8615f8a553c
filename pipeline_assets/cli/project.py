"""The project that a command is given for: settings, store, definitions, instance; its tables and days checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg

from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.backfill.service import Backfills
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.settings import Settings, dagster_home, load_settings, project_root
from pipeline_assets.store import Store


@dataclass(frozen=True, slots=True)
class Project:
    """What commands about backfills need."""

    settings: Settings
    store: Store
    defs: dg.Definitions
    backfills: Backfills


def load_project() -> tuple[Settings, Store, dg.Definitions]:
    """Read the settings, and build what they say.

    Raises:
        SettingsError, SourceError, LandingError: what is wrong, in one message.
    """
    # Importing it builds its `defs`, and fails where the settings are wrong: only who needs them is told so.
    from pipeline_assets.definitions import build_definitions

    settings = load_settings()
    return settings, settings.open_store(), build_definitions(settings)


def build() -> dg.Definitions:
    """Build the definitions alone, in a process that is started to run some of them."""
    return load_project()[2]


def instance_folder() -> Path:
    """Find the folder of the instance's dagster.yaml: DAGSTER_HOME, else the project's."""
    return dagster_home() or project_root()


@contextmanager
def opened_instance() -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of that folder."""
    with open_instance(instance_folder()) as instance:
        yield instance


@contextmanager
def open_project() -> Iterator[Project]:
    """Open what commands about backfills need.

    Raises:
        SettingsError, SourceError, LandingError: what is wrong, in one message.
    """
    from pipeline_assets.definitions import landing_zones  # as in load_project

    settings, store, defs = load_project()
    with opened_instance() as instance:
        backfills = Backfills(
            defs, instance, store, landing_zones(settings), timezone=settings.timezone, dagster_url=settings.dagster_url
        )
        yield Project(settings, store, defs, backfills)


def key_named(defs: dg.Definitions, table: str) -> dg.AssetKey:
    """Find the asset key of a table.

    Raises:
        UsageError: there is no such table.
    """
    known = {key.to_user_string(): key for key in defs.resolve_asset_graph().get_all_asset_keys()}
    if table not in known:
        raise UsageError(f"there is no table {table}; tables: {', '.join(sorted(known))}")
    return known[table]


def range_of(settings: Settings, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """Check the asked days against the history.

    Raises:
        UsageError: backwards, before the first day, or not over yet.
    """
    today = settings.today()
    start, newest = settings.first_day(today=today), today - timedelta(days=1)
    listed = settings.open_landing().days()
    # Where days cannot be listed every day that is over may have something.
    landed = [newest] if listed is None else [day for day in listed if day <= newest]
    if not landed and not (first and last):
        raise UsageError(
            f"{settings.landing} holds no day that is over. `pipeline demo` makes some, or point PIPELINE_LANDING at "
            "a folder of dt=YYYY-MM-DD folders, or say --from and --to."
        )
    begin = first.date() if first else start
    end = last.date() if last else max(landed)
    return checked_range(settings, begin, end)


def checked_range(settings: Settings, begin: date, end: date, *, given: str | None = None) -> tuple[date, date]:
    """Check a range against the history.

    Args:
        given: the option that it was given by; --from and --to unless told.

    Raises:
        UsageError: backwards, before the first day, or not over yet.
    """
    today = settings.today()
    start, newest = settings.first_day(today=today), today - timedelta(days=1)
    if begin > end:
        raise UsageError(f"{given}: {begin} is after {end}" if given else f"--from {begin} is after --to {end}")
    if begin < start:
        option = given or (f"--to {end}" if end < start else f"--from {begin}")
        raise UsageError(f"{option} is before the first day of the history, {start} (PIPELINE_START)")
    if end > newest:
        raise UsageError(
            f"{given or f'--to {end}'} is not over yet; the last day that is, in {settings.timezone}, is {newest}"
        )
    return begin, end
