"""The store's and the rules' words as Dagster objects.

Belongs here: assets, IO managers, metadata, runs. Does not: what the reference pipeline computes, settings.
"""

from pipeline_assets.orchestration.asset.decorator import daily_asset
from pipeline_assets.orchestration.partition.frames import Result
from pipeline_assets.orchestration.partition.io_manager import ParquetIOManager

__all__ = ["ParquetIOManager", "Result", "daily_asset"]
