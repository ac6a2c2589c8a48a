"""What holds, and who said so; an error names the one who did."""

import pytest

from maitred.cli.effective import effective
from maitred.errors import UsageError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Be in a directory of our own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_origins_are_told(here, monkeypatch):
    """Of every setting, also of those that nobody spoke of."""
    (here / "maitred.toml").write_text('target = "app:app"\nworkers = 3\n')
    monkeypatch.setenv("MAITRED_BACKLOG", "9")
    settings, origins = effective(window=5, surge=None)
    assert (settings.target, settings.workers) == ("app:app", 3)
    assert (settings.backlog, settings.window) == (9, 5)
    assert origins["target"] == "maitred.toml, line 1"
    assert origins["workers"] == "maitred.toml, line 2"
    assert origins["backlog"] == "$MAITRED_BACKLOG"
    assert origins["window"] == "--window"
    assert origins["surge"] == "default"


@pytest.mark.parametrize(
    ("said", "binds"),
    [
        ({"host": "0.0.0.0"}, ("0.0.0.0:8000",)),
        ({"port": 5}, ("127.0.0.1:5",)),
        ({"port": 0}, ("127.0.0.1:0",)),
        ({"host": "::1", "port": 5}, ("[::1]:5",)),
        ({"uds": ("/x",), "fd": (3,), "bind": (":1",)}, (":1", "unix:/x", "fd://3")),
    ],
)
def test_other_words_for_bind(said, binds):
    """As uvicorn spells it."""
    settings, origins = effective(target="a:b", **said)
    assert settings.bind == binds
    assert origins["bind"] == "--bind"


def test_target_is_needed():
    """From somewhere."""
    with pytest.raises(UsageError, match="there is no target: say what to serve"):
        effective()


@pytest.mark.parametrize(
    ("text", "said", "sentence"),
    [
        (
            "workers = 0",
            {},
            "between 1 and 1024 are possible (workers: maitred.toml, line 1)",
        ),
        ("workers = 2", {"workers": 0}, "--workers 0: between 1 and 1024 are possible"),
        (
            'policy = "hash"',
            {"drain": "sessions"},
            "choose --policy least or round-robin (policy: maitred.toml, line 1)",
        ),
        (
            'target = "nonsense"',
            {"target": None},
            "`app` in app.py (target: maitred.toml, line 1)",
        ),
    ],
)
def test_errors_name_who_said_so(here, text, said, sentence):
    """Not the option, where nobody gave one."""
    (here / "maitred.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        effective(**{"target": "a:b"} | said)
    assert str(raised.value).endswith(sentence)


def test_platform_is_named_as_an_origin(monkeypatch):
    """In what holds, and in errors; a host alone is asked on the platform's port."""
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("PORT", "5000")
    settings, origins = effective(target="app:app")
    assert (settings.workers, settings.bind) == (3, ("0.0.0.0:5000",))
    assert (origins["workers"], origins["bind"]) == ("$WEB_CONCURRENCY", "$PORT")
    assert effective(target="a:b", host="::1").settings.bind == ("[::1]:5000",)
    assert effective(target="a:b", port=1).settings.bind == ("127.0.0.1:1",)
    monkeypatch.setenv("WEB_CONCURRENCY", "0")
    with pytest.raises(UsageError, match=r"\(workers: \$WEB_CONCURRENCY\)"):
        effective(target="app:app")


def test_call_of_a_factory_is_taken_for_one(here):
    """As Flask's documentation spells it for gunicorn."""
    settings, origins = effective(target="app:create_app()")
    assert (settings.target, settings.factory) == ("app:create_app", True)
    assert origins["factory"] == "the command line"
    (here / "maitred.toml").write_text('target = "app:make()"\n')
    settings, origins = effective()
    assert (settings.target, settings.factory) == ("app:make", True)
    assert origins["factory"] == "maitred.toml, line 1"
    command = effective(target="./run main()", exec=True).settings
    assert (command.target, command.factory) == ("./run main()", False)


def test_call_with_arguments_is_refused():
    """With what to do instead."""
    with pytest.raises(UsageError, match="a factory is called without arguments"):
        effective(target="app:create_app('production')")


def test_sandbox_allows_no_new_privileges():
    """The kernel confines nobody who may gain some."""
    with pytest.raises(UsageError, match="leave out one of the two"):
        effective(target="a:b", sandbox=True, allow_new_privileges=True)


@pytest.mark.parametrize(
    ("said", "form"),
    [
        ({"use_colors": True}, "pretty"),
        ({"use_colors": False}, "plain"),
        ({"use_colors": True, "log_format": "json"}, "json"),
        ({}, "logfmt"),
    ],
)
def test_other_words_for_the_format_of_the_log(here, said, form):
    """As uvicorn spells it; its own name comes first, a file last."""
    (here / "maitred.toml").write_text('log-format = "logfmt"\n')
    assert effective(target="a:b", **said).settings.log_format == form


def test_file_that_configures_the_log_is_an_absolute_path(here):
    """A worker may run elsewhere; and it is read here, to refuse it."""
    (here / "log.json").write_text('{"version": 1}')
    settings, _ = effective(target="a:b", log_config="log.json")
    assert settings.log_config == str(here / "log.json")
    with pytest.raises(UsageError, match=r"none\.json: it cannot be read"):
        effective(target="a:b", log_config="none.json")
