"""The example workflow of docs/ci, step by step, on a real repository with a real pull request.

GitHub's part is played here: the checkout of the merge commit, the environment, and a shell for each step. Set-up is
the only step that needs a network; it finds a .venv that stands for an editable install of its checkout, made of the
interpreter that runs the tests, and so has nothing to do. All commands run as they stand in the file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml  # type: ignore[import-untyped]

from pipeline_assets.orchestration.process import open_instance

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / "docs" / "ci" / "pull_request.yml").read_text(encoding="utf-8"))
JOB = WORKFLOW["jobs"]["data-diff"]
STEPS = {step["name"]: step for step in JOB["steps"] if "run" in step}
INSTALL, COMPARE = "Install both", "Compare"
FEATURES = "pipeline_assets/assets/user_features.py"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")


def git(folder: Path, *arguments: str) -> str:
    named = ["-c", "user.name=CI", "-c", "user.email=ci@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Runner:
    """A machine of GitHub's with a pull request checked out, as `actions/checkout` leaves it."""

    workspace: Path
    temp: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        path = self.temp / "summary.md"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def scratch(self) -> Path:
        return Path(self.variables["SCRATCH"])

    def run(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One step: its script in a new shell, in GitHub's words `bash --noprofile --norc -eo pipefail`."""
        step = STEPS[name]
        assert JOB["defaults"]["run"]["shell"] == "bash"
        env_file = self.temp / "env"
        env_file.touch()
        plain = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        environment = {
            **plain,
            "CI": "true",
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_ENV": str(env_file),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            "RUNNER_TEMP": str(self.temp),
            **WORKFLOW["env"],
            **self.variables,
            **variables,
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.workspace / step.get("working-directory", "."),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.variables |= dict(line.split("=", 1) for line in env_file.read_text(encoding="utf-8").splitlines())
        return done

    def run_until(self, last: str, **variables: str) -> None:
        """All steps before the named one; each must pass."""
        for name in STEPS:
            if name == last:
                return
            if name == INSTALL:
                for checkout in ("base", "head"):
                    installed(self.workspace / checkout)
            done = self.run(name, **variables)
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def installed(checkout: Path) -> None:
    """What `make` leaves, as far as it is used here: the command, running the code of this checkout."""
    command = checkout / ".venv" / "bin" / "pipeline"
    command.parent.mkdir(parents=True)
    code = "import sys; from pipeline_assets.cli import main; sys.exit(main())"
    command.write_text(f"#!/bin/sh\nPYTHONPATH='{checkout}' exec '{sys.executable}' -c '{code}' \"$@\"\n")
    command.chmod(0o755)
    (checkout / ".venv" / ".installed").touch()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's files, committed on `main`."""
    origin = tmp_path_factory.mktemp("origin")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, origin / name)
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "base")
    return origin


def pull_request(repository: Path, folder: Path, *, branch: str, old: str, new: str) -> Runner:
    """A branch that edits the features, merged into its base as GitHub does it, and checked out with its parents."""
    git(repository, "switch", "--quiet", "--create", branch, "main")
    text = (repository / FEATURES).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (repository / FEATURES).write_text(text.replace(old, new), encoding="utf-8")
    git(repository, "commit", "--quiet", "--all", "--message", branch)
    git(repository, "switch", "--quiet", "--create", f"merge-{branch}", "main")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "merge", branch)
    git(repository, "switch", "--quiet", "main")
    checkout = next(step for step in JOB["steps"] if step.get("uses", "").startswith("actions/checkout@"))["with"]
    (folder / "workspace").mkdir()
    (folder / "temp").mkdir()
    depth = str(checkout["fetch-depth"])
    git(
        folder / "workspace",
        *("clone", "--quiet", "--depth", depth, "--branch", f"merge-{branch}"),
        *(repository.as_uri(), checkout["path"]),
    )
    return Runner(folder / "workspace", folder / "temp")


def computed(runner: Runner) -> dict[str, int]:
    """Partitions that were computed for the head, by table."""
    tables = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")

    def recorded(side: str) -> dict[str, int]:
        with open_instance(runner.scratch / side / "dagster") as instance:
            return {
                table: len(instance.fetch_materializations(dg.AssetKey(table), limit=1000).records) for table in tables
            }

    base, head = recorded("base"), recorded("head")
    return {table: head[table] - base[table] for table in tables if head[table] != base[table]}


