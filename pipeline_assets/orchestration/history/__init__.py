"""What Dagster knows: its graph, its tags, its runs, its event log, and what failed."""
