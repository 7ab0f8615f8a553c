"""A pure function of one day as a Dagster asset."""
