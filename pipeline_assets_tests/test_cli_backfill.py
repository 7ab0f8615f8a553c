"""`pipeline plan`, `backfill`, `backfills`, `cancel` and `retry` as people and CI use them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets import cli
from pipeline_assets.orchestration.backfill.book import Book
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.rules.backfill import Ask, Mode, Plan
from pipeline_assets.rules.plan_file import to_text
from pipeline_assets_tests.orchestration.backfill.checkout import HEADER, land
from pipeline_assets_tests.support.homes import new_home
from pipeline_assets_tests.support.session import made_once

FIRST, LAST = date(2026, 3, 1), date(2026, 3, 6)
DAYS = [FIRST + timedelta(days=number) for number in range(6)]
NEXT = LAST + timedelta(days=1)
STEPS = ("raw_events", "events", "daily_sales", "user_features", "user_segments")
BROKEN_DAY = date(2026, 3, 3)
SPAN = ("--from", str(FIRST), "--to", str(LAST), "--reason", "a test")
PROJECT = Path(__file__).resolve().parents[1]
ASKED = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from pipeline_assets.cli import main
main()
"""
"""The command, with the terminal as its own: Ctrl-C in it is a signal."""


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, which is nothing else."""
        return json.loads(self.out)


@dataclass
class Desk:
    """Where somebody types commands, with a landing zone, a lake and an instance below it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    variables: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, given_in: Path | None = None, **variables: str) -> Outcome:
        """Type a command."""
        with self.monkeypatch.context() as patched:
            patched.chdir(given_in or self.folder)
            for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
                patched.delenv(name)
            own = {"DAGSTER_HOME": "home", "PIPELINE_LANDING": "landing", "PIPELINE_STORE": "lake"}
            for name, value in {name: str(self.folder / value) for name, value in own.items()}.items():
                patched.setenv(name, value)
            patched.setenv("PIPELINE_START", str(FIRST))
            for name, value in variables.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["pipeline", *arguments])
            status = 0
            try:
                cli.main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        said = self.capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Outcome(status, said.out, said.err)

    def lake(self, name: str = "lake") -> dict[str, bytes]:
        """Published files."""
        root = self.folder / name
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("[a-z]*/dt=*/*.parquet"))}

    def book(self) -> Path:
        """The folder of the book of backfills."""
        with open_instance(self.folder / "home") as instance:
            return Book(instance).folder

    def break_(self) -> None:
        """What landed on a day cannot be read."""
        whole = gzip.compress(b'{"event_id": "1"}\n' * 5000)
        (self.folder / "landing" / f"dt={BROKEN_DAY}" / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])

    def mend(self) -> None:
        """It can again."""
        (self.folder / "landing" / f"dt={BROKEN_DAY}" / "cut.jsonl.gz").unlink()


