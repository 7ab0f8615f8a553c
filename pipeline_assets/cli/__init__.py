"""The `pipeline` command: thin, it calls the layers below. Whatever it does is visible in Dagster too."""

from pipeline_assets.cli.main import cli, main

__all__ = ["cli", "main"]
