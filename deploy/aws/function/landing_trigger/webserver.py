"""Dagster's webserver over HTTP: what was reported for a day, and one report more.

Belongs here: requests, and what their answers mean. Does not: trying again, and what is worth reporting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from landing_trigger.events import Change

_REPORTS = """
query ($asset: AssetKeyInput!, $day: String!) {
  assetNodeOrError(assetKey: $asset) {
    __typename
    ... on AssetNode {
      assetMaterializations(partitions: [$day]) { metadataEntries { label ... on TextMetadataEntry { text } } }
    }
  }
}
"""
_TRY_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_SHOWN = 300
"""Characters of an answer that an error quotes."""


class Refused(RuntimeError):
    """Dagster will not take the report, and would not if it were sent again at once."""


class Unreachable(RuntimeError):
    """No answer, or one that says try later. Whether a report arrived is unknown."""

    def __init__(self, message: str, retry_after_seconds: float = 0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Webserver:
    """A webserver and the asset that is reported to it.

    Args:
        url: as people open it, with its path prefix.
        asset: parts of the asset's key.
        headers: sent along, for whoever guards the webserver.
    """

    url: str
    asset: tuple[str, ...]
    headers: Mapping[str, str]

    def reports(self, day: str, timeout_seconds: float) -> list[dict[str, Any]]:
        """The text metadata of every report of the day, newest first.

        Raises:
            Unreachable: also when Dagster's database does not answer.
            Refused: also when nobody defines the asset: reporting to it would succeed, and nobody would look.
        """
        question = {"query": _REPORTS, "variables": {"asset": {"path": self.asset}, "day": day}}
        answer = self._post("/graphql", question, timeout_seconds)
        node = (answer.get("data") or {}).get("assetNodeOrError")
        if not node:
            raise Unreachable(f"{self.url}/graphql could not say what was reported for {day}: {answer!r:.{_SHOWN}}")
        if "assetMaterializations" not in node:
            raise Refused(
                f"{self.url} has no asset {'/'.join(self.asset)!r} ({node.get('__typename')}). Does its code location "
                "load, and is LANDING_ASSET right?"
            )
        return [
            {entry["label"]: entry["text"] for entry in each["metadataEntries"] if entry.get("text") is not None}
            for each in node["assetMaterializations"]
        ]

    def report(self, change: Change, timeout_seconds: float) -> None:
        """Record a materialization of the day.

        Raises:
            Unreachable: it may have been recorded all the same.
            Refused: it was not.
        """
        path = "/".join(quote(part, safe="") for part in self.asset)
        body = {"partition": change.day, "metadata": change.metadata(), "description": str(change)}
        self._post(f"/report_asset_materialization/{path}", body, timeout_seconds)

    def _post(self, path: str, body: object, timeout_seconds: float) -> dict[str, Any]:
        parts = urlsplit(self.url)
        # http.client follows no redirect. A followed one turns POST into GET, which the webserver answers with its
        # start page and 200.
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = connect(parts.hostname or "", parts.port, timeout=timeout_seconds)
        # The webserver refuses this content type with a charset.
        headers = {"Content-Type": "application/json", **self.headers}
        try:
            connection.request("POST", parts.path.rstrip("/") + path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
            wait = response.headers.get("Retry-After", "")
        except (OSError, HTTPException) as error:
            raise Unreachable(f"no answer from {self.url}{path}: {error!r}") from error
        finally:
            connection.close()
        said = f"{self.url}{path} answered {status}: {text[:_SHOWN].decode(errors='replace')!r}"
        if status in _TRY_LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unreachable(said, float(wait) if wait.isdecimal() else 0)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None  # somebody else's page: of a login, or of a proxy
        if status != HTTPStatus.OK or not isinstance(answer, dict):
            hint = "Check DAGSTER_URL and what authenticates: DAGSTER_CLOUD_API_TOKEN, DAGSTER_HEADERS."
            raise Refused(f"{said}. {hint}")
        return answer
