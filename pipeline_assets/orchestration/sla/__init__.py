"""Deadlines of partitions, as Dagster objects."""