def home(folder: Path) -> None:
    """Of an instance."""
    new_home(folder / "home")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Six days have landed, and nothing is computed."""
    home(tmp_path)
    land(tmp_path / "landing", DAYS)
    return Desk(tmp_path, monkeypatch, capsys)


def compute(folder: Path) -> None:
    """Make a folder in which a backfill of all that landed is done."""
    folder.mkdir()
    home(folder)
    land(folder / "landing", DAYS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for name, value in {"DAGSTER_HOME": "home", "PIPELINE_LANDING": "landing", "PIPELINE_STORE": "lake"}.items():
            monkeypatch.setenv(name, str(folder / value))
        monkeypatch.setenv("PIPELINE_START", str(FIRST))
        monkeypatch.setattr(sys, "argv", ["pipeline", "backfill", *SPAN, "--yes"])
        cli.main()


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A copy of that folder."""
    shutil.copytree(made_once("cli_backfill_done", compute), tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    return Desk(tmp_path, monkeypatch, capsys)


def steps_of(desk: Desk) -> int:
    """How many there are: whoever made the project their own has tables of their own, too."""
    tables = desk("plan", *SPAN, "--format", "json").json["tables"]
    assert set(STEPS) <= set(tables)
    return len(tables)


def test_a_plan_of_an_empty_lake_is_a_few_lines_and_computes_nothing(desk: Desk) -> None:
    outcome, steps = desk("plan", *SPAN), steps_of(desk)
    assert outcome.status == 0
    assert outcome.out.count(f"{FIRST} to {LAST}") == 1 + steps
    assert outcome.out.count("MISSING") == steps
    assert f"To compute: {6 * steps} partitions of 6 days, in {steps} runs" in outcome.out
    assert "How long that takes is not known" in outcome.out
    assert desk.lake() == {}


def test_json_is_all_that_stdout_holds_and_says_what_the_text_says(done: Desk) -> None:
    skipped = done("plan", *SPAN, "--format", "json")
    assert (skipped.status, skipped.err) == (0, "")
    assert skipped.json["counts"] == {"compute": 0, "skip": 6 * steps_of(done), "wait": 0}
    forced = done("plan", "--select", "events", "--days", f"{LAST}", "--reason", "x", "--force", "--format", "json")
    assert forced.json["ask"] == {
        "mode": "selective",
        "tables": ["events"],
        "days": [[str(LAST), str(LAST)]],
        "why": "x",
        "force": True,
        "made": None,
    }
    assert {table: each["partitions"] for table, each in forced.json["tables"].items() if table in STEPS} == {
        "events": [[str(LAST), str(LAST), "compute", "REQUESTED", None]],
        "daily_sales": [[str(LAST), str(LAST), "compute", "DOWNSTREAM_OF", ["events", str(LAST)]]],
        "user_features": [[str(LAST), str(LAST), "compute", "DOWNSTREAM_OF", ["events", str(LAST)]]],
        "user_segments": [[str(LAST), str(LAST), "compute", "DOWNSTREAM_OF", ["user_features", str(LAST)]]],
    }
    estimate = forced.json["tables"]["events"]["estimate"]
    low, expected, high = (estimate["seconds"][index] for index in (1, 0, 2))
    assert estimate["partitions"] == 1
    assert 0 < low <= expected <= high


def test_what_did_not_change_is_skipped_and_said_so(done: Desk) -> None:
    before = done.lake()
    outcome = done("backfill", *SPAN, "--yes")
    assert outcome.status == 0
    assert "Nothing is to be computed." in outcome.out
    why = "as inputs and code did not change; --force computes them all the same."
    assert f"Skipped: {6 * steps_of(done)} partitions, {why}" in outcome.out
    assert done.lake() == before
    assert len(done("backfills", "--format", "json").json) == 1  # nothing is booked that has nothing to do


def test_the_watermark_and_the_gaps_are_told_for_each_table(done: Desk) -> None:
    for day in (DAYS[1], DAYS[3], LAST):
        shutil.rmtree(done.folder / "lake" / "daily_sales" / f"dt={day}")
    outcome = done("plan")
    (line,) = [each for each in outcome.out.splitlines() if each.strip().startswith(f"daily_sales    {DAYS[4]}")]
    assert line.split(maxsplit=2)[2].strip() == f"2 days: {DAYS[1]}, {DAYS[3]}"
    (line,) = [each for each in outcome.out.splitlines() if each.strip().startswith(f"events         {LAST}")]
    assert line.split()[-1] == "none"


@pytest.mark.slow(5)
def test_a_plan_file_is_written_and_read_where_the_command_was_given(desk: Desk) -> None:
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    said = desk("plan", *SPAN, "--select", "raw_events", "--out", "plan.json", "--format", "json", given_in=elsewhere)
    assert said.out == (elsewhere / "plan.json").read_text()
    assert f"`pipeline backfill {elsewhere / 'plan.json'}`" in said.err
    planned = 6 * steps_of(desk)
    outcome = desk("backfill", "plan.json", "--yes", "--format", "json", given_in=elsewhere)
    assert (outcome.status, outcome.json["state"], outcome.json["done"]) == (0, "done", planned), outcome.err
    assert outcome.json["plan"] == said.json["digest"]


@pytest.mark.slow(5)
def test_carrying_out_a_plan_that_is_done_is_refused_with_the_difference(desk: Desk) -> None:
    desk("plan", *SPAN, "--select", "raw_events", "--out", "plan.json")
    assert desk("backfill", "plan.json", "--yes").status == 0
    before = desk.lake()
    again = desk("backfill", "plan.json", "--yes", "--format", "json")
    assert (again.status, again.out) == (3, "")
    assert f"raw_events {FIRST} to {LAST}: compute (MISSING) in the plan, skip now" in again.err
    assert desk.lake() == before


def test_a_plan_is_refused_when_a_head_that_it_reads_moved(done: Desk) -> None:
    done("plan", "--select", "daily_sales", "--days", str(BROKEN_DAY), "--reason", "x", "--force", "--out", "plan.json")
    land(done.folder / "landing", [BROKEN_DAY], scale=3)
    assert done("backfill", "--select", "raw_events,events", "--mode", "stale", "--yes").status == 0
    before = done.lake()
    outcome = done("backfill", "plan.json", "--yes")
    assert outcome.status == 3
    assert f"the head of daily_sales {BROKEN_DAY}" in outcome.err
    assert "plan.json was made at" in outcome.err
    assert done.lake() == before


@pytest.mark.slow(5)
def test_a_plan_is_carried_out_though_partitions_outside_it_moved(done: Desk) -> None:
    done("plan", "--select", "daily_sales", "--days", str(LAST), "--reason", "x", "--force", "--out", "plan.json")
    land(done.folder / "landing", [FIRST], scale=3)
    assert done("backfill", "--select", "raw_events,events", "--mode", "stale", "--yes").status == 0
    assert done("backfill", "plan.json", "--yes").status == 0


def test_a_plan_is_carried_out_though_a_day_got_over_meanwhile(done: Desk) -> None:
    arguments = ("--mode", "full", "--select", "user_segments", "--to", str(LAST), "--force")
    later, earlier = "Etc/GMT-14", "Etc/GMT+12"  # 26 hours apart: another day at any time
    assert done("plan", *arguments, "--out", "plan.json", PIPELINE_TIMEZONE=earlier).status == 0
    outcome = done("backfill", "plan.json", "--yes", "--format", "json", PIPELINE_TIMEZONE=later)
    assert (outcome.status, outcome.json["done"]) == (0, 6)


def test_a_plan_is_carried_out_though_a_day_that_got_over_meanwhile_was_made_and_moved_the_watermark(
    done: Desk,
) -> None:
    shutil.rmtree(done.folder / "lake" / "daily_sales" / f"dt={LAST}")
    done("plan", "--mode", "incremental", "--select", "events,daily_sales", "--to", str(LAST), "--out", "plan.json")
    path = done.folder / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"planned_at": f"{NEXT}T06:00:00+00:00"}))
    landed = done.folder / "landing" / f"dt={NEXT}"
    landed.mkdir()
    (landed / "shop.csv").write_text(f"{HEADER}\n{NEXT}-0,u1,purchase,1.50,{NEXT}T09:00:00Z\n")
    assert done("run", "--from", str(NEXT), "--to", str(NEXT), "--select", "raw_events,events").status == 0
    outcome = done("backfill", "plan.json", "--yes", "--format", "json")
    assert (outcome.status, outcome.json["done"]) == (0, 1), outcome.err


