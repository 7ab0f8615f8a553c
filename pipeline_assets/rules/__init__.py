"""Decisions: contracts, windows, accounting. Pure functions of their arguments.

Belongs here: what says yes or no, or which days. Does not: Dagster, files, clocks, randomness.
"""
