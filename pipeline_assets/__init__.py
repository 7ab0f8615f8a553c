"""Daily data pipelines on Dagster whose partitions are overwritten atomically.

What a pipeline is written with is imported from here: `from pipeline_assets import Column, Contract, daily_asset`. The
project itself starts at `definitions.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "Accounting",
    "Answer",
    "Channel",
    "Check",
    "Column",
    "Contract",
    "DailyAsset",
    "Finding",
    "MayPass",
    "Message",
    "MustChange",
    "ParquetIOManager",
    "PostOutcome",
    "Result",
    "Unknown",
    "arrivals",
    "by",
    "check",
    "daily_asset",
    "same_day",
    "trailing",
]

if TYPE_CHECKING:  # for mypy and editors; who imports the package pays for the names that are used, when they are
    from pipeline_assets.errors import MayPass, MustChange, Unknown
    from pipeline_assets.orchestration.alerts.channel import Answer, Channel, PostOutcome
    from pipeline_assets.orchestration.asset.decorator import DailyAsset, daily_asset
    from pipeline_assets.orchestration.partition.frames import Result
    from pipeline_assets.orchestration.partition.io_manager import ParquetIOManager
    from pipeline_assets.rules.accounting import Accounting
    from pipeline_assets.rules.checks import Check, Finding, check
    from pipeline_assets.rules.contract import Column, Contract
    from pipeline_assets.rules.due import by
    from pipeline_assets.rules.outbox import Message
    from pipeline_assets.rules.windows import arrivals, same_day, trailing
else:
    _HOMES = {
        "errors": ["MayPass", "MustChange", "Unknown"],
        "orchestration.alerts.channel": ["Answer", "Channel", "PostOutcome"],
        "orchestration.asset.decorator": ["DailyAsset", "daily_asset"],
        "orchestration.partition.frames": ["Result"],
        "orchestration.partition.io_manager": ["ParquetIOManager"],
        "rules.accounting": ["Accounting"],
        "rules.checks": ["Check", "Finding", "check"],
        "rules.contract": ["Column", "Contract"],
        "rules.due": ["by"],
        "rules.outbox": ["Message"],
        "rules.windows": ["arrivals", "same_day", "trailing"],
    }
    _HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return value
