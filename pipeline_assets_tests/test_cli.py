"""The `pipeline` command as people and CI use it: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_assets import cli
from pipeline_assets.cli.main import COMMANDS, load_command
from pipeline_assets.demo import write_days
from pipeline_assets.errors import MayPass, MustChange, PipelineError, PlanOutdated, Unknown
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.store.parquet import rows_digest
from pipeline_assets_tests.support.homes import new_home
from pipeline_assets_tests.support.session import made_once

LAST = date(2026, 3, 10)
DAYS = 5
PLACES = {"DAGSTER_HOME": "dagster", "PIPELINE_LANDING": "landing", "PIPELINE_STORE": "lake"}
TABLES = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")


@dataclass
class Outcome:
    status: int
    out: str
    err: str


Pipeline = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Landing zone, lake and Dagster instance of their own, below one folder."""
    new_home(tmp_path / "dagster")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    for name, place in PLACES.items():
        monkeypatch.setenv(name, str(tmp_path / place))
    return tmp_path


@pytest.fixture
def pipeline(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return run


@pytest.fixture
def landed(home: Path) -> Path:
    write_days(home / "landing", [LAST - timedelta(days=back) for back in range(DAYS)], seed=1)
    return home / "landing"


@pytest.fixture
def ran(home: Path, pipeline: Pipeline) -> Path:
    """The landing zone, all days of which are computed."""

    def run(folder: Path) -> None:
        shutil.copytree(home, folder)
        with pytest.MonkeyPatch.context() as there:
            there.chdir(folder)
            for name, place in PLACES.items():
                there.setenv(name, str(folder / place))
            write_days(folder / "landing", [LAST - timedelta(days=back) for back in range(DAYS)], seed=1)
            assert pipeline("run").status == 0

    shutil.copytree(made_once("cli_ran", run), home, dirs_exist_ok=True)
    return home / "landing"


def hashes(lake: Path) -> dict[str, str]:
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(lake.rglob("*.parquet"))
    }


def test_run_ends_in_a_table_that_agrees_with_the_lake(pipeline: Pipeline, landed: Path, home: Path) -> None:
    outcome = pipeline("run")
    assert outcome.status == 0, outcome.err
    for table in TABLES:
        files = list((home / "lake" / table).glob("dt=*/data.parquet"))
        rows = sum(pq.read_metadata(path).num_rows for path in files)
        (line,) = [line for line in outcome.out.splitlines() if line.strip().startswith(f"{table} ")]
        assert len(files) == DAYS
        assert line.split()[1] == str(DAYS)
        assert f"{rows:,}" in line.split()
    assert "make dev" in outcome.out


def test_the_same_command_twice_leaves_every_file_as_it_was(pipeline: Pipeline, ran: Path, home: Path) -> None:
    before = {path: path.stat() for path in (home / "lake").rglob("*.parquet")}
    again = pipeline("run")
    assert again.status == 0
    after = {path: path.stat() for path in (home / "lake").rglob("*.parquet")}
    assert {p: (s.st_ino, s.st_mtime_ns) for p, s in after.items()} == {
        p: (s.st_ino, s.st_mtime_ns) for p, s in before.items()
    }
    (line,) = [line for line in again.out.splitlines() if line.strip().startswith("daily_sales ")]
    assert line.split()[-2] == str(DAYS)  # unchanged


def digest_of(lake: Path, table: str, day: date) -> str | None:
    with (lake / f"{table}/dt={day}/data.parquet").open("rb") as file:
        return rows_digest(pa.PythonFile(file))


def test_why_names_the_verdict_and_every_upstream_commit(pipeline: Pipeline, ran: Path, home: Path) -> None:
    outcome = pipeline("why", "user_features", str(LAST))
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"user_features {LAST} is current. It is made from what is upstream now")
    assert "pipeline run" in outcome.out
    for back in range(DAYS):
        day = LAST - timedelta(days=back)
        (line,) = [line for line in outcome.out.splitlines() if line.strip().startswith(f"events {day} ")]
        assert line.split()[2:] == [digest_of(home / "lake", "events", day), "unchanged"]


def test_why_of_what_is_not_there_says_what_there_is(pipeline: Pipeline, landed: Path) -> None:
    unknown = pipeline("why", "sales", str(LAST))
    assert (unknown.status, "no daily table sales; tables: landing, " in unknown.err) == (2, True)
    assert "is made from nothing upstream" in pipeline("why", "sla_report", str(LAST)).out
    outcome = pipeline("why", "events", str(LAST - timedelta(days=DAYS)))
    assert (outcome.status, f"its history is {LAST - timedelta(days=DAYS - 1)} to" in outcome.err) == (2, True)


