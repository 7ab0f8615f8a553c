"""Backfills of a running Dagster, through its GraphQL: launched, watched and canceled as its UI does it.

Belongs here: what is asked of the webserver and what its answers mean. Does not: deciding what is computed
(`rules.backfill`), and executing it in this process.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import requests

from pipeline_assets.errors import DagsterRefused, NoAnswer, SettingsError
from pipeline_assets.orchestration.history.runs import IN_FLIGHT
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG, DAGSTER_BACKFILL_TAG, PART_TAG
from pipeline_assets.partition import ranges_of
from pipeline_assets.rules.graph import Graph

Targets = Mapping[str, Sequence[date]]
"""Ascending days by leading table."""

ANSWER_SECONDS = 60
TITLE_CHARACTERS = 100
NOT_IN_TITLES = re.compile(r'[%*"]')
RUNS_PER_PAGE = 100
UNFINISHED = [status.value for status in IN_FLIGHT]

LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  answer: launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message }
  }
}
"""
CANCEL = """
mutation ($id: String!) { answer: cancelPartitionBackfill(backfillId: $id) { __typename ... on Error { message } } }
"""
BACKFILL = """
fragment BackfillFields on PartitionBackfill {
  id status tags { key value } error { message }
}
"""
ONE = f"""
{BACKFILL}
query ($id: String!) {{
  answer: partitionBackfillOrError(backfillId: $id) {{
    __typename ... on Error {{ message }}
    ... on PartitionBackfill {{
      ...BackfillFields
      assetBackfillData {{ assetBackfillStatuses {{ ... on AssetPartitionsStatusCounts {{
        assetKey {{ path }} numPartitionsMaterialized
      }} }} }}
    }}
  }}
}}
"""
NEWEST = f"""
{BACKFILL}
query ($limit: Int!) {{
  answer: partitionBackfillsOrError(limit: $limit) {{
    __typename ... on Error {{ message }} ... on PartitionBackfills {{ results {{ ...BackfillFields }} }}
  }}
}}
"""
RUN_IDS = """
query ($filter: RunsFilter!) {
  answer: runIdsOrError(filter: $filter, limit: 1) { __typename ... on Error { message } ... on RunIds { results } }
}
"""
ASSETS = "query ($keys: [AssetKeyInput!]!) { answer: assetNodes(assetKeys: $keys) { assetKey { path } partitionKeys } }"
LOCATIONS = """
{ answer: workspaceOrError {
  __typename ... on Error { message }
  ... on Workspace { locationEntries { name locationOrLoadError { __typename ... on Error { message } } } }
} }
"""
DAEMON = '{ answer: instance { daemonHealth { daemonStatus(daemonType: "BACKFILL") { healthy } } } }'


class DagsterBackfillStatus(StrEnum):
    """Says how far Dagster is with a backfill."""

    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # partitions failed, or Dagster could not go on
    CANCELED = "canceled"

    @property
    def has_ended(self) -> bool:
        """Nothing of it starts any more."""
        return self not in (DagsterBackfillStatus.RUNNING, DagsterBackfillStatus.CANCELING)


STATUSES = {
    "REQUESTED": DagsterBackfillStatus.RUNNING,
    "CANCELING": DagsterBackfillStatus.CANCELING,
    "FAILING": DagsterBackfillStatus.CANCELING,
    "COMPLETED": DagsterBackfillStatus.SUCCEEDED,
    "COMPLETED_SUCCESS": DagsterBackfillStatus.SUCCEEDED,
    "COMPLETED_FAILED": DagsterBackfillStatus.FAILED,
    "FAILED": DagsterBackfillStatus.FAILED,
    "CANCELED": DagsterBackfillStatus.CANCELED,
}


@dataclass(frozen=True, slots=True)
class DagsterBackfill:
    """One backfill as Dagster tells of it.

    Args:
        error: why Dagster itself could not go on.
        done: partitions that are made, by table; empty in lists, and when the definitions have changed since.
    """

    id: str
    status: DagsterBackfillStatus
    tags: Mapping[str, str]
    error: str | None
    done: Mapping[str, int]


