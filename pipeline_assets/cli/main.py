"""The group of commands, and how each ends.

Exit status: 0 done; 1 days failed, more differs than `diff` may find, or the same command may pass when it is given
again; 2 a setting, an option or the landing zone is wrong; 3 a plan is outdated; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from pipeline_assets.cli.backfill import backfill, retry
from pipeline_assets.cli.backfills import backfills, cancel
from pipeline_assets.cli.context import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_WRONG
from pipeline_assets.cli.days import demo, restore, run
from pipeline_assets.cli.diff import diff
from pipeline_assets.cli.inspection import rejects, show, why
from pipeline_assets.cli.plan import plan
from pipeline_assets.cli.sla import sla
from pipeline_assets.errors import MayPass, PipelineError


def main() -> None:
    """Console script. Errors of the project end as one message, never as a traceback."""
    from pipeline_assets.settings import project_root

    given_in = _working_folder()
    os.chdir(project_root())  # relative settings, and Dagster's own paths, start there wherever the command is given
    try:
        cli(standalone_mode=False, obj=given_in)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_FAILED if isinstance(error, MayPass) else EXIT_WRONG)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "interrupted: the days that were committed stand and are recorded; the same command goes on.",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `pipeline show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # removed since
        return None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Daily pipelines that can be run again without fear."""


for command in (
    demo,
    run,
    plan,
    backfill,
    backfills,
    cancel,
    retry,
    show,
    why,
    sla,
    rejects,
    restore,
    diff,
):
    cli.add_command(command)
