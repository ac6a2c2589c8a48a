"""
``maitred completion``: the script by which a shell completes our commands and options.

The script asks us again at every TAB, so that it knows what the installed version has,
and has to be made anew for no new one.
"""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from maitred.routing import PLACES, PRESETS

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_MAITRED_COMPLETE"
"In the environment when a shell asks: click has it so, for a program of our name."


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """
    Print the completion script for SHELL: bash, zsh or fish.

    Save it where the shell looks: for bash as
    ~/.local/share/bash-completion/completions/maitred, for zsh as _maitred in a
    directory of $fpath, for fish as ~/.config/fish/completions/maitred.fish.
    """
    made = get_completion_class(shell)
    assert made is not None  # click knows those in SHELLS
    # Not through source(), which first looks for a bash to ask for its version.
    script = made(ctx.find_root().command, {}, "maitred", VARIABLE)
    click.echo(script.source_template % script.source_vars())


def affinity(
    _ctx: click.Context, _param: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Return the forms of --affinity that begin with *begun*."""
    forms = {**{name: preset.about for name, preset in PRESETS.items()}, **PLACES}
    return [
        # Up to where the user has to say a name.
        CompletionItem(form.partition("NAME")[0].partition("[")[0], help=about)
        for form, about in forms.items()
        if form.startswith(begun)
    ]


COMPLETED: Final = {"affinity": affinity}
"Settings whose values are completed in another way than by their kind."
