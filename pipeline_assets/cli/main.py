"""The group of commands, and how each ends.

Exit status: 0 done; 1 days failed, more differs than `diff` may find, or the same command may do it later; 2 a setting,
an option or the landing zone is wrong, and must be changed first; 3 a plan is outdated; 130 interrupted.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from pipeline_assets.errors import MayPass, PipelineError, PlanOutdated, Unknown

EXIT_FAILED, EXIT_WRONG, EXIT_OUTDATED, EXIT_INTERRUPTED = 1, 2, 3, 130
COMMANDS = {
    "backfill": (
        "backfill",
        "Show what is to be done, ask, and do it: by a plan file, or by the options of `pipeline plan`.",
    ),
    "backfills": ("backfill", "List backfills, the newest first, and how far each is."),
    "cancel": ("backfill", "Cancel a backfill, for good: nothing of it starts afterwards. What was committed stays."),
    "demo": ("days", "Fill the landing zone with the events of a made-up shop."),
    "diff": (
        "diff",
        "Print what differs between the lakes BASE and OTHER (PIPELINE_STORE unless given), rows and values.",
    ),
    "fsck": ("fsck", "Hold heads, records, history, staged files and Dagster's event log against each other."),
    "history": ("inspection", "List the commits of a partition, the head first, and how each was made."),
    "plan": ("plan", "Say what a backfill would do, and why; do nothing."),
    "rejects": ("inspection", "Print rejected rows with their reasons."),
    "restore": ("days", "Publish a replaced commit of a partition again."),
    "retry": ("backfill", "Begin a backfill of what failed in another one, and of what was held back by that."),
    "run": ("days", "Compute a range of days in this process, without daemon or webserver."),
    "show": ("inspection", "Print the head, history and row accounting of a table."),
    "sla": ("sla", "Print how the tables kept their deadlines, with the cause of every miss."),
    "why": ("why", "Say why a partition was, or was not, computed again, and what it was made from."),
}
"""The module beside this one that defines a command, under its name, and the first paragraph of its help."""


class LazyGroup(click.Group):
    """Has commands of which it knows the help alone, and imports the one that is used.

    Dagster takes seconds to import; `pipeline --help` and a command that does not exist need none of it.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load_command(command.name or ""), rest


def load_command(name: str) -> click.Command:
    """Import a command."""
    command: click.Command = getattr(import_module(f"pipeline_assets.cli.{COMMANDS[name][0]}"), name)
    return command


@click.group(
    cls=LazyGroup,
    commands={name: click.Command(name, help=said) for name, (_, said) in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Daily pipelines that can be run again without fear."""
    from pipeline_assets.settings import project_root  # imports pydantic and pyarrow, which `--help` does not need

    ctx.obj = _working_folder()
    os.chdir(project_root())  # relative settings, and Dagster's own paths, start there wherever the command is given


def main() -> None:
    """Console script. Errors of the project end as one message, never as a traceback."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PlanOutdated as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_OUTDATED)
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_FAILED if isinstance(error, (MayPass, Unknown)) else EXIT_WRONG)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "interrupted: the days that were committed stand and are recorded; the same command goes on.", err=True
        )
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `pipeline show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # removed since
        return None