def test_a_plan_is_refused_when_the_code_moved(done: Desk) -> None:
    done("plan", *SPAN, "--force", "--out", "plan.json")
    source = done.folder / "other.sql"
    source.write_text(
        (PROJECT / "sources" / "demo.sql").read_text().replace("\n    amount,", "\n    trim(amount) AS amount,", 1)
    )
    before = done.lake()
    outcome = done("backfill", "plan.json", "--yes", PIPELINE_SOURCE=str(source))
    assert outcome.status == 3
    assert "the code of raw_events is " in outcome.err
    assert done.lake() == before


def edited(text: str) -> str:
    return text.replace(str(LAST), str(DAYS[4]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (edited, "was edited after it was written"),
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda _: "", "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (lambda _: "[1]", "is JSON but not a plan"),
        (lambda text: text.replace('"pipeline_plan": 1', '"pipeline_plan": 2'), "a plan of format 2"),
        (lambda _: "\udcff", "is not UTF-8 text"),
    ],
)
def test_a_spoiled_plan_file_is_refused_in_one_message(desk: Desk, spoil: Callable[[str], str], said: str) -> None:
    path = desk.folder / "plan.json"
    desk("plan", *SPAN, "--out", str(path))
    path.write_bytes(spoil(path.read_text()).encode(errors="surrogateescape"))
    outcome = desk("backfill", "plan.json", "--yes")
    assert (outcome.status, str(path) in outcome.err, said in outcome.err) == (2, True, True), outcome.err
    assert desk.lake() == {}


