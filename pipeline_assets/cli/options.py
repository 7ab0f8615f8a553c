"""Options that several commands take: days, paths, formats. Imports no Dagster."""

import os
from collections.abc import Callable
from pathlib import Path

import click

DAY = click.DateTime(formats=["%Y-%m-%d"])


def format_option(*forms: str, readers: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the option that says in which form the answer is printed; the first one unless given."""
    kind = click.Choice(forms)
    return click.option("--format", "form", default=forms[0], show_default=True, type=kind, help=readers)


FORMAT = format_option("text", "json", readers="For people, or CI.")


class GivenPath(click.Path):
    """A path as it was given: relative to the folder that the command was given in, which the group leaves."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Make it absolute, unless that folder is gone."""
        given_in = ctx.find_root().obj if ctx else None
        return super().convert(Path(given_in or "", value), param, ctx)
