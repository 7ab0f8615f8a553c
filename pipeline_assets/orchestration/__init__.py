"""The store's and the rules' words as Dagster objects.

Belongs here: assets, IO managers, metadata, runs. Does not: what the reference pipeline computes, settings.
"""
