"""Verdicts, carried through the retry layers of Dagster."""
