"""Where settings are said: each source overrides the one before; none is guessed."""

import re
from pathlib import Path

import pytest

import maitred
from maitred.cli.options import OPTIONS
from maitred.cli.sources import (
    RESERVED,
    Said,
    gather,
    line_of,
    of_environment,
    of_file,
    unknown_variables,
)
from maitred.errors import UsageError


@pytest.fixture
def written(tmp_path):
    """Write a file, and give its path."""

    def write(text, name="maitred.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_each_source_overrides_the_one_before(written, tmp_path):
    """File, project, environment, option; each for what it says, and no more."""
    written("workers = 1\nbacklog = 1\nwindow = 1\nhead-limit = 1\n")
    written(
        "[project]\nname = 'x'\n[tool.maitred]\nbacklog=2\nwindow=2\nhead_limit=2",
        "pyproject.toml",
    )
    environment = {"MAITRED_WINDOW": "3", "MAITRED_HEAD_LIMIT": "3"}
    said = gather(
        {"head_limit": 4, "surge": None, "bind": ()}, environment, str(tmp_path)
    )
    assert said == {
        "workers": Said(1, f"{tmp_path}/maitred.toml, line 1"),
        "backlog": Said(2, f"{tmp_path}/pyproject.toml, line 4"),
        "window": Said(3, "$MAITRED_WINDOW"),
        "head_limit": Said(4, "--head-limit"),
    }


@pytest.mark.parametrize("how", ["option", "variable"])
def test_file_that_is_named_is_read_instead(written, tmp_path, how):
    """What is lying about has no say then."""
    written("workers = 1\n")
    other = written("backlog = 7\n", "other.toml")
    named = {"file": other} if how == "option" else {}
    environment = {} if named else {"MAITRED_CONFIG": other}
    said = gather({}, environment, str(tmp_path), **named)
    assert {name: value for name, (value, _) in said.items()} == {"backlog": 7}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("workers = 3", 3),
        ("key-ttl = 3", 3.0),
        ("key_ttl = 2.5", 2.5),
        ("access-log = false", False),
        ('bind = ":80"', (":80",)),
        ('bind = [":80", "unix:/x"]', (":80", "unix:/x")),
        ("bind = []", ()),
        ('target = "app:app"', "app:app"),
        ('policy = "hash"', "hash"),
        ('"policy" = "hash"', "hash"),
    ],
)
def test_values_of_files_have_the_kind_of_their_setting(written, text, value):
    """A number is a number, and a list a tuple."""
    [said] = of_file(written(text)).values()
    assert said.value == value
    assert type(said.value) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("WORKERS", "3", 3),
        ("KEY_TTL", "2.5", 2.5),
        ("ACCESS_LOG", "off", False),
        ("KEEP_COPIES", "1", True),
        ("BIND", ":80 unix:/x", (":80", "unix:/x")),
        ("TARGET", "app:app", "app:app"),
    ],
)
def test_values_of_variables_have_the_kind_of_their_setting(name, text, value):
    """As an option would, that was given the same text."""
    said = of_environment({f"MAITRED_{name}": text, "MAITRED_LOOP": "", "PATH": "x"})
    assert said == {name.lower(): Said(value, f"$MAITRED_{name}")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worker = 3", "line 1: there is no setting 'worker'; the nearest is workers"),
        ("\n\nxyzzy = 1", "line 3: there is no setting 'xyzzy', see `maitred config`"),
        (
            "graceful-timeout = 3",
            "line 1: there is no setting 'graceful-timeout'; ours is drain-timeout",
        ),
        ("preload = true", "'preload'; leave it out: each worker loads"),
        ('workers = "3"', "line 1: workers has to be a whole number, as in workers ="),
        ("workers = true", "workers has to be a whole number"),
        ("access-log = 1", "access-log has to be true or false"),
        ("surge = 2", 'surge has to be a text, as in surge = "..."'),
        ("bind = [1]", "bind has to be a text or a list of texts"),
        ('loop = "uvlop"', "1: 'uvlop' is none of auto, uvloop, asyncio; the nearest"),
        ("workers = ", "it is not TOML: Invalid value (at"),
    ],
)
def test_what_cannot_be_names_its_line(written, text, sentence):
    """One sentence: file, line, what is wrong, and what may be meant."""
    with pytest.raises(UsageError, match=re.escape(sentence)) as raised:
        of_file(written(text))
    assert str(raised.value).startswith(written(""))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("maitred.toml", b"\xff", "it is not UTF-8"),
        ("maitred.toml", b"#" * 300_000, "larger than 256 KiB"),
        ("gunicorn.conf.py", b"workers = 3", "is TOML, not Python"),
        ("pyproject.toml", b"[tool]\nmaitred = 3", "maitred has to be a table"),
        ("pyproject.toml", b"tool = 3", "tool has to be a table"),
    ],
)
def test_files_that_cannot_be_read_are_told(tmp_path, name, content, sentence):
    """No traceback, whatever stands there."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        of_file(str(path))


def test_missing_file_is_told_only_where_it_was_named(tmp_path):
    """Most have none."""
    assert gather({}, {}, str(tmp_path)) == {}
    with pytest.raises(UsageError, match=r"none\.toml: it cannot be read \(No such"):
        gather({}, {}, file=str(tmp_path / "none.toml"))


def test_project_without_our_table_says_nothing(written):
    """Most projects are not about us."""
    assert of_file(written("[tool.other]\nworkers = 'x'", "pyproject.toml")) == {}


@pytest.mark.parametrize(
    ("keys", "text", "line"),
    [
        (("b",), "a = 1\nb = 2\n", 2),
        (("b",), "a = 1 # b = 3\n# b = 1\n\nb = 2\n", 4),
        (("b",), "a = [\n 'b = 1',\n]\nb = [\n 'b',\n]\n", 4),
        (("b",), 'a = """\nb = 1\n"""\n"b" = 2', 4),
        (("t", "b"), "b = 1\n[s]\nb = 2\n[t]\nb = 3\n", 5),
        (("t", "b"), "b = 1\nt.b = 2\n", 2),
        (("t", "b"), "b = 1\nt = {a = 1, b = 2}\n", 2),
        (("b",), 'a = 1\n"\\u0062" = 2\nc = 3\n', 2),
    ],
)
def test_lines_are_those_of_the_statement(keys, text, line):
    """Whatever else has the same word in it."""
    assert line_of(keys, text) == line


@pytest.mark.parametrize(
    ("variables", "sentences"),
    [
        (["MAITRED_WORKERS", "PATH", "MAITREDX"], []),
        (["MAITRED_WORKER"], ["$MAITRED_WORKER is no setting; the nearest is $"]),
        (["MAITRED_XYZZY"], ["$MAITRED_XYZZY is no setting"]),
        (["MAITRED_TEST_RUN", "MAITRED_SLOT", "MAITRED_CONFIG"], []),
        (["MAITRED_SERVICE_HOST", "MAITRED_PORT", "MAITRED_PORT_80_TCP_ADDR"], []),
    ],
)
def test_variables_that_are_no_settings_are_told(variables, sentences):
    """But not those that mean something else."""
    told = list(unknown_variables(dict.fromkeys(variables, "x")))
    assert len(told) == len(sentences)
    assert all(one.startswith(two) for one, two in zip(told, sentences, strict=True))


def test_names_that_our_processes_use_are_reserved():
    """No such variable is ever taken for a setting, nor for a mistake."""
    sources = Path(maitred.__file__).parent.rglob("*.py")
    used = {
        name
        for path in sources
        if path.name != "sources.py"
        for name in re.findall(r"\"MAITRED_([A-Z]+)\"", path.read_text("utf-8"))
    }
    assert used
    assert used <= RESERVED
    assert not {name.lower() for name in RESERVED} & set(OPTIONS)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"UVICORN_WORKERS": "3"}, ["ours is $MAITRED_WORKERS"]),
        ({"UVICORN_PORT": "80"}, ["ours is $MAITRED_BIND"]),
        ({"UVICORN_PORT": "tcp://10.0.0.1:80", "UVICORN_SERVICE_HOST": "10.0.0.1"}, []),
        ({"UVICORN_LIMIT_MAX_REQUESTS": "9"}, ["ours is $MAITRED_MAX_REQUESTS"]),
        ({"UVICORN_WS": "none"}, ["ours is $MAITRED_WS"]),
        ({"UVICORN_HTTP2": "1"}, ["see docs/reference/coming-from.md"]),
        ({"GUNICORN_CMD_ARGS": "-w 4"}, ["see docs/reference/coming-from.md"]),
        ({"UVICORN": "x", "PORT": "80"}, []),
    ],
)
def test_variables_of_other_servers_are_told(variables, told):
    """Nothing is read of them, and who set them for us should know."""
    sentences = list(unknown_variables(variables))
    assert [s.rpartition("; ")[2] for s in sentences] == told
    assert all("is another server's and is not read" in s for s in sentences)


@pytest.mark.parametrize(
    ("options", "environment", "file", "workers", "bind"),
    [
        ({}, {}, "", None, None),
        ({}, {"WEB_CONCURRENCY": "", "PORT": ""}, "", None, None),
        ({}, {"WEB_CONCURRENCY": "3", "PORT": "5000"}, "", 3, ("0.0.0.0:5000",)),
        ({}, {"WEB_CONCURRENCY": "3"}, "workers = 4", 4, None),
        ({}, {"PORT": "5000"}, 'bind = ":1"', None, (":1",)),
        ({}, {"WEB_CONCURRENCY": "3", "MAITRED_WORKERS": "5"}, "workers=4", 5, None),
        ({"bind": (":2",)}, {"PORT": "no port"}, "", None, (":2",)),
        ({"workers": 6}, {"WEB_CONCURRENCY": "many"}, "", 6, None),
    ],
)
def test_platform_is_heard_where_nobody_says_otherwise(
    tmp_path, options, environment, file, workers, bind
):
    """WEB_CONCURRENCY and PORT, below the file, the variables and the options."""
    (tmp_path / "maitred.toml").write_text(file)
    found = gather(options, environment, str(tmp_path))
    said = [
        found[name].value if name in found else None for name in ("workers", "bind")
    ]
    assert said == [workers, bind]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"WEB_CONCURRENCY": "many"}, "$WEB_CONCURRENCY: 'many' is not a whole number"),
        ({"PORT": "tcp://x:1"}, "$PORT: 'tcp://x:1' is no port from 0 to 65535"),
        ({"PORT": "65536"}, "$PORT: '65536' is no port from 0 to 65535"),
    ],
)
def test_platform_that_says_what_cannot_be_is_refused(tmp_path, environment, sentence):
    """In a sentence that names the variable."""
    with pytest.raises(UsageError) as refusal:
        gather({}, environment, str(tmp_path))
    assert sentence in str(refusal.value)
