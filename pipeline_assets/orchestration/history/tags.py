"""Tags of runs: ours, and those of Dagster's that are read or set. In the UI they are shown beside the run."""

from collections.abc import Mapping
from datetime import date

from pipeline_assets.partition import days_between

BACKFILL_TAG = "pipeline/backfill"
"""Id of the backfill that the run is part of."""
PART_TAG = "pipeline/part"
"""Of a plan that is launched in several backfills: which one, from 1."""
PLAN_TAG = "pipeline/plan"
"""Digest of the plan, the same as in its file."""
REASON_TAG = "pipeline/reason"
"""Why the backfill was begun, in the words of whoever asked."""
BECAUSE_TAG = "pipeline/because"
"""Which changes upstream the sensor requested the run for."""
LAUNCHED_BY_TAG = "pipeline/launched_by"
SKIP_UNCHANGED_TAG = "pipeline/skip_unchanged"
"""A partition whose inputs and code did not change is recorded as it is, not computed."""
CONTINUES_TAG = "pipeline/continues"
"""Runs whose worker died, separated by commas: what they settled is not computed again."""
ATTEMPTS_TAG = "pipeline/attempts"
"""On a run that is requested again: attempts that were made before it."""
VERDICT_TAG, KIND_TAG = "pipeline/verdict", "pipeline/kind"

PARTITION, RANGE_START, RANGE_END = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
RUN_KEY_TAG, DAGSTER_BACKFILL_TAG, PRIORITY_TAG = "dagster/run_key", "dagster/backfill", "dagster/priority"
MAX_RETRIES_TAG, RETRY_STEP_FAILURES_TAG = "dagster/max_retries", "dagster/retry_on_asset_or_op_failure"
RETRY_NUMBER_TAG = "dagster/retry_number"
"""Dagster sets it on the runs that its run retries start, and on no other."""
WILL_RETRY, RETRIED_AS = "dagster/will_retry", "dagster/auto_retry_run_id"


def span_of_tags(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """Give the first and the last day that a run is for; None if its partitions are no days."""
    first, last = (tags.get(tag) or tags.get(PARTITION, "") for tag in (RANGE_START, RANGE_END))
    try:
        return date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        return None


def days_of_tags(tags: Mapping[str, str]) -> list[date]:
    """List the days that a run is for, ascending; none if its partitions are no days."""
    span = span_of_tags(tags)
    return days_between(*span) if span else []