def test_a_plan_of_another_project_is_refused_by_the_tables_that_are_not_here(desk: Desk) -> None:
    theirs = Plan(Ask(Mode.FULL, ("orders",), ()), (), {}, {}, {})
    (desk.folder / "plan.json").write_text(to_text(theirs, planned_at=datetime.now(UTC)))
    outcome = desk("backfill", "plan.json", "--yes")
    assert (outcome.status, "speaks of orders, which this project does not have" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "--from", str(LAST), "--to", str(FIRST), "--reason", "x"), f"--from {LAST} is after --to {FIRST}"),
        (("plan", "--from", "2026-02-01", "--reason", "x"), f"before the first day of the history, {FIRST}"),
        (("plan", "--to", "2999-01-01", "--reason", "x"), "--to 2999-01-01 is not over yet"),
        (("plan", "--days", "2999-01-01", "--reason", "x"), "--days 2999-01-01 is not over yet"),
        (("plan", "--days", f"{LAST}..{FIRST}", "--reason", "x"), f"{LAST} is after {FIRST}"),
        (("plan", "--days", "", "--reason", "x"), "--days '': neither a day"),
        (("plan", "--days", "2026-02-30", "--reason", "x"), "--days '2026-02-30': neither a day"),
        (("plan", "--days", f"{FIRST}..", "--reason", "x"), "neither a day"),
        (("plan", "--days", str(FIRST), "--from", str(FIRST)), "two ways to say the same"),
        (("plan", "--days", str(FIRST)), "needs --reason"),
        (("plan", "--days", str(FIRST), "--reason", " "), "needs --reason"),
        (("plan", "--mode", "selective", "--reason", "x"), "needs its days"),
        (("plan", "--mode", "everything"), "--mode"),
        (("plan", "--mode", "missing", "--force"), "--mode missing looks for none of that"),
        (("plan", "--select", ""), "--select is empty. Daily tables: "),
        (("plan", "--select", "evnets"), "raw_events"),
        (("plan", "--select", "landing"), "selects no table that is computed by days"),
        (("plan", "--explain", "evnets", str(FIRST)), "there is no table evnets"),
        (("plan", "--explain", "landing", str(FIRST)), "landing is not computed by days"),
        (("plan", "--explain", "events", "2026-02-01"), "before the first day of the history"),
        (("plan", "--explain", "events", "2999-01-01"), "is not over yet"),
        (("plan", "--out", "nowhere/plan.json"), "No such file or directory; the plan was not written"),
        (("plan", "--out", "landing"), "is a directory"),
        (("plan", "--out", "/proc/plan.json"), "the plan was not written"),
        (("backfill", "nothing.json"), "there is no file"),
        (("backfill", "landing"), "is a directory"),
        (("backfill", "plan.json", "--mode", "full"), "--mode beside a plan file"),
        (("backfill", "plan.json", "--resume"), "--resume goes on with a backfill as it was begun"),
        (("backfill", "--resume", "--select", ""), "--resume goes on with a backfill as it was begun"),
        (("backfill", "--resume", "--dagster"), "--resume goes on with a backfill as it was begun"),
        (("backfill", "--id", "2026"), "--id says which backfill --resume goes on with"),
        (("backfill", "--dagster", "--parallel", "2"), "--parallel: of a backfill that Dagster does"),
        (("backfill", "--parallel", "0"), "--parallel"),
        (("backfill", "--days-per-run", "0"), "--days-per-run"),
        (("backfill", "--resume"), "there is no backfill to go on with"),
        (("backfill", "--resume", "--id", "x"), "there is no backfill 'x'; there are: none yet"),
        (("backfill", *SPAN), "there is no terminal to ask at; say --yes"),
        (("cancel", ""), "there is no backfill ''"),
        (("retry", "x"), "there is no backfill 'x'"),
    ],
)
def test_what_is_wrong_is_said_in_one_message_and_nothing_is_begun(
    desk: Desk, arguments: tuple[str, ...], said: str
) -> None:
    outcome = desk(*arguments, PIPELINE_DAGSTER_URL="http://127.0.0.1:9")
    assert (outcome.status, said in outcome.err) == (2, True), outcome.err
    assert desk.lake() == {}
    assert desk("backfills", "--format", "json").json == []


def test_a_dagster_that_does_not_answer_is_said_and_may_be_asked_later(desk: Desk) -> None:
    outcome = desk("backfill", *SPAN, "--dagster", "--yes", PIPELINE_DAGSTER_URL="http://127.0.0.1:9")
    assert (outcome.status, "Nobody answers at http://127.0.0.1:9" in outcome.err) == (1, True), outcome.err
    assert (desk.lake(), desk("backfills", "--format", "json").json) == ({}, [])


