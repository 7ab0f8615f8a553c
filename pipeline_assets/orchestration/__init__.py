"""The store's and the rules' words as Dagster objects.

Belongs here: assets, IO managers, metadata, runs. Does not: what the reference pipeline computes, settings.
"""

from pipeline_assets.orchestration.daily_asset import daily_asset
from pipeline_assets.orchestration.frames import Result
from pipeline_assets.orchestration.parquet_io import ParquetIOManager

__all__ = ["ParquetIOManager", "Result", "daily_asset"]
