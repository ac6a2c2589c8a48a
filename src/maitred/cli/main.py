"""
The command line: what runs a service, and what asks a running one.

Invariant: whatever goes wrong reaches the user as one sentence on standard error and
an exit code of ``ExitCode``; only the application's own traceback is ever shown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from maitred import logs
from maitred.control import COMMANDS
from maitred.errors import ExitCode, MaitredError

from .check import check
from .completion import completion
from .config import config
from .doctor import doctor
from .familiar import FAMILIAR
from .haproxy import haproxy
from .keep import keep
from .listing import listing
from .presets import presets
from .serve import serve
from .steer import command
from .top import top


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Documentation: docs/ in the project. Exit codes: docs/reference/cli.md.",
)
@click.version_option(package_name="maitred", prog_name="maitred")
def cli() -> None:
    """
    Run a stateful Python service on every core.

    One master process accepts connections, looks at their first bytes, and hands each
    to the worker process that owns its session.
    """


cli.add_command(serve)
cli.add_command(keep)
cli.add_command(config)
cli.add_command(check)
cli.add_command(listing)
cli.add_command(presets)
cli.add_command(doctor)
cli.add_command(haproxy)
cli.add_command(top)
cli.add_command(completion)
for name in COMMANDS:
    cli.add_command(command(name))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line with *arguments* (those of the process if None).

    Returns:
        The exit code.
    """
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="maitred",
            standalone_mode=False,
        )
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return ExitCode.USAGE
    except click.ClickException as exc:
        return _say(_sentence(exc), ExitCode.USAGE)
    except click.Abort:
        return ExitCode.OK
    except MaitredError as exc:
        return _say(str(exc), exc.exit_code)
    return int(code or ExitCode.OK)


def _say(sentence: str, code: ExitCode) -> int:
    logs.flush()  # the sentence is the last word
    click.echo(f"maitred: {sentence}", err=True)
    return code


def _sentence(exc: click.ClickException) -> str:
    if isinstance(exc, click.NoSuchOption):
        familiar = FAMILIAR.get(exc.option_name)
        if familiar is not None and familiar.instead:
            return f"there is no {exc.option_name}: {familiar.instead}"
    text = " ".join(exc.format_message().split()).rstrip(".")
    return (
        f"{text}; see `maitred --help`" if isinstance(exc, click.UsageError) else text
    )
