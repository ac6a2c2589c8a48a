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
