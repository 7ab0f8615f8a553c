"""Tags by which the runs of a backfill are known, in the UI and here."""

from __future__ import annotations

BACKFILL_TAG = "pipeline/backfill"
"""Its id."""
REASON_TAG = "pipeline/reason"
"""Why, in the words of whoever asked."""
PLAN_TAG = "pipeline/plan"
"""Digest of the plan, the same as in its file."""
SKIP_UNCHANGED_TAG = "pipeline/skip_unchanged"
"""A partition whose inputs and code did not change is recorded as it is, not computed."""
CONTINUES_TAG = "pipeline/continues"
"""Runs whose worker died, separated by commas: what they settled is not computed again."""
