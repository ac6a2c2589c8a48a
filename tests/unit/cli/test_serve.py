"""The options of ``maitred serve``: described once, with the defaults of Settings."""

import dataclasses
import os
import sys

import click
import pytest
from click.testing import CliRunner

from maitred.cli import serve as module
from maitred.cli.main import cli
from maitred.cli.serve import serve
from maitred.config import Settings
from maitred.errors import ExitCode
from maitred.placement import POLICIES
from maitred.routing import PRESETS

OPTIONS = [each for each in serve.params if isinstance(each, click.Option)]
FIELDS = {field.name: field for field in dataclasses.fields(Settings)}

# These defaults depend on the machine, or cannot be written as one value of an option.
COMPUTED = {"bind", "workers", "control", "affinity", "proxy_trust"}
COMPUTED |= {"certfile", "keyfile"}


def setting(option):
    """Give the setting that *option* sets."""
    return "exec" if option.name == "exec_" else option.name


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_has_help(option):
    """A newcomer reads a sentence about every option."""
    assert option.help
    assert option.help[0].isupper() or option.help.startswith("TARGET")
    assert option.help.rstrip().endswith((".", "]"))


def test_every_setting_has_its_option():
    """What can be set can be set from the command line, and nothing else can."""
    assert {setting(option) for option in OPTIONS} | {"target"} == set(FIELDS)


@pytest.mark.parametrize(
    "option",
    [each for each in OPTIONS if setting(each) not in COMPUTED],
    ids=lambda option: option.name,
)
def test_default_is_that_of_settings(option):
    """There is one default, and help shows it."""
    default = FIELDS[setting(option)].default
    assert option.get_default(click.Context(serve)) == default
    assert option.show_default or isinstance(default, bool)


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_computed_default_is_told(name):
    """Help says what happens when nothing is said."""
    (option,) = [each for each in OPTIONS if each.name == name]
    assert "[default: " in option.help


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
    monkeypatch.setattr(module.logs, "configure", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        made = []

        class Master:
            def __init__(self, settings, past):
                assert past is None
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
    monkeypatch.setattr(module, "default_path", lambda: "/run/default.sock")
    cores = len(os.sched_getaffinity(0))
    assert settings("app:app") == Settings(
        target="app:app", workers=cores, control="/run/default.sock"
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
