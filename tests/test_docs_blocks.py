"""
Every block of code in the documentation is checked in some way, or says why not.

test_docs_examples.py runs what can be run: programs, and the commands beside them. For
the rest, a block's language says what is checked here. Whatever its language, each
``maitred`` command in it must be one that the command line takes.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import pytest
import yaml

from maitred.cli.main import cli
from maitred.cli.sources import of_file
from maitred.logs import config_file

ROOT = Path(__file__).parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in [*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")]
}
BLOCK = re.compile(r"(?ms)^```(\w*)[^\n]*\n(.*?)^```$|^(?: {4}[^\n]+\n)+")
COMMAND = re.compile(r"(?<![\w./`-])(?:/[\w./]+/)?maitred ([a-z]+(?: [^|>\n]*)?)")
INLINE = re.compile(r"`maitred ([a-z]+)[^`]*`")


def python(text):
    """Read *text*; what it does is the business of test_docs_examples.py."""
    ast.parse(text)


def ini(text):
    """Read a systemd unit, in which a key may come twice."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text.replace("\\\n", ""))
    assert {"Service", "Socket"} & set(parser.sections())


def dockerfile(text):
    """Read the commands that are lists."""
    for line in re.findall(r"(?m)^.*CMD (\[.*)$", text):
        check(json.loads(line))


def documents(text):
    """Read YAML, and the commands in it, wherever they stand."""
    found = [*yaml.safe_load_all(text)]
    assert found
    for node in walk(found):
        if isinstance(node, dict) and isinstance(node.get("command"), list):
            check([*node["command"], *node.get("args", [])])


def toml(text):
    """Read it as a file of settings."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        assert of_file(file.name)


def logging_config(text):
    """Read JSON as --log-config does; no other is in these pages."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        assert config_file.load(file.name)


def nginx(text):
    """Ask nginx, if it is here, in the frame that the block leaves out."""
    if shutil.which("nginx"):
        if "http {" not in text:
            text = f"events {{}}\nhttp {{\n{text}}}\n"
        said = subprocess.run(
            ["nginx", "-t", "-e", "stderr", "-g", "pid /dev/null;", "-c", "/dev/stdin"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "syntax is ok" in said.stderr, said.stderr


def javascript(text):
    """Have Node read it, if it is here."""
    if shutil.which("node"):
        subprocess.run(["node", "--check", "-"], input=text.encode(), check=True)


# What is done with a block of a language: a check, or why there is none.
LANGUAGES = {
    "python": python,
    "ini": ini,
    "dockerfile": dockerfile,
    "yaml": documents,
    "nginx": nginx,
    "toml": toml,
    "json": logging_config,
    "javascript": javascript,
    "console": "test_docs_examples.py runs it; frameworks by script/test-frameworks",
    "log": "test_docs_examples.py waits for it",
    "haproxy": "integration/test_behind_a_proxy.py, test_proxy_protocol.py run HAProxy",
    "sh": "its maitred commands are checked; the others change the reader's system",
    "text": "an output or a sketch: there is nothing to run",
    "": "an output or a sketch: there is nothing to run",
    None: "indented: an output, or commands, of which those of maitred are checked",
}


def walk(node):
    """Give *node* and all that is in it."""
    yield node
    children = node.values() if isinstance(node, dict) else node
    if isinstance(node, dict | list):
        for child in children:
            yield from walk(child)


def check(words):
    """Have the command line read *words*, if they are a command of ours."""
    if words[0] != "maitred":
        return
    command = cli.commands[words[1]]
    try:
        # With its parent, as click remembers what it learns of the help option.
        parent = click.Context(cli, **cli.context_settings)
        command.make_context(words[1], words[2:], parent=parent)
    except click.UsageError as exc:
        pytest.fail(f"{shlex.join(words)}: {exc.format_message()}")


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_checked(name):
    """A language that this test does not know is one that nobody checks."""
    for found in BLOCK.finditer(PAGES[name]):
        language, text = found[1], found[0] if found[2] is None else found[2]
        kind = LANGUAGES.get(language, "")
        assert kind, f"say in this test what becomes of {language}"
        if callable(kind):
            kind(text)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_taken(name):
    """What a page tells the reader to type has options that exist."""
    for found in BLOCK.finditer(PAGES[name]):
        for line in COMMAND.findall(found[0].replace("\\\n", "")):
            if found[1] in {"", "text", "log", "python", "yaml", "dockerfile"}:
                continue
            check(["maitred", *shlex.split(line, comments=True)])
    assert set(INLINE.findall(PAGES[name])) <= set(cli.commands)


def test_wrong_command_is_noticed():
    """So that the tests above are worth something."""
    with pytest.raises(pytest.fail.Exception, match="--worker"):
        check(["maitred", "serve", "app:app", "--workerz", "4"])
    with pytest.raises(KeyError):
        check(["maitred", "serves"])
