"""Every setting of the project, from the environment. The only reader of os.environ.

All names begin with PIPELINE_. All have defaults that work on a laptop with nothing else running. Relative paths start
at the project's folder. A `.env` file there counts as environment, as it does for Dagster's own commands.
"""

import difflib
import os
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from pipeline_assets.errors import SettingsError
from pipeline_assets.rules.calendar import zone
from pipeline_assets.rules.symptoms import retry_after_seconds
from pipeline_assets.store import Landing, Store, open_landing, open_store
from pipeline_assets.store.http.day_url import DayUrl, without_secrets

PREFIX = "PIPELINE_"
_COMING = ("POSTGRES_URL", "SLOT", "S3_ENDPOINT_URL")
"""Names that the design reserves: no typing errors."""
_SECRETS = ("landing_token", "alert_webhook_url")
"""Settings whose values no error shows."""


def project_root() -> Path:
    """The folder of the checkout: the working directory if it is one, else where this package lies."""
    here = Path.cwd()
    return here if (here / "workspace.yaml").exists() else Path(__file__).resolve().parent.parent


def _folder(value: Path, info: ValidationInfo) -> Path:
    if "://" in str(value) or str(value).startswith("s3:/"):
        raise ValueError(f"is a URI; {info.field_name} is a folder in this version, s3:// is not supported yet")
    return value if value.is_absolute() else project_root() / value


def _landing(value: object) -> object:
    """A folder as a path, the template of a URL as text."""
    if not isinstance(value, str) or "://" not in value:
        return Path(value) if isinstance(value, str) else value
    if not value.lower().startswith(("http://", "https://")):
        raise ValueError("is neither a folder nor an http or https URL with {day} in it; s3:// is not supported yet")
    try:
        DayUrl(value)
    except SettingsError as error:
        raise ValueError(str(error).partition(": ")[2]) from error
    return value


def _folder_unless_url(value: Path | str, info: ValidationInfo) -> Path | str:
    return value if isinstance(value, str) else _folder(value, info)


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a URL that begins with http:// or https://")
    return value.rstrip("/")


def _secret_url(value: SecretStr) -> SecretStr:
    _http_url(value.get_secret_value())
    return value


def _zone_name(value: str) -> str:
    try:
        zone(value)
    except SettingsError as error:
        raise ValueError(str(error)) from error
    return value


class Settings(BaseModel):
    """Typed settings; see `load_settings`."""

    model_config = ConfigDict(frozen=True)

    landing: Annotated[Path | str, BeforeValidator(_landing), AfterValidator(_folder_unless_url)] = Field(
        Path(".data/landing"),
        validate_default=True,
        repr=False,  # a URL may hold a password
        description="Folder of the landing zone, or a URL with {day} in it.",
    )
    store: Annotated[Path, AfterValidator(_folder)] = Field(
        Path(".data/lake"), validate_default=True, description="Folder of the lake."
    )
    source: Annotated[Path, AfterValidator(_folder)] = Field(
        Path("sources/demo.sql"), validate_default=True, description="File with the source's SELECT."
    )
    start: date | None = Field(None, description="First day; the first day of the landing zone unless set.")
    timezone: Annotated[str, AfterValidator(_zone_name)] = Field("UTC", description="Zone of days, an IANA name.")
    lateness_days: int = Field(3, ge=0, le=366, description="Days after its own that an event is still taken in.")
    history: int = Field(5, ge=0, le=1000, description="Replaced commits kept per partition.")
    days_per_run: int | None = Field(
        None, ge=1, description="Days per run of a backfill from the UI; all in one run unless set."
    )

    look_back_days: int = Field(60, ge=1, le=3650, description="Arrival days that the landing sensor looks at.")
    sensors: Literal["running", "stopped"] = Field("running", description="State of the sensors when first started.")
    landing_token: SecretStr | None = Field(None, description="Bearer token of a landing zone on HTTP.")
    alert_webhook_url: Annotated[SecretStr, AfterValidator(_secret_url)] | None = Field(
        None, description="Where alerts are sent; to the log alone unless set."
    )
    alert_format: Literal["slack", "json"] | None = Field(
        None, description="Of alerts; slack for a URL of hooks.slack.com, json for others, unless set."
    )
    dagster_url: Annotated[str, AfterValidator(_http_url)] = Field(
        "http://localhost:3000", description="Where people open the Dagster UI, for links."
    )

    @field_validator("start", mode="before")
    @classmethod
    def _plain_date(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                return date.fromisoformat(value)
            except ValueError as error:
                raise ValueError("is not a date YYYY-MM-DD") from error
        return value

    def first_day(self, *, today: date) -> date:
        """The first day of the history: `start`, else the first landing day, else yesterday.

        Raises:
            SettingsError: it is not over yet; or it is not set, and the landing zone is at a URL.
            LandingError: the landing zone holds what is no day.
        """
        last = today - timedelta(days=1)
        if self.start is None:
            landed = self.open_landing().days()
            if landed is None:
                raise SettingsError(
                    f"{PREFIX}START is not set, and {PREFIX}LANDING is a URL, whose days cannot be listed. Set "
                    f"{PREFIX}START to the first day that it has."
                )
            return min([*landed, last])
        if self.start > last:
            raise SettingsError(
                f"{PREFIX}START={self.start} must be a day that is over; the last one in {self.timezone} is {last}"
            )
        return self.start

    def open_landing(self) -> Landing:
        """Open the landing zone.

        Raises:
            SettingsError: the template of its URL cannot be used.
        """
        token = self.landing_token
        return open_landing(
            self.landing,
            cache=project_root() / ".data" / "http_landing",
            token=token.get_secret_value() if token else None,
            retry_after=retry_after_seconds,
        )

    def open_store(self) -> Store:
        """Open the lake."""
        return open_store(self.store, history=self.history)

    def today(self, now: Callable[[], datetime] | None = None) -> date:
        """The day that is not over yet, in the pipeline's zone."""
        local = zone(self.timezone)
        return (now().astimezone(local) if now else datetime.now(local)).date()


def load_settings(environment: Mapping[str, str | None] | None = None) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: names every variable that cannot be used, what it holds and what is wrong with it.
    """
    if environment is None:
        environment = {**dotenv_values(project_root() / ".env"), **os.environ}
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    given = {name: value for name, value in environment.items() if name.upper().startswith(PREFIX) and value}
    _refuse_misspelt(given, known)
    values = {
        name.upper().removeprefix(PREFIX).lower(): value for name, value in given.items() if name.upper() in known
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = [
            f"{PREFIX}{name.upper()}={'***' if name in _SECRETS else without_secrets(values.get(name, ''))}: "
            + each["msg"].removeprefix("Value error, ")
            for each in error.errors()
            for name in [str(each["loc"][0])]
        ]
        raise SettingsError("; ".join(wrong)) from None  # pydantic's own message holds the values, secrets included


def _refuse_misspelt(given: Mapping[str, str], known: set[str]) -> None:
    reserved = {f"{PREFIX}{name}" for name in _COMING}
    for name in (each for each in given if each.upper() not in known | reserved):
        meant = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.85)
        if meant:
            raise SettingsError(f"{name} is no setting; {meant[0]} is meant, perhaps")


def dagster_home() -> Path | None:
    """Where DAGSTER_HOME points, if it is set."""
    value = os.environ.get("DAGSTER_HOME")
    return Path(value) if value else None
