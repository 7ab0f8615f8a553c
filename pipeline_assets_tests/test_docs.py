"""What the docs say is run: the README's example, the paths it names, the settings it lists."""

from __future__ import annotations

import re
import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipeline_assets.cli import cli
from pipeline_assets.orchestration import ParquetIOManager, daily_asset
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_runs_over_a_range(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), example)  # noqa: S102 - it is our own README

    def events(day: date) -> pa.Table:
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        bought = {"event_id": [f"{day}-1", f"{day}-2"], "user_id": ["ann", "bob"], "event_type": ["purchase", "view"]}
        return pa.table({**bought, "event_time": [noon, noon]})

    columns = [Column(name, pa.string()) for name in ("event_id", "user_id", "event_type")]
    contract = Contract((*columns, Column("event_time", pa.timestamp("us", "UTC"))), key=("event_id",))
    upstream = daily_asset(events, partitions_def=example["DAYS"], contract=contract)
    manager = ParquetIOManager(root=str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = dg.materialize(
            [upstream, example["weekly_buyers"]],
            resources={"io_manager": manager},
            tags={
                "dagster/asset_partition_range_start": "2026-01-01",
                "dagster/asset_partition_range_end": "2026-01-08",
            },
        )
    assert result.success

    table = ds.dataset(tmp_path / "weekly_buyers", partitioning="hive").to_table().to_pydict()
    assert set(table["user_id"]) == {"ann"}
    assert table["purchases"] == [1, 2, 3, 4, 5, 6, 7, 7]


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


def test_every_module_on_the_map_exists_and_every_module_is_on_the_map() -> None:
    listing = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    named = set(re.findall(r"\b\w+\.py\b", listing))
    existing = {path.name for path in (ROOT / "pipeline_assets").rglob("*.py")} - {"__init__.py"}
    assert named == existing


def test_tests_that_the_readme_cites_exist() -> None:
    cited = re.findall(r"`(?:pipeline_assets_tests/)?([\w/]*test_\w+\.py)`", README)
    assert cited
    assert [name for name in cited if not (ROOT / "pipeline_assets_tests" / name).exists()] == []


def test_the_readme_lists_exactly_the_settings_and_commands_that_there_are() -> None:
    settings = set(re.findall(r"^\| `PIPELINE_(\w+)`", README, re.MULTILINE))
    assert settings == {name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"^\| `pipeline (\w+)", README, re.MULTILINE)) == set(cli.commands)
