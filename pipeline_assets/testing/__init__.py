"""The conformance kits: what this project expects of an IO manager and of a store, to run on one's own.

Belongs here: promises as plain functions, without a test framework. Does not: tests of this project's own code.
"""

from pipeline_assets.testing.io_manager import PROMISES

__all__ = ["PROMISES"]
