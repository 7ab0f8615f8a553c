"""The project's definitions for a code server, with every call counted: see `counting.sitecustomize`."""

from __future__ import annotations

from pipeline_assets.definitions import defs
from pipeline_assets.orchestration.asset import run as daily_run
from pipeline_assets_tests.orchestration.backfill.counting.sitecustomize import count

__all__ = ["defs"]
count(daily_run)