def test_explain_follows_the_causes_to_the_first_one(done: Desk) -> None:
    land(done.folder / "landing", [LAST], scale=3)
    outcome = done("plan", "--explain", "user_segments", str(LAST))
    assert outcome.out.splitlines() == [
        f"user_segments {LAST} is computed, DOWNSTREAM_OF: it reads user_features {LAST}.",
        f"user_features {LAST} is computed, DOWNSTREAM_OF: it reads events {DAYS[2]}.",
        f"events {DAYS[2]} is computed, DOWNSTREAM_OF: it reads raw_events {LAST}.",
        f"raw_events {LAST} is computed, INPUT_CHANGED: it was made from another version of landing {LAST}.",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*SPAN, "--explain", "events", str(LAST)), f"events {LAST} is skipped: its inputs and code did not change."),
        (
            ("--mode", "missing", "--explain", "events", str(LAST)),
            (
                f"events {LAST} is left alone: --mode missing finds nothing to do for it (it is there), and it reads "
                "nothing that is computed."
            ),
        ),
        (
            ("--select", "daily_sales", "--explain", "events", str(LAST)),
            f"events {LAST} is left alone: events was not asked for, and it reads nothing that is computed.",
        ),
        (
            ("--days", str(FIRST), "--reason", "x", "--explain", "events", str(LAST)),
            f"events {LAST} is left alone: its day was not asked for, and it reads nothing that is computed.",
        ),
        (
            (*SPAN, "--force", "--explain", "rejected_events", str(LAST)),
            (
                f"rejected_events is computed together with raw_events.\n"
                f"raw_events {LAST} is computed, REQUESTED: it was asked for."
            ),
        ),
        (
            ("--explain", "events", "2026-03-07"),
            (
                "events 2026-03-07 should be computed, MISSING, and waits for raw_events 2026-03-07.\n"
                "raw_events 2026-03-07 should be computed, MISSING, and waits for landing 2026-03-07.\n"
                "landing 2026-03-07 is not there, and nothing in this plan makes it."
            ),
        ),
    ],
)
def test_explain_says_why_a_partition_is_not_computed(done: Desk, arguments: tuple[str, ...], said: str) -> None:
    assert done("plan", *arguments).out.strip() == said
    told = done("plan", *arguments, "--format", "json").json
    assert "\n".join(told["explained"]) == said
    assert set(told) == {"table", "day", "action", "reason", "because", "explained"}


def test_what_failed_ends_with_one_and_retry_completes_the_lake_after_the_cause_is_mended(desk: Desk) -> None:
    desk.break_()
    broken = desk("backfill", *SPAN, "--yes", "--format", "json")
    told = broken.json
    assert (broken.status, told["state"], told["failed"]) == (1, "failed", 1)
    assert [(each["table"], each["day"]) for each in told["failures"]] == [("raw_events", str(BROKEN_DAY))]
    assert "cut.jsonl.gz" in told["failures"][0]["what"]
    assert told["planned"] == told["done"] + told["failed"] + told["left"]
    still = desk("retry", told["backfill_id"], "--yes")
    assert still.status == 1
    assert "cut.jsonl.gz" in still.err

    desk.mend()
    made = set(desk.lake())
    mended = desk("retry", told["backfill_id"][:-2], "--yes", "--format", "json")
    assert (mended.status, mended.json["state"], mended.json["retries"]) == (0, "done", told["backfill_id"]), mended.err
    assert mended.json["planned"] == told["failed"] + told["left"]
    assert made < set(desk.lake())
    whole = Desk(made_once("cli_backfill_done", compute), desk.monkeypatch, desk.capsys).lake()
    assert desk.lake() == whole

    listed = desk("backfills", "--format", "json").json
    assert [each["state"] for each in listed] == ["done", "failed", "failed"]
    assert [each["retries"] for each in listed] == [told["backfill_id"], told["backfill_id"], None]
    assert f"retry of {told['backfill_id']}" in desk("backfills").out
    assert desk("backfill", "--resume").status == 2  # what failed was taken up


