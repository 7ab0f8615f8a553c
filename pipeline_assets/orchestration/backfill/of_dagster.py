"""Backfills of Dagster's, asked for and written in the instance itself, without a webserver.

All private names of Dagster that the project uses are here: nothing public asks for backfills by their status, nor
launches one of different days per table but the webserver, which does it by what stands below.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.selector import PartitionsByAssetSelector
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill

OPEN = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)
"""Of backfills that Dagster still has something to do for."""


def open_backfills(instance: dg.DagsterInstance) -> Sequence[PartitionBackfill]:
    """Backfills that have not ended, however old they are."""
    return instance.get_backfills(BulkActionsFilter(statuses=list(OPEN)))


def is_going_on(backfill: PartitionBackfill) -> bool:
    """Whether an open backfill will still make what it has not made."""
    return backfill.status is BulkActionStatus.REQUESTED


def add_backfill(
    instance: dg.DagsterInstance,
    assets: Any,
    backfill_id: str,
    partitions_by_assets: Sequence[Mapping[str, Any]],
    *,
    began_at: datetime,
    tags: Mapping[str, str],
    title: str,
    description: str,
) -> None:
    """Have the daemon do a backfill.

    Args:
        assets: Dagster's asset graph.
        partitions_by_assets: as the webserver takes them.
        began_at: aware.
    """
    instance.add_backfill(
        PartitionBackfill.from_partitions_by_assets(
            backfill_id=backfill_id,
            asset_graph=assets,
            backfill_timestamp=began_at.timestamp(),
            tags=dict(tags),
            dynamic_partitions_store=instance,
            partitions_by_assets=[PartitionsByAssetSelector.from_graphql_input(each) for each in partitions_by_assets],
            title=title,
            description=description,
            run_config=None,
        )
    )