def partitions_by_assets(graph: Graph, targets: Targets) -> list[dict[str, Any]]:
    """As Dagster's GraphQL wants it: all tables of each step."""
    return [
        {
            "assetKey": _key(table),
            "partitions": {
                "ranges": [{"start": str(first), "end": str(last)} for first, last in ranges_of(list(days))]
            },
        }
        for lead, days in targets.items()
        if days
        for table in graph.steps[lead]
    ]


@dataclass(frozen=True, slots=True)
class RunningDagster:
    """A webserver of Dagster 1.13, with a daemon beside it.

    Args:
        url: as opened in a browser.

    Every method raises NoAnswer if nobody answers at the URL, SettingsError if what answers is not a Dagster, and
    DagsterRefused if it will not do what it is asked for; the message says what to do.
    """

    url: str

    def launch(self, graph: Graph, targets: Targets, *, title: str, description: str, tags: Mapping[str, str]) -> str:
        """Launch one backfill. One that was launched of the same id of ours and the same part is not launched again.

        Args:
            targets: one of `launches.parts`; all tables of each step are made.
            tags: of it and of every run; among them our id, BACKFILL_TAG, and the number of the part, PART_TAG.

        Returns:
            Dagster's id of it.

        Raises:
            DagsterRefused: nothing is to be made; the daemon is not running; the tables or the days are none of that
                Dagster's.
        """
        if not any(targets.values()):
            raise DagsterRefused("There is nothing to compute in this backfill.")
        known = {name: tags[name] for name in (BACKFILL_TAG, PART_TAG)}
        if (launched := self._launched(known)) is not None:
            return launched
        self._check({table: days for lead, days in targets.items() for table in graph.steps[lead]})
        params = {
            "title": NOT_IN_TITLES.sub("", title)[:TITLE_CHARACTERS],
            "description": description,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "partitionsByAssets": partitions_by_assets(graph, targets),
        }
        try:
            answer = self._ask(LAUNCH, params=params)
        except NoAnswer:
            if (launched := self._launched(known)) is not None:
                return launched
            raise
        return str(self._good(answer, "LaunchBackfillSuccess")["backfillId"])

    def status(self, backfill_id: str) -> DagsterBackfill:
        """How far a backfill is.

        Args:
            backfill_id: Dagster's.

        Raises:
            DagsterRefused: there is none of that id.
        """
        answer = self._ask(ONE, id=backfill_id)
        if answer["__typename"] == "BackfillNotFoundError":
            raise DagsterRefused(
                f"The Dagster at {self.url} has no backfill {backfill_id}. `pipeline backfills` lists them."
            )
        return _backfill_of(self._good(answer, "PartitionBackfill"))

    def backfills(self, *, limit: int = 50) -> list[DagsterBackfill]:
        """The newest ones, whoever launched them, newest first."""
        answer = self._ask(NEWEST, limit=limit)
        return [_backfill_of(each) for each in self._good(answer, "PartitionBackfills")["results"]]

    def cancel(
        self,
        backfill_id: str,
        *,
        patience_seconds: float = 300,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> DagsterBackfill:
        """Cancel it and wait until nothing of it is running or queued; what was committed stays.

        Raises:
            DagsterRefused: there is none of that id; it had ended before; it has not ended in time.
        """
        told = self.status(backfill_id)
        if told.status.has_ended:
            raise DagsterRefused(
                f"Backfill {backfill_id} has ended already ({told.status}): there is nothing to cancel."
            )
        deadline = clock() + patience_seconds
        while not told.status.has_ended or self._has_unfinished_runs(backfill_id):
            if told.status is DagsterBackfillStatus.RUNNING:
                # Again, if the daemon wrote what it had read before: it knows of no compare-and-swap.
                self._good(self._ask(CANCEL, id=backfill_id), "CancelBackfillSuccess")
            if clock() > deadline:
                raise DagsterRefused(
                    f"Backfill {backfill_id} is {told.status} since {patience_seconds:.0f} s and has not ended. "
                    "Dagster's daemon ends it: see that it is running, and what its log says."
                )
            sleep(1)
            told = self.status(backfill_id)
        return told

    def _launched(self, known: Mapping[str, str]) -> str | None:
        for each in self.backfills(limit=RUNS_PER_PAGE):
            if known.items() <= each.tags.items():
                return each.id
        return None

    def _check(self, tables: Targets) -> None:
        """Whether it can make them: of days that it does not have Dagster itself says nothing, and makes none."""
        nodes = self._ask(ASSETS, keys=[_key(table) for table in tables])
        found = {_name(each["assetKey"]): set(each["partitionKeys"]) for each in nodes}
        if unknown := [table for table in tables if table not in found]:
            broken = [
                f"{entry['name']}: {located['message'].strip().splitlines()[0]}"
                for entry in self._good(self._ask(LOCATIONS), "Workspace")["locationEntries"]
                if (located := entry["locationOrLoadError"]) and located["__typename"] == "PythonError"
            ]
            why = (
                f"its code cannot be loaded ({'; '.join(broken)}). Mend that, and reload the code location there"
                if broken
                else "it runs another project, or another version of it. PIPELINE_DAGSTER_URL names the one to use"
            )
            raise DagsterRefused(f"The Dagster at {self.url} has no asset {', '.join(unknown)}: {why}.")
        for table, days in tables.items():
            if absent := [day for day in days if str(day) not in found[table]]:
                raise DagsterRefused(
                    f"The Dagster at {self.url} does not have {table} {absent[0]}"
                    f"{f' and {len(absent) - 1} more days' if len(absent) > 1 else ''}. Its PIPELINE_START or "
                    "PIPELINE_TIMEZONE is another than here, or that day is not over yet."
                )
        if not self._ask(DAEMON)["daemonHealth"]["daemonStatus"]["healthy"]:
            raise DagsterRefused(
                f"The Dagster at {self.url} has no daemon running, which executes backfills. Start it: `make dev` "
                "starts both, `dagster-daemon run` the daemon alone."
            )

    def _has_unfinished_runs(self, backfill_id: str) -> bool:
        filtered = {"tags": [{"key": DAGSTER_BACKFILL_TAG, "value": backfill_id}], "statuses": UNFINISHED}
        return bool(self._good(self._ask(RUN_IDS, filter=filtered), "RunIds")["results"])

    def _good(self, answer: Mapping[str, Any], expected: str) -> Mapping[str, Any]:
        if answer["__typename"] != expected:
            told = answer.get("message", "no reason given").strip()
            raise DagsterRefused(f"The Dagster at {self.url} refused ({answer['__typename']}): {told}")
        return answer

    def _ask(self, query: str, **variables: object) -> Any:
        """Ask for one thing, which the query calls `answer`."""
        try:
            response = requests.post(
                f"{self.url.rstrip('/')}/graphql",
                json={"query": query, "variables": variables},
                timeout=ANSWER_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise NoAnswer(
                f"Nobody answers at {self.url} ({type(error).__name__}). Start Dagster, `make dev`, or set "
                "PIPELINE_DAGSTER_URL to where it is."
            ) from error
        try:
            told = response.json()
            errors, data = told.get("errors"), told.get("data")
        except (ValueError, AttributeError):
            errors = data = None
        if errors:
            raise DagsterRefused(f"The Dagster at {self.url} refused: {errors[0].get('message')}")
        if not isinstance(data, dict) or data.get("answer") is None:
            raise SettingsError(
                f"What answers at {self.url} is not a Dagster webserver (HTTP status {response.status_code}). Set "
                "PIPELINE_DAGSTER_URL to where Dagster's UI is opened."
            )
        return data["answer"]


def _backfill_of(told: Mapping[str, Any]) -> DagsterBackfill:
    error, counts = told["error"], told.get("assetBackfillData") or {}
    return DagsterBackfill(
        told["id"],
        STATUSES[told["status"]],
        {tag["key"]: tag["value"] for tag in told["tags"]},
        error["message"] if error else None,
        {
            _name(each["assetKey"]): each["numPartitionsMaterialized"]
            for each in counts.get("assetBackfillStatuses", ())
            if each  # an asset without partitions tells other things
        },
    )


def _key(table: str) -> dict[str, list[str]]:
    return {"path": table.split("/")}


def _name(key: Mapping[str, Sequence[str]]) -> str:
    return "/".join(key["path"])