def test_an_id_that_several_begin_with_is_refused_with_all_of_them(done: Desk) -> None:
    assert done("backfill", "--select", "events", "--days", str(LAST), "--reason", "x", "--force", "--yes").status == 0
    ids = [each["backfill_id"] for each in done("backfills", "--format", "json").json]
    outcome = done("cancel", "20")
    assert (outcome.status, f"several backfills begin with '20'; there are: {', '.join(ids)}" in outcome.err) == (
        2,
        True,
    )


def test_a_backfill_that_is_done_is_neither_cancelled_nor_retried_and_resuming_it_does_nothing(done: Desk) -> None:
    (told,) = done("backfills", "--format", "json").json
    backfill_id = told["backfill_id"]
    cancelled = done("cancel", backfill_id)
    assert (cancelled.status, "is done: there is nothing to cancel" in cancelled.err) == (2, True)
    retried = done("retry", backfill_id, "--yes")
    assert (retried.status, "failed: it is done" in retried.err) == (2, True)
    before = done.lake()
    resumed = done("backfill", "--resume", "--id", backfill_id, "--format", "json")
    assert (resumed.status, resumed.json["done"]) == (0, told["done"])
    assert done.lake() == before


def test_a_cancelled_backfill_is_not_resumed(desk: Desk) -> None:
    desk.break_()
    backfill_id = desk("backfill", *SPAN, "--select", "raw_events", "--yes", "--format", "json").json["backfill_id"]
    assert desk("cancel", backfill_id).status == 0
    assert desk("backfills", "--format", "json").json[0]["state"] == "cancelled"
    resumed = desk("backfill", "--resume", "--id", backfill_id)
    assert (resumed.status, "was cancelled, for good" in resumed.err) == (2, True)
    assert desk("backfill", "--resume").status == 2
    assert desk("cancel", backfill_id).status == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"backfill_id": 1}'])
def test_a_file_of_the_book_that_cannot_be_read_is_named_and_hides_no_other(done: Desk, text: str) -> None:
    spoiled = done.book() / "29990101-000000-abcd.json"
    spoiled.write_text(text)
    listed = done("backfills", "--format", "json")
    assert (listed.status, len(listed.json)) == (0, 1)
    assert f"{spoiled} cannot be read as a backfill" in listed.err
    outcome = done("cancel", "2999")
    assert (outcome.status, "cannot be read as a backfill" in outcome.err) == (2, True)


def test_no_stdin_at_all_is_nobody_to_be_asked(desk: Desk) -> None:
    desk.monkeypatch.setattr(sys, "stdin", None)
    outcome = desk("backfill", *SPAN)
    assert (outcome.status, "say --yes" in outcome.err) == (2, True)


def read_to_the_end(terminal: int) -> None:
    """What a terminal shows, until nobody writes to it any more."""
    with suppress(OSError):  # Linux says the end so
        while os.read(terminal, 4096):
            pass
    os.close(terminal)


@pytest.mark.slow(12)
@pytest.mark.parametrize(("answer", "status"), [(b"n\n", 130), (b"\x03", 130), (b"y\n", 0)])
def test_a_terminal_is_asked_and_only_yes_begins_it(desk: Desk, answer: bytes, status: int) -> None:
    """The question goes to stderr: stdout may be a file."""
    ours, theirs = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")},
        "DAGSTER_HOME": str(desk.folder / "home"),
        "PIPELINE_LANDING": str(desk.folder / "landing"),
        "PIPELINE_STORE": str(desk.folder / "lake"),
        "PIPELINE_START": str(FIRST),
        "PYTHONPATH": str(PROJECT),
    }
    with subprocess.Popen(
        [sys.executable, "-c", ASKED, "backfill", *SPAN, "--format", "json"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            said = b""
            while b"Carry it out?" not in said:
                said += os.read(ours, 4096)
            # A terminal that nobody looks at takes 19 KB, then it stops who writes to it.
            threading.Thread(target=read_to_the_end, args=(ours,), daemon=True).start()
            out = None
            while out is None:
                # Python does not notice a signal between its last look for one and the wait for a line. Nobody is as
                # quick; and whoever sees nothing happen presses again.
                time.sleep(0.5)
                os.write(ours, answer)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, _ = process.communicate(timeout=60)
            assert process.returncode == status
        finally:
            process.kill()
    assert (json.loads(out)["done"] if out else 0) == (0 if status else 6 * steps_of(desk))
    assert len(list(desk.book().glob("*.json"))) == (status == 0)
