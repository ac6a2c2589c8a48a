"""
The commands that ask a running master, made from the table of them.

Invariant: standard output has what the master answers, one JSON object with ``--json``;
how it goes meanwhile stands before that, with ``--json`` or a terminal on standard
error.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any, Final

import click

from maitred.control import COMMANDS, Argument, ask, find
from maitred.errors import CommandFailed, ExitCode

from .answers import RENDER
from .progress import telling
from .whose import WHOSE

OPTIONS: Final = (
    click.Option(["--json", "as_json"], is_flag=True, help="For programs: one object."),
    *WHOSE,
)


NAME: Final = re.compile(r"-(?!\d+$)[^-].+", re.DOTALL)
"No option of ours looks so, and one session's name of 64 does, in base 64."
HIDDEN: Final = "\0"


class Command(click.Command):
    """A command whose arguments may be names of sessions that begin with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*, with such names hidden from click as it looks for options."""
        hidden = [HIDDEN + word if NAME.fullmatch(word) else word for word in args]
        try:
            rest = super().parse_args(ctx, hidden)
        except click.UsageError as exc:
            said = exc.format_message().replace(HIDDEN, "")
            raise click.UsageError(said, exc.ctx) from exc
        for name, value in ctx.params.items():
            if isinstance(value, str):
                ctx.params[name] = value.removeprefix(HIDDEN)
        return rest


def command(name: str) -> click.Command:
    """Return the command that asks a master for *name*."""
    entry = COMMANDS[name]
    return Command(
        name,
        callback=functools.partial(_ask, name),
        params=[*map(_parameter, entry.arguments), *OPTIONS],
        help="\n\n".join(
            filter(None, [entry.about, _told(entry.arguments), entry.more])
        ),
        short_help=entry.about,
    )


def _parameter(argument: Argument) -> click.Argument:
    kind = click.Choice(argument.choices) if argument.choices else argument.kind
    return click.Argument(
        [argument.name],
        type=kind,
        required=not argument.optional,
        metavar=argument.name.upper(),
    )


def _told(arguments: tuple[Argument, ...]) -> str:
    """Return a sentence about each of *arguments*."""
    lines = []
    for argument in arguments:
        choices = f": {', '.join(argument.choices)}" if argument.choices else ""
        lines.append(f"{argument.name.upper()}: {argument.about}{choices}.")
    return " ".join(lines)


def _ask(
    command: str, *, as_json: bool, control: str, name: str, **arguments: Any
) -> ExitCode:
    told = {key: value for key, value in arguments.items() if value is not None}
    path = control or find(name)
    try:
        with telling(lasting=COMMANDS[command].lasting, as_json=as_json) as progress:
            answer = ask(path, command, progress, **told)
    except CommandFailed as exc:
        if exc.traceback:
            click.echo(exc.traceback.rstrip("\n"), err=True)
        raise
    click.echo(json.dumps(answer, indent=2) if as_json else RENDER[command](answer))
    return ExitCode.CUT if answer.get("cut") else ExitCode.OK
