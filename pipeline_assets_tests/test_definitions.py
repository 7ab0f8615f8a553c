"""What a code server makes of the definitions, beyond importing them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets import definitions
from pipeline_assets.definitions import build_definitions
from pipeline_assets.errors import DefinitionError
from pipeline_assets.settings import Settings


def built(tmp_path: Path, *, sensors: str = "running") -> dg.Definitions:
    settings = Settings.model_validate(
        {"landing": tmp_path / "landing", "store": tmp_path / "lake", "sensors": sensors}
    )
    return build_definitions(settings)


def test_everything_loads_as_a_code_server_loads_it(tmp_path: Path) -> None:
    repository = built(tmp_path).get_repository_def()
    repository.load_all_definitions()
    assert {each.name for each in repository.sensor_defs} == {
        "landing_sensor",
        "upstream_sensor",
        "sla",
        "alerts",
        "sla_report_daily",
    }


@pytest.mark.parametrize("sensors", ["running", "stopped"])
def test_all_sensors_begin_as_the_setting_says(tmp_path: Path, sensors: str) -> None:
    found = {each.default_status.value for each in built(tmp_path, sensors=sensors).get_repository_def().sensor_defs}
    assert found == {sensors.upper()}


def test_a_table_that_is_named_as_the_projects_report_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "reference_pipeline", lambda **_: [dg.AssetSpec("sla_report")])
    with pytest.raises(DefinitionError, match=r"the project has a table sla_report of its own\. Name yours otherwise"):
        built(tmp_path)
