"""A worker that was killed: what it had settled is neither computed again nor lost. Real processes, real SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from math import ceil
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.errors import ContractBroken
from pipeline_assets.orchestration.asset.run import NOTE_EVERY_SECONDS
from pipeline_assets.orchestration.history.tags import CONTINUES_TAG, RANGE_END, RANGE_START
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets_tests.orchestration import killed
from pipeline_assets_tests.orchestration.lake import DAYS, QUIET, ROW, Lake, day, failure, key, numbers

ROOT = Path(__file__).resolve().parents[3]
LAST = 15
PAUSE_SECONDS = 0.15
LOST_DAYS = ceil(NOTE_EVERY_SECONDS / PAUSE_SECONDS) + 1
"""Settled before the next note was due, and the one in hand: no more, as a day takes so long at least."""


@dataclass
class Workers:
    """Runs in processes of their own."""

    folder: Path
    instance: dg.DagsterInstance

    def run(self, tag: tuple[str, str] | None = None, *, kill_in: int | None = None, parent: str | None = None) -> str:
        """Run the range in a process, which kills itself in that day; the run's id."""
        if kill_in is not None:
            (self.folder / "kill").write_text(key(kill_in))
        told = json.dumps({RANGE_START: key(0), RANGE_END: key(LAST), **dict([tag] if tag else [])})
        ended = subprocess.run(
            [sys.executable, "-m", killed.__name__, str(self.folder), told, *([parent] if parent else [])],
            env={**os.environ, killed.FOLDER: str(self.folder), killed.PAUSE: str(PAUSE_SECONDS)},
            cwd=ROOT,
            check=False,
        )
        assert ended.returncode == (0 if kill_in is None else -signal.SIGKILL)
        return self.instance.get_run_records(limit=1)[0].dagster_run.run_id

    def calls(self) -> Counter[str]:
        """Of the author's function, by day."""
        return Counter((self.folder / "calls").read_text().split())

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """By table and day, without what differs between any two runs."""
        return records(Lake(self.folder / "lake", self.instance))


OF_ONE_RUN = ("seconds", "dagster/uri", "unchanged", "commit")
"""Metadata that differs between any two runs."""


def records(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    return {
        f"{table} {number}": [{name: value for name, value in each.items() if name not in OF_ONE_RUN} for each in made]
        for table in ("kept", "rejected")
        for number, made in lake.recorded(table).items()
    }


def evaluations(lake: Lake) -> list[tuple[str, bool, str | None, dict[str, Any]]]:
    """The newest of every check."""
    newest = {}
    for run in reversed(lake.instance.get_run_records()):
        events = lake.instance.all_logs(run.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        for each in events:
            made = each.get_dagster_event().asset_check_evaluation_data
            newest[f"{made.asset_key.to_user_string()}.{made.check_name}"] = made
    return sorted(
        (name, each.passed, each.description, {name: value.value for name, value in each.metadata.items()})
        for name, each in newest.items()
    )


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with open_instance(tmp_path / "home") as instance:
        yield Workers(tmp_path, instance)


def undisturbed(lake: Lake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.setenv(killed.FOLDER, str(folder))
    monkeypatch.setenv(killed.PAUSE, "0")
    assert lake.run(killed.kept, 0, LAST).success


@pytest.mark.slow(15)
def test_a_run_retry_of_dagster_goes_on_where_the_worker_was_killed(workers: Workers) -> None:
    first = workers.run(kill_in=9)
    assert workers.instance.get_materialized_partitions(dg.AssetKey("kept")) == set()
    lake = Lake(workers.folder / "lake", workers.instance)
    lake.put("rejected", 1, numbers(1, 2))  # what is there now is another's, and not recalled
    workers.run(("dagster/retry_number", "1"), parent=first)
    calls = workers.calls()
    assert calls.keys() == {key(number) for number in range(LAST + 1)}
    assert [calls[key(number)] for number in (0, 1, 9)] == [1, 2, 2]
    assert calls.total() <= LAST + 1 + LOST_DAYS + 1
    assert lake.digest("rejected", 1) == lake.recorded("rejected")[1][0]["digest"]
    assert {len(each) for each in workers.records().values()} == {1}
    assert len(workers.records()) == 2 * (LAST + 1)


@pytest.mark.slow(15)
def test_a_run_that_continues_others_recalls_what_they_and_those_they_continue_had_settled(
    workers: Workers, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workers.run(kill_in=9)
    second = workers.run((CONTINUES_TAG, first), kill_in=LAST)
    third = workers.run((CONTINUES_TAG, second))
    calls = workers.calls()
    assert calls.keys() == {key(number) for number in range(LAST + 1)}
    assert calls[key(0)] == 1  # by the first, which the third continues through the second only
    assert calls.total() <= LAST + 1 + 2 * LOST_DAYS

    undisturbed(lake, tmp_path / "undisturbed", monkeypatch)
    assert workers.records() == records(lake)
    there = Lake(tmp_path / "lake", workers.instance)
    assert evaluations(there) == evaluations(lake)
    assert [there.digest("kept", number) for number in range(LAST + 1)] == [
        lake.digest("kept", number) for number in range(LAST + 1)
    ]

    workers.run((CONTINUES_TAG, second), parent=third)  # as the button in the UI does it, which begins anew
    assert workers.calls() == calls + Counter(calls.keys())


def test_what_was_given_up_is_not_tried_again_by_who_goes_on_unless_the_code_is_another(lake: Lake) -> None:
    called: list[date] = []

    def run(version: str, *continued: str) -> str:
        @daily_asset(partitions_def=DAYS, contract=ROW, code_version=version)
        def fragile(day: date) -> pa.Table:
            called.append(day)
            if key(1) == str(day):
                raise ContractBroken(version)
            if called.count(day) == 1 and key(2) == str(day):
                raise ConnectionResetError
            return numbers(1)

        called.clear()
        result = dg.materialize(
            [fragile],
            instance=lake.instance,
            resources={"io_manager": lake.manager},
            tags={RANGE_START: key(0), RANGE_END: key(2), CONTINUES_TAG: ", ".join(continued)},
            run_config=QUIET,
            raise_on_error=False,
        )
        told.append(failure(result))
        return result.run_id

    told: list[str] = []
    first = run("1")
    assert called == [day(0), day(1), day(2), day(2)]
    second = run("1", "unknown", first)
    assert called == []
    assert told[1].startswith(told[0])
    run("2", second)
    assert called == [day(0), day(1), day(2), day(2)]
    assert "ContractBroken: 2" in told[2]