def test_what_ran_is_seen_in_the_dagster_instance(pipeline: Pipeline, ran: Path, home: Path) -> None:
    with open_instance(home / "dagster") as instance:
        for table in TABLES:
            assert len(instance.get_materialized_partitions(dg.AssetKey(table))) == DAYS
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.slow(10)
def test_chunks_in_any_order_end_in_the_lake_of_one_run(
    pipeline: Pipeline, ran: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_STORE", str(home / "chunked"))
    for first, last in (("2026-03-10", "2026-03-10"), ("2026-03-06", "2026-03-07"), ("2026-03-08", "2026-03-09")):
        assert pipeline("run", "--from", first, "--to", last).status == 0
    published = {name: digest for name, digest in hashes(home / "chunked").items() if not name.startswith("_")}
    assert published == hashes(home / "lake")


def test_run_says_which_days_outside_the_range_it_computed_again(pipeline: Pipeline, ran: Path) -> None:
    outcome = pipeline("run", "--from", "2026-03-09", "--to", "2026-03-09")
    assert "Days outside the range that read days of it were computed again: events 4" in outcome.out


def test_select_computes_only_what_was_selected(pipeline: Pipeline, landed: Path, home: Path) -> None:
    assert pipeline("run", "--select", "raw_events,rejected_events").status == 0
    assert sorted(path.name for path in (home / "lake").iterdir() if not path.name.startswith("_")) == [
        "raw_events",
        "rejected_events",
    ]


def test_a_damaged_file_fails_its_day_by_name_and_not_its_neighbours(
    pipeline: Pipeline, landed: Path, home: Path
) -> None:
    whole = gzip.compress(b'{"event_id": "1"}\n' * 5000)
    (landed / "dt=2026-03-08" / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    outcome = pipeline("run")
    assert outcome.status == 1
    assert "dt=2026-03-08/cut.jsonl.gz" in outcome.err
    assert "Traceback" not in outcome.err
    days = sorted(path.name for path in (home / "lake" / "raw_events").iterdir() if (path / "data.parquet").exists())
    assert days == ["dt=2026-03-06", "dt=2026-03-07", "dt=2026-03-09", "dt=2026-03-10"]


def test_an_unfinished_upload_is_not_read_and_not_passed_over_in_silence(pipeline: Pipeline, landed: Path) -> None:
    (landed / "dt=2026-03-08" / "more.csv.part").write_text("event_id\n1\n")
    outcome = pipeline("run")
    assert outcome.status == 0
    assert "more.csv.part" in outcome.out


TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({"PIPELINE_START": "2999-01-01"}, (), "must be a day that is over"),
        ({"PIPELINE_TIMEZONE": "Mars/Olympus"}, (), "time zone 'Mars/Olympus' does not exist"),
        ({"PIPELINE_SOURCE": "README.md"}, (), "README.md"),
        ({"PIPELINE_SOURCE": "nowhere.sql"}, (), "nowhere.sql"),
        ({"PIPELINE_STORE": "/proc/lake"}, (), "PIPELINE_STORE"),
        ({"PIPELINE_STORE": "/dev/null/lake"}, (), "PIPELINE_STORE"),
        ({"PIPELINE_LANDING": "/nowhere"}, (), "holds no day that is over"),
        ({"PIPELINE_TIMEZON": "UTC"}, (), "PIPELINE_TIMEZONE is meant"),
        ({}, ("--from", "2026-03-09", "--to", "2026-03-07"), "--from 2026-03-09 is after --to 2026-03-07"),
        ({}, ("--from", "2026-01-01"), "before the first day of the history, 2026-03-06"),
        ({}, ("--to", TODAY.isoformat()), "is not over yet"),
        ({}, ("--select", "evnets"), "raw_events"),
        ({}, ("--from", "yesterday"), "--from"),
    ],
)
def test_what_is_wrong_is_said_in_one_message_and_nothing_is_written(  # noqa: PLR0917 - fixtures and a table
    pipeline: Pipeline,
    landed: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = pipeline("run", *arguments)
    assert outcome.status == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert not (home / "lake" / "raw_events").exists()


def test_a_select_without_a_column_of_the_contract_is_named_with_it(
    pipeline: Pipeline, landed: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = home / "short.sql"
    short.write_text("SELECT event_id, user_id, event_type, amount FROM landing")
    monkeypatch.setenv("PIPELINE_SOURCE", str(short))
    outcome = pipeline("run")
    assert outcome.status == 2
    assert "short.sql" in outcome.err
    assert "event_time" in outcome.err


def test_show_lists_days_and_shows_one_with_its_record(pipeline: Pipeline, ran: Path) -> None:
    listed = pipeline("show", "events")
    assert listed.status == 0
    assert all(f"2026-03-{day:02}" in listed.out for day in range(6, 11))
    assert "rows_duplicate" in listed.out
    one = pipeline("show", "events", "--day", "2026-03-08")
    assert "events/dt=2026-03-08/data.parquet" in one.out
    assert "made from raw_events" in one.out
    assert "code_version" in one.out


def test_history_lists_the_head_and_what_it_replaced_with_how_each_was_made(pipeline: Pipeline, ran: Path) -> None:
    (ran / "dt=2026-03-08" / "extra.csv").write_text(
        "event_id,user_id,event_type,amount,event_time\nx1,u1,purchase,1.00,2026-03-08T10:00:00Z\n"
    )
    pipeline("run")

    listed = pipeline("history", "events", "2026-03-08")

    assert listed.status == 0
    commits = [line.split() for line in listed.out.splitlines() if "rows1:" in line]
    assert len(commits) == 2
    newer, older = (int(each[1].replace(",", "")) for each in commits)
    assert newer == older + 1
    assert commits[0][-1] != commits[1][-1], "they are of two runs"
    missing = pipeline("history", "events", "2026-01-01")
    assert (missing.status, "has not been computed" in missing.err) == (2, True)


def test_fsck_finds_what_does_not_fit_and_mends_what_needs_no_computing(
    pipeline: Pipeline, ran: Path, home: Path
) -> None:
    assert pipeline("fsck").status == 1, "this lake is a copy, as its files show"
    assert pipeline("fsck", "--repair").status == 0
    whole = pipeline("fsck")
    assert (whole.status, "0 flaws" in whole.out) == (0, True), whole.out
    head = home / "lake" / "daily_sales" / "dt=2026-03-08" / "data.parquet"
    head.write_bytes(head.read_bytes())  # as a copy has it
    (home / "lake" / "events" / "dt=2026-03-07" / "data.parquet").write_bytes(b"half")

    found = pipeline("fsck")
    assert found.status == 1
    assert "--repair` mends log, moved" in found.out
    repaired = pipeline("fsck", "--repair")
    assert repaired.status == 1
    assert "2 mended, 1 flaw" in repaired.out
    assert "damaged" in pipeline("fsck").out

    assert "UNRECORDED" in pipeline("plan").out
    assert pipeline("run", "--select", "events", "--from", "2026-03-07", "--to", "2026-03-07").status == 0
    assert pipeline("fsck").status == 0
    assert "Nothing is to be computed" in pipeline("plan").out


def test_a_damaged_file_is_named_with_table_and_day_and_hides_no_other(
    pipeline: Pipeline, ran: Path, home: Path
) -> None:
    for table in ("events", "rejected_events"):
        (home / "lake" / table / "dt=2026-03-08" / "data.parquet").write_bytes(b"half")

    listed = pipeline("show", "events")
    assert (listed.status, listed.out.count("damaged")) == (0, 1)
    for arguments in (
        ("show", "events", "--day", "2026-03-08"),
        ("rejects", "--day", "2026-03-08"),
        ("run", "--select", "daily_sales", "--from", "2026-03-08", "--to", "2026-03-08"),
    ):
        refused = pipeline(*arguments)
        assert refused.status != 0
        assert "events 2026-03-08: its file cannot be read" in " ".join(refused.err.split())
        assert "Traceback" not in refused.err
    rejected = pipeline("rejects")
    assert rejected.status == 0
    assert "rejected_events 2026-03-08" in rejected.err


@pytest.mark.parametrize("command", ["show", "history", "rejects", "diff"])
def test_what_shows_the_lake_imports_no_dagster(command: str) -> None:
    load = f"from pipeline_assets.cli.main import load_command; load_command({command!r})"
    code = f"import sys; {load}; print([*sys.modules])"
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "'pyarrow'" in imported
    assert "'dagster'" not in imported


def test_show_says_what_there_is_when_it_is_asked_for_what_there_is_not(pipeline: Pipeline, landed: Path) -> None:
    assert "it is empty" in pipeline("show", "events").err
    pipeline("run")
    assert "tables: daily_sales" in pipeline("show", "sales").err
    missing = pipeline("show", "events", "--day", "2026-01-01")
    assert missing.status == 2
    assert "events 2026-01-01 has not been computed" in missing.err


def test_rejects_prints_file_line_rule_reason_and_row(pipeline: Pipeline, landed: Path) -> None:
    with (landed / "dt=2026-03-08" / "extra.csv").open("w") as file:
        file.write("event_id,user_id,event_type,amount,event_time\n")
        file.write("x1,u1,purchase,1.00,2026-03-08T10:00:00Z\n")
        file.write("x2,u1,purchase,[red]cheap[/red],2026-03-08T10:00:00Z\n")
    pipeline("run")
    outcome = pipeline("rejects", "--day", "2026-03-08", "--limit", "1000")
    assert outcome.status == 0
    (line,) = [line for line in outcome.out.splitlines() if "extra.csv:3" in line]
    assert "cast" in line
    assert "[red]cheap[/red]" in " ".join(outcome.out.split())


def test_restore_publishes_a_replaced_commit_and_dagster_knows(pipeline: Pipeline, ran: Path, home: Path) -> None:
    first = hashes(home / "lake")["daily_sales/dt=2026-03-08/data.parquet"]
    (ran / "dt=2026-03-08" / "extra.csv").write_text(
        "event_id,user_id,event_type,amount,event_time\nx1,u1,purchase,1.00,2026-03-08T10:00:00Z\n"
    )
    pipeline("run")
    assert hashes(home / "lake")["daily_sales/dt=2026-03-08/data.parquet"] != first
    (kept,) = (home / "lake" / "_history" / "daily_sales" / "dt=2026-03-08").glob("*.parquet")
    outcome = pipeline("restore", "daily_sales", "2026-03-08", kept.stem)
    assert outcome.status == 0, outcome.err
    assert hashes(home / "lake")["daily_sales/dt=2026-03-08/data.parquet"] == first
    with open_instance(home / "dagster") as instance:
        newest = instance.get_latest_materialization_event(dg.AssetKey("daily_sales"))
        assert newest is not None
        assert newest.asset_materialization is not None
        names: Any = newest.asset_materialization.metadata["commit"].value
        assert names["file"] == kept.stem
    unknown = pipeline("restore", "daily_sales", "2026-03-08", "0" * 32)
    assert unknown.status == 2
    assert "Kept:" in unknown.err


def test_demo_fills_the_landing_zone_and_refuses_one_that_is_in_use(pipeline: Pipeline, home: Path) -> None:
    assert pipeline("demo", "--days", "2", "--until", "2026-03-10").status == 0
    assert (home / "landing" / "dt=2026-03-10").is_dir()
    (home / "landing" / "dt=2026-03-10" / "theirs.csv").write_text("a\n")
    refused = pipeline("demo", "--days", "2", "--until", "2026-03-10")
    assert refused.status == 2
    assert "theirs.csv" in refused.err


@pytest.mark.slow(12)
def test_ctrl_c_in_the_middle_keeps_what_was_committed_and_the_same_command_goes_on(landed: Path, home: Path) -> None:
    command = [sys.executable, "-c", "from pipeline_assets.cli import main; main()", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    process = subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:  # the first table is done, the next one under way
        if line.startswith("rejected_events:"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    with open_instance(home / "dagster") as instance:
        assert len(instance.get_materialized_partitions(dg.AssetKey("raw_events"))) == DAYS
        assert [run.status for run in instance.get_runs()] != [dg.DagsterRunStatus.STARTED]
    finished = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert not list((home / "lake" / "_staging").rglob("*.parquet"))


ERRORS = sorted(
    (each for group in (MustChange, MayPass, Unknown) for each in group.__subclasses__()),
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("error", ERRORS)
def test_a_command_ends_as_the_group_of_its_error_says(
    error: type[PipelineError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise error("what happened")

    monkeypatch.setattr(sys.modules["pipeline_assets.cli.main"], "cli", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == (3 if error is PlanOutdated else 2 if issubclass(error, MustChange) else 1)
    assert "what happened" in capsys.readouterr().err


def test_the_help_of_all_commands_and_a_typing_error_import_nothing_heavy() -> None:
    code = (
        "import sys, pipeline_assets.cli\n"
        "try: pipeline_assets.cli.main()\n"
        "finally: print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    for argument, status in (("--help", 0), ("pln", 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, argument], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        imported = set(done.stderr.splitlines())
        assert "pipeline_assets.cli.main" in imported
        assert imported & {"dagster", "pandas", "pyarrow", "pydantic", "requests", "rich"} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_commands_says_of_each_what_its_own_help_begins_with(name: str) -> None:
    command, listed = load_command(name), cli.cli.commands[name]
    assert command.name == name
    assert listed.help == (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert listed.get_short_help_str(10**6) == command.get_short_help_str(10**6)