def rows_about(name: str, summary: str) -> list[list[str]]:
    """Rows of the summary's tables that begin with a name."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in summary.splitlines()]
    return [row for row in rows if row[0] == name]


def rows_of(lake: Path, table: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path.parent.name, row["user_id"]): row
        for path in sorted(lake.glob(f"{table}/*/data.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    }


def values_of(runner: Runner, table: str, column: str) -> tuple[list[Any], list[Any]]:
    """A column of both lakes, row by row."""
    base, head = (rows_of(runner.scratch / side / "lake", table) for side in ("base", "head"))
    assert base.keys() == head.keys()
    return [row[column] for row in base.values()], [head[key][column] for key in base]


def changed(values: tuple[list[Any], list[Any]]) -> int:
    return sum(old != new for old, new in zip(*values, strict=True))


def test_the_page_gives_the_commands_of_the_workflow() -> None:
    def commands(text: str) -> list[tuple[str, set[str]]]:
        lines = [line for line in text.splitlines() if ".venv/bin/pipeline " in line]
        found = [line.split(".venv/bin/pipeline ")[1].split() for line in lines]
        return [(words[0], {word for word in words if word.startswith("--")} - shown) for words in found]

    shown = {"--format", *WORKFLOW["env"]["THRESHOLD"].split()}
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    assert commands(page) == commands("\n".join(step["run"] for step in STEPS.values()))


@pytest.mark.slow(50)
def test_a_changed_asset_and_its_downstream_are_computed_compared_and_judged(repository: Path, tmp_path: Path) -> None:
    runner = pull_request(
        repository, tmp_path, branch="double", old="sum(amount) AS spend_28d", new="2 * sum(amount) AS spend_28d"
    )
    runner.run_until(COMPARE)
    assert computed(runner) == {"user_features": 10, "user_segments": 10}

    beyond = runner.run(COMPARE)
    assert beyond.returncode == 1, beyond.stderr
    assert runner.summary == beyond.stdout
    spend, segments = values_of(runner, "user_features", "spend_28d"), values_of(runner, "user_segments", "segment")
    spenders, moved, users = changed(spend), changed(segments), f"{len(spend[0]):,}"
    assert spenders > 0
    assert moved > 0
    assert runner.summary.startswith("### 2 of 6 tables differ, 2026-03-01 to 2026-03-10.")
    assert f"**user_features is beyond the threshold: {spenders:,} rows (" in runner.summary
    assert rows_about("user_features", runner.summary) == [
        ["user_features", "0", "10", "0", "0", users, users, "0", "0", f"{spenders:,}"]
    ]
    assert [row[:3] for row in rows_about("events", runner.summary)] == [["events", "10", "0"]]
    ((_, values, sums, *_),) = rows_about("spend_28d", runner.summary)
    old, new = sum(spend[0]), sum(spend[1])
    assert new == 2 * old
    assert (values, sums) == (f"{spenders:,}", f"{old:,} → {new:,} (+{old:,})")
    ((_, values, *_),) = rows_about("segment", runner.summary)
    assert values == f"{moved:,}"

    assert runner.run(COMPARE, THRESHOLD=f"--max-changed-rows {spenders}").returncode == 0


@pytest.mark.slow(50)
def test_a_change_of_comments_computes_nothing_and_passes(repository: Path, tmp_path: Path) -> None:
    runner = pull_request(
        repository, tmp_path, branch="comment", old=").to_arrow_table()", new=").to_arrow_table()  # a row a user"
    )
    runner.run_until(COMPARE, SAMPLE_FROM="2026-03-09")
    assert computed(runner) == {}
    done = runner.run(COMPARE)
    assert (done.returncode, done.stdout) == (0, runner.summary), done.stderr
    assert runner.summary.startswith("### 6 tables compared, 2026-03-09 to 2026-03-10: no difference.")
    assert "**Within the threshold: 0 rows of a table may differ.**" in runner.summary
