"""Daily data pipelines on Dagster whose partitions are overwritten atomically. Start at `definitions.py`."""
