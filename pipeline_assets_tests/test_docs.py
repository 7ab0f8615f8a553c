"""What the docs say is run: the README's example, the paths it names, the settings it lists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipeline_assets.cli import cli
from pipeline_assets.demo import write_days
from pipeline_assets.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = "pipeline_assets/assets/weekly_buyers.py"
SHIPPED = {"events.py", "daily_sales.py", "user_features.py", "user_segments.py"}
HIVE = ds.partitioning(pa.schema([("dt", pa.date32())]), flavor="hive")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project with the README's example as a file of its own, and nothing else changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("pipeline_assets", "sources"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for file in ("pyproject.toml", "workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / file, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / EXAMPLE).write_text(code, encoding="utf-8")
    return tmp_path


def python(checkout: Path, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "DAGSTER_"))}
    environment = {**kept, "PYTHONPATH": str(checkout), "DAGSTER_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, *arguments]
    ended = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_readmes_example_in_a_file_of_its_own_is_a_table_of_the_project(checkout: Path) -> None:
    days = [datetime.now(UTC).date() - timedelta(days=age) for age in (4, 3, 2, 1)]
    write_days(checkout / ".data" / "landing", days, seed=7)
    command = "from pipeline_assets.cli import main; main()"
    told = python(checkout, "-c", command, "run", "--select", "*weekly_buyers")
    assert re.search(r"weekly_buyers +4 ", told)

    def rows(table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            ds.dataset(checkout / ".data/lake" / table, partitioning=HIVE).to_table().to_pylist()
        )
        return found

    events, buyers = rows("events"), rows("weekly_buyers")
    assert buyers
    for day in days:
        bought = Counter(each["user_id"] for each in events if each["dt"] <= day and each["event_type"] == "purchase")
        del bought[None]
        assert {each["user_id"]: each["purchases"] for each in buyers if each["dt"] == day} == bought


def test_the_readmes_example_is_in_the_style_of_the_project(checkout: Path) -> None:
    assert "All checks passed" in python(checkout, "-m", "ruff", "check", "--no-cache", EXAMPLE)
    assert "already formatted" in python(checkout, "-m", "ruff", "format", "--no-cache", "--check", EXAMPLE)


@pytest.mark.slow(60)
def test_the_readmes_example_has_the_types_that_mypy_wants(checkout: Path) -> None:
    assert "no issues found in 1 source file" in python(checkout, "-m", "mypy", EXAMPLE)


@pytest.mark.parametrize(
    "page", [str(page.relative_to(ROOT)) for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])]
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


def test_every_module_on_the_map_exists_and_every_module_but_tables_is_on_the_map() -> None:
    listing = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    named = set(re.findall(r"\b\w+\.py\b", listing))
    existing = {path.name for path in (ROOT / "pipeline_assets").rglob("*.py")} - {"__init__.py"}
    tables = {
        path.name for path in (ROOT / "pipeline_assets" / "assets").glob("*.py") if "@daily_asset" in path.read_text()
    }
    added = tables - SHIPPED  # a new table is one new file, and no second edit
    assert existing - added <= named <= existing


def test_tests_that_the_readme_cites_exist() -> None:
    cited = re.findall(r"`(?:pipeline_assets_tests/)?([\w/]*test_\w+\.py)`", README)
    assert cited
    assert [name for name in cited if not (ROOT / "pipeline_assets_tests" / name).exists()] == []


def test_the_readme_lists_exactly_the_settings_and_commands_that_there_are() -> None:
    settings = set(re.findall(r"^\| `PIPELINE_(\w+)`", README, re.MULTILINE))
    assert settings == {name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"^\| `pipeline (\w+)", README, re.MULTILINE)) == set(cli.commands)
