"""The URL that a landing file has on each day, made from a template; and what of it may be shown to people.

Belongs here: what a template may look like. Does not: asking the server.
"""

import ipaddress
import re
import string
from datetime import date
from urllib.parse import SplitResult, urlsplit

from pipeline_assets.errors import SettingsError

_PROBES = (date(2026, 1, 2), date(2026, 1, 3), date(2026, 2, 2), date(2027, 1, 2))
"""Days that differ in day, month and year: a template that gives two of them one URL has lost a part of the date."""


class DayUrl:
    """A template such as `https://host/path/{day}.jsonl.gz`.

    Args:
        template: http or https, with `{day}` (YYYY-MM-DD) or `{day:%Y/%m/%d}` in it, as often as wanted. The path ends
            in a file name.

    Raises:
        SettingsError: says what is wrong with it.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        urls = [self.of(day) for day in _PROBES]
        for url in urls:
            self._check(url)
        if len(set(urls)) < len(urls):
            raise self._wrong("gives the same URL for different days; say {day}, or year, month and day in its format")

    def __repr__(self) -> str:
        return f"DayUrl({self.shown_template})"

    @property
    def shown_template(self) -> str:
        """Give the template without user, password and query."""
        return without_secrets(self._template)

    @property
    def identity(self) -> str:
        """Tell this template from others, whoever asks: by all of it but user and password."""
        query = self._template.partition("?")[2]
        return f"{self.shown_template}?{query}" if query else self.shown_template

    @property
    def has_password(self) -> bool:
        """True if user or password stand in the URL."""
        return "@" in urlsplit(self.of(_PROBES[0])).netloc

    @property
    def is_private(self) -> bool:
        """True if nobody reads what is sent on the way: TLS, or it stays on this machine."""
        parts = urlsplit(self.of(_PROBES[0]))
        return parts.scheme == "https" or _is_loopback(parts.hostname or "")

    def of(self, day: date) -> str:
        """Give the day's URL, secrets included."""
        try:
            fields = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(self._template)]
        except ValueError:
            raise self._wrong("has braces that do not close; {day} is what belongs in them") from None
        names = [name for name, _, _ in fields if name is not None]
        if not names:
            raise self._wrong("does not contain {day}, so that all days would be one file")
        if any(name is not None and (name != "day" or how or "{" in (spec or "")) for name, spec, how in fields):
            unknown = next((name for name in names if name != "day"), "day")
            raise self._wrong(f"has {{{unknown}...}}; only {{day}} and {{day:%Y/%m/%d}} are known")
        try:
            return self._template.format(day=day)
        except ValueError:
            raise self._wrong("has a format of {day} that is none; %Y, %m and %d are its parts") from None

    def shown(self, day: date) -> str:
        """Give the day's URL without user, password and query."""
        return without_secrets(self.of(day))

    def file_name(self, day: date) -> str:
        """Give the last part of the day's path."""
        return _file_name(urlsplit(self.of(day)))

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise self._wrong("is no URL: its host or port cannot be read") from None
        if parts.scheme not in ("http", "https"):
            raise self._wrong("does not begin with http:// or https://")
        if not host:
            raise self._wrong("names no host")
        if any(character.isspace() or not character.isprintable() for character in url):
            raise self._wrong("has a space or control character in it; write %20 for a space")
        if parts.fragment or "#" in url:
            raise self._wrong("has a # in it; what follows is never sent to a server")
        name = _file_name(parts)
        if not name or name.startswith("."):
            raise self._wrong("does not end in a file name, such as {day}.jsonl.gz, before its query")

    def _wrong(self, what: str) -> SettingsError:
        return SettingsError(f"PIPELINE_LANDING={self.shown_template}: {what}")


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment, which may be secrets; other text as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _file_name(parts: SplitResult) -> str:
    return parts.path.rpartition("/")[2]


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
