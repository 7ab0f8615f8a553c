"""What every command begins with: settings, store, definitions, instance; and days and tables as they were given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import click
import dagster as dg

from pipeline_assets.errors import SettingsError
from pipeline_assets.settings import Settings
from pipeline_assets.store import LocalStore

# Heavy imports stand inside the commands: `pipeline --help` and a typing error answer at once.

DAY = click.DateTime(formats=["%Y-%m-%d"])
EXIT_FAILED, EXIT_WRONG, EXIT_OUTDATED, EXIT_INTERRUPTED = 1, 2, 3, 130


class GivenPath(click.Path):
    """A path as it was given: relative to the folder that the command was given in, which `main` leaves."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Absolute, unless nobody told where the command was given."""
        given_in = ctx.find_root().obj if ctx else None
        return super().convert(Path(given_in or "", value), param, ctx)


def load_project() -> tuple[Settings, LocalStore, dg.Definitions]:
    """As the environment says.

    Raises:
        SettingsError, SourceError, LandingError, DefinitionError: what is wrong, in one message.
    """
    from pipeline_assets.definitions import build_definitions
    from pipeline_assets.settings import load_settings
    from pipeline_assets.store import LocalStore

    settings = load_settings()
    return settings, LocalStore(settings.store, history=settings.history), build_definitions(settings)


def build() -> dg.Definitions:
    """The definitions alone, for a process that is started to run some of them."""
    return load_project()[2]


def instance_folder() -> Path:
    """Where the dagster.yaml of the instance lies."""
    from pipeline_assets.settings import dagster_home, project_root

    return dagster_home() or project_root()


@contextmanager
def opened_instance() -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that DAGSTER_HOME names, else that of the project's folder."""
    from pipeline_assets.orchestration.process import open_instance

    with open_instance(instance_folder()) as instance:
        yield instance


def key_named(defs: dg.Definitions, table: str) -> dg.AssetKey:
    """The asset key of a table.

    Raises:
        SettingsError: there is no such table.
    """
    known = {key.to_user_string(): key for key in defs.resolve_asset_graph().get_all_asset_keys()}
    if table not in known:
        msg = f"there is no table {table}; tables: {', '.join(sorted(known))}"
        raise SettingsError(msg)
    return known[table]


def range_of(settings: Settings, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """The asked days, checked against the history.

    Raises:
        SettingsError: backwards, before the first day, or not over yet.
    """
    from pipeline_assets.store.landing import LandingZone

    today = settings.today()
    start, newest = settings.first_day(today=today), today - timedelta(days=1)
    # A URL cannot be listed: there every day that is over may have something.
    listed = LandingZone(settings.landing).days() if isinstance(settings.landing, Path) else [newest]
    landed = [day for day in listed if day <= newest]
    if not landed and not (first and last):
        msg = (
            f"{settings.landing} holds no day that is over. `pipeline demo` makes some, or point PIPELINE_LANDING at "
            "a folder of dt=YYYY-MM-DD folders, or say --from and --to."
        )
        raise SettingsError(msg)
    begin = first.date() if first else start
    end = last.date() if last else max(landed)
    return checked_range(settings, begin, end)


def checked_range(settings: Settings, begin: date, end: date, *, given: str | None = None) -> tuple[date, date]:
    """The range as it is.

    Args:
        given: the option that it was given by; --from and --to unless told.

    Raises:
        SettingsError: backwards, before the first day, or not over yet.
    """
    today = settings.today()
    start, newest = settings.first_day(today=today), today - timedelta(days=1)
    if begin > end:
        msg = f"{given}: {begin} is after {end}" if given else f"--from {begin} is after --to {end}"
        raise SettingsError(msg)
    if begin < start:
        option = given or (f"--to {end}" if end < start else f"--from {begin}")
        msg = f"{option} is before the first day of the history, {start} (PIPELINE_START)"
        raise SettingsError(msg)
    if end > newest:
        msg = f"{given or f'--to {end}'} is not over yet; the last day that is, in {settings.timezone}, is {newest}"
        raise SettingsError(msg)
    return begin, end
