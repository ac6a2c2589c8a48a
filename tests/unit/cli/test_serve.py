"""The options of ``maitred serve``: described once, with the defaults of Settings."""

import dataclasses
import os
import sys

import click
import pytest
from click.testing import CliRunner

from maitred.cli import serve as module
from maitred.cli.main import cli
from maitred.cli.options import OPTIONS
from maitred.cli.serve import serve
from maitred.config import Settings
from maitred.errors import ExitCode
from maitred.placement import POLICIES
from maitred.routing import PRESETS

params = [each for each in serve.params if isinstance(each, click.Option)]
FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("option", params, ids=lambda option: option.name)
def test_option_has_help(option):
    """A newcomer reads a sentence about every option."""
    assert option.help
    assert option.help[0].isupper() or option.help.startswith("TARGET")
    assert option.help.rstrip().endswith((".", "]"))


def test_every_setting_has_its_row_and_its_option():
    """What can be set can be set from the command line, and nothing else can."""
    others = {"config", "host", "port", "uds", "fd", "use_colors"}
    assert {option.name for option in params} == set(OPTIONS) | others
    assert set(OPTIONS) | {"target"} == set(FIELDS)


@pytest.mark.parametrize("name", OPTIONS)
def test_default_is_told(name):
    """Help says what is so when nothing is said."""
    [option] = [each for each in params if each.name == name]
    default = FIELDS[name].default
    if OPTIONS[name].default:
        assert option.show_default == OPTIONS[name].default
    elif isinstance(default, bool):
        assert option.show_default == ("on" if default else "off")
    elif isinstance(default, float):
        assert option.show_default == f"{default:g}"
    else:
        assert option.show_default == str(default)


def test_default_in_words_stands_for_one_that_has_none():
    """Where a value says it all, there is no second truth."""
    for name, row in OPTIONS.items():
        value = FIELDS[name].default
        assert not row.default or row.decide or value in ("", ()) or name == "bind"


def test_help_names_all_presets_and_policies():
    """What can be chosen stands where it is chosen."""

    def squeezed(text):
        return "".join(text.split())

    text = squeezed(CliRunner().invoke(cli, ["serve", "--help"]).output)
    assert all(preset in text for preset in PRESETS)
    assert all(
        squeezed(f"{name}: {policy.about}") in text for name, policy in POLICIES.items()
    )


@pytest.fixture
def settings(monkeypatch):
    """Run the command with some arguments until a master would begin."""
    monkeypatch.setattr(module.logs, "begin", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        made = []

        class Master:
            def __init__(self, settings, past, read):
                assert past is None
                assert read() == settings
                made.append(settings)

            async def run(self):
                """Be done at once."""
                return ExitCode.CUT

        monkeypatch.setattr(module, "Master", Master)
        code = serve.main(list(arguments), standalone_mode=False)
        assert code == ExitCode.CUT
        return made[0]

    return run


def test_target_alone_gives_the_defaults(settings, monkeypatch):
    """What nobody said is decided by Settings and by the machine."""
    monkeypatch.setenv("MAITRED_RUNTIME_DIR", "/run/user/maitred")
    cores = len(os.sched_getaffinity(0))
    assert settings("app:app") == Settings(
        target="app:app", workers=cores, control="/run/user/maitred/control.sock"
    )


def test_options_reach_the_settings(settings):
    """Every option sets what it is named after."""
    assert settings(
        *("app:app", "--bind", ":80", "--bind", "unix:/x", "--workers", "3"),
        *("--affinity", "mcp", "--affinity", "ip", "--policy", "hash"),
        *("--app-dir", "/srv", "--loop", "asyncio", "--http", "h11"),
        *("--lifespan", "off", "--no-access-log", "--log-level", "debug"),
        *("--control", "/c", "--backlog", "1", "--window", "2", "--max-keys", "3"),
        *("--key-ttl", "4", "--head-timeout", "5", "--head-limit", "6"),
        *("--max-waiting", "7", "--wait-timeout", "8", "--ready-timeout", "9"),
        *("--drain-timeout", "10", "--grace-period", "11.5"),
        *("--upgrade-timeout", "13"),
        *("--timeout-keep-alive", "12", "--proxy-protocol", "required"),
        *("--proxy-trust", "10.0.0.0/8", "--proxy-trust", "::1"),
        *("--forwarded-allow-ips", "10.0.0.1"),
    ) == Settings(
        target="app:app",
        bind=(":80", "unix:/x"),
        workers=3,
        affinity=("mcp", "ip"),
        policy="hash",
        app_dir="/srv",
        loop="asyncio",
        http="h11",
        lifespan="off",
        access_log=False,
        log_level="debug",
        control="/c",
        backlog=1,
        window=2,
        max_keys=3,
        key_ttl=4.0,
        head_timeout=5.0,
        head_limit=6,
        max_waiting=7,
        wait_timeout=8.0,
        ready_timeout=9.0,
        drain_timeout=10.0,
        grace_period=11.5,
        upgrade_timeout=13.0,
        timeout_keep_alive=12.0,
        proxy_protocol="required",
        proxy_trust=("10.0.0.0/8", "::1"),
        forwarded_allow_ips="10.0.0.1",
    )


def test_command_is_run_as_it_is(settings):
    """With --exec, TARGET is a command line."""
    made = settings("./worker --fast", "--exec", "--control", "/c")
    assert (made.target, made.exec) == ("./worker --fast", True)


def test_affinities_of_the_user_are_found_beside_the_application(settings):
    """The master looks for modules where the worker does."""
    settings("app:app", "--app-dir", "/srv/app", "--control", "/c")
    assert sys.path[0] == "/srv/app"
