"""
The man page, made from the command line itself: contrib/man/maitred.1.

It names every command and option that `maitred --help` and the help of each command
name, with the same words. "script/docs" writes it anew.
"""

import inspect
import re

import click

from maitred.cli.main import cli

LITERAL = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")


def page(exit_codes):
    """Write the page; *exit_codes* are pairs of a number and what it says."""
    lines = [
        r".\" Made by script/docs from the command line; do not edit.",
        '.TH MAITRED 1 "" maitred "User Commands"',
        ".nh",  # a name that is broken at the end of a line cannot be copied
        ".ad l",
        ".SH NAME",
        r"maitred \- run a stateful Python service on every core",
        ".SH SYNOPSIS",
        r"\fBmaitred\fR \fICOMMAND\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        *paragraphs(cli.help),
        ".SH COMMANDS",
    ]
    for name in cli.commands:
        lines += section(name, cli.commands[name])
    lines += [".SH EXIT STATUS"]
    for number, text in exit_codes:
        lines += [".TP", rf"\fB{number}\fR", escaped(text)]
    lines += [".SH SEE ALSO", *paragraphs(cli.epilog)]
    return "\n".join(lines) + "\n"


def section(name, command):
    """Give the lines about one command."""
    # As the command line does, for click remembers how help was asked for first.
    with click.Context(command, info_name=name, **cli.context_settings) as ctx:
        pieces = [p for p in command.collect_usage_pieces(ctx) if p != "[OPTIONS]"]
        yield f".SS maitred {name} {escaped(' '.join(pieces))}".rstrip()
        yield from paragraphs(command.help)
        for option in command.params:
            if isinstance(option, click.Option):
                spelling, text = option.get_help_record(ctx)
                yield from (".TP", rf"\fB{escaped(spelling)}\fR", marked(text))
                if isinstance(option.type, click.Choice) and option.metavar:
                    yield f"One of {', '.join(option.type.choices)}."


def paragraphs(text):
    """Give the lines of *text*, whose paragraphs have an empty line between."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        yield ".PP"
        yield marked(" ".join(paragraph.split()))


def marked(text):
    """Escape *text*, and print what stands in backquotes in bold."""
    return LITERAL.sub(r"\\fB\1\\fR", escaped(text))


def escaped(text):
    """Write *text* so that roff prints it as it is."""
    text = " ".join(text.split()).replace("\\", r"\e")
    # A minus, which can be copied into a shell, and no hyphen.
    text = OPTION.sub(lambda found: found[0].replace("-", r"\-"), text)
    return r"\&" + text if text.startswith((".", "'")) else text
