"""The reference pipeline: landing files to events to sales, features and segments.

Each table is a module: a contract, a pure function of one day, and checks. `pipeline.py` wires them to Dagster.
"""
