# ruff: noqa: E501 - tables
"""The file of --log-config: what is refused before anybody applies it."""

from __future__ import annotations

import builtins
import json
import tomllib
from pathlib import Path

import pytest

from maitred.errors import UsageError
from maitred.logs.config_file import LARGEST, load

ROOT = Path(__file__).parents[2]
INI = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\n"
ONE = {"one": {"class": "logging.NullHandler"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"version": 1}'),
        (
            "a.json",
            json.dumps({"version": 1, "handlers": ONE, "root": {"handlers": ["one"]}}),
        ),
        (
            "a.json",
            '{"version": 1, "incremental": true, "handlers": {"old": {"level": 10}}}',
        ),
        ("a.json", '{"version": 1, "root": {"level": "ext://app.LEVEL"}}'),
        ("a.yaml", "version: 1\nroot: {level: DEBUG}\n"),
        ("a.yml", "version: 1\n"),
        ("a.ini", INI + "level=DEBUG\nhandlers=\n"),
        ("a.conf", INI),
        ("100%", INI),
    ],
)
def test_what_can_be_applied_is_parsed(tmp_path, name, text):
    """By the suffix of the file; all that has no known one is INI."""
    path = tmp_path / name
    path.write_text(text)
    parsed = load(str(path))
    if isinstance(parsed, dict):
        assert parsed["version"] == 1
    else:
        assert parsed["logger_root"]["here"] == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "{", "it is not JSON: Expecting property name"),
        ("a.json", "[" * 100_000, ""),
        ("a.json", "[]", "an object is needed"),
        ("a.json", "{}", "`version` has to be 1"),
        ("a.json", '{"version": 1, "loggers": []}', "`loggers` has to be an object"),
        ("a.json", '{"version": 1, "loggers": {"a": 1}}', "logger 'a' has to be an object"),
        ("a.json", '{"version": 1, "root": {"level": "loud"}}', "logger 'root': there is no level 'loud'"),
        ("a.json", '{"version": 1, "root": {"handlers": ["x"]}}', "logger 'root': there is no 'x' in `handlers`"),
        ("a.json", '{"version": 1, "root": {"handlers": "x"}}', "`handlers` has to be a list"),
        ("a.json", '{"version": 1, "handlers": {"h": {"formatter": "f"}}}', "handler 'h': there is no 'f' in `formatters`"),
        ("a.json", '{"version": 1, "handlers": {"h": {"filters": ["f"]}}}', "handler 'h': there is no 'f' in `filters`"),
        ("a.yaml", "version: [", "it is not YAML: "),
        ("a.yaml", "", "an object is needed"),
        ("a.yaml", "version: 1\nroot: {handlers: 5}\nloggers: {5: }", "logger 5 has to be"),
        ("a.ini", "nothing", "no section headers"),
        ("a.ini", "[loggers]\n", "[loggers] with `keys` is needed"),
        ("a.ini", INI.replace("[handlers]\nkeys=", "[handlers]\nkeys=a"), "there is no [handler_a]"),
        ("a.ini", INI.replace("[logger_root]\n", ""), "there is no [logger_root]"),
        ("a.ini", INI.replace("[logger_root]\n", "").replace("=root", "="), "[logger_root] is needed"),
        ("a.ini", "x" * (LARGEST + 1), "it is larger than 256 KiB"),
        ("a.ini", "\xff", "can't decode"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(tmp_path, name, text, why):
    """With the option, the file, and why."""
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as raised:
        load(str(path))
    said = str(raised.value)
    assert said.startswith(f"--log-config {path}: ")
    assert why in said
    assert "\n" not in said


def test_file_that_cannot_be_read_is_refused(tmp_path):
    """With what the system says."""
    with pytest.raises(UsageError, match=r"cannot be read \(No such file"):
        load(str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory"):
        load(str(tmp_path))


def test_yaml_needs_its_package(tmp_path, monkeypatch):
    """Which is not one of ours."""
    real = builtins.__import__

    def without_yaml(name, *rest):
        """Import all but that."""
        if name == "yaml":
            raise ImportError
        return real(name, *rest)

    path = tmp_path / "a.yaml"
    path.write_text("version: 1\n")
    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(
        UsageError, match=r"PyYAML is needed for it: install maitred\[yaml"
    ):
        load(str(path))


def test_extra_that_is_named_installs_it():
    """And the extra for tests does, so that those of YAML files try it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert [each.partition(">")[0] for each in extras["yaml"]] == ["pyyaml"]
    assert "pyyaml" in extras["test"]
