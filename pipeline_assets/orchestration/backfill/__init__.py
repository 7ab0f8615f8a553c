"""Plans of backfills from what Dagster knows, and carrying them out."""
