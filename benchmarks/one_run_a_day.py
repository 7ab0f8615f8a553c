"""The reference pipeline as Dagster runs it unless told otherwise: a run per day, and in it a process per step.

What `ui_backfill` measures ours against. The same assets, functions and store; loaded by Dagster, not by the suite.
"""

from __future__ import annotations

import dagster as dg

from pipeline_assets.definitions import build_definitions
from pipeline_assets.settings import load_settings


def _without_ours() -> dg.Definitions:
    """No executor and no sensors of ours."""
    ours = build_definitions(load_settings().model_copy(update={"days_per_run": 1}))
    return dg.Definitions(assets=ours.assets, asset_checks=ours.asset_checks, resources=ours.resources)


defs = _without_ours()
