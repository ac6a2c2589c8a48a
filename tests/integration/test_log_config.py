"""--log-config: each worker logs as a file says, and a wrong one harms nobody."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from driver import APPS, COMMAND, wait_until
from maitred.errors import ExitCode
from raw_http import ask

APP = """
import logging
from probe import app as probe
log = logging.getLogger("shop")
log.info("is imported")
async def app(scope, receive, send):
    if scope["type"] == "http":
        log.info("an order for %s", scope["path"])
        if scope["path"] == "/fail":
            raise RuntimeError("the till is stuck")
    await probe(scope, receive, send)
"""
CLASSES = """
import logging
class Loud(logging.Formatter):
    def format(self, record):
        return "LOUD " + record.getMessage().upper()
"""
DICT = {
    "version": 1,
    "formatters": {"f": {"format": "SHOP %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"level": "INFO", "handlers": ["h"]},
}
INI = """
[loggers]
keys=root
[handlers]
keys=h
[formatters]
keys=f
[logger_root]
level=INFO
handlers=h
[handler_h]
class=StreamHandler
formatter=f
args=(sys.stderr,)
[formatter_f]
format=SHOP %(message)s
"""
# What uvicorn's own file has, as it is copied into many.
OF_UVICORN = DICT | {
    "disable_existing_loggers": False,
    "formatters": {
        "f": {"format": "SHOP %(message)s"},
        "a": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(client_addr)s asked "%(request_line)s" %(status_code)s',
            "use_colors": False,
        },
    },
    "handlers": {
        "h": {"class": "logging.StreamHandler", "formatter": "f"},
        "a": {"class": "logging.StreamHandler", "formatter": "a"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["h"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["a"], "level": "INFO", "propagate": False},
    },
}
YAML = """
version: 1
formatters:
  f: {format: SHOP %(message)s}
handlers:
  h:
    class: logging.StreamHandler
    formatter: f
root:
  level: INFO
  handlers: [h]
"""
FILES = {
    "log.json": json.dumps(DICT),
    "log.yaml": YAML,
    "log.yml": YAML,
    "log.ini": INI,
}
EXPECTED = "the till is stuck|Traceback|Exception in ASGI application"


@pytest.fixture
def shop(serve, tmp_path):
    """Give what starts the application with the file of a name."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "classes.py").write_text(CLASSES)

    def start(name, text, *options, **details):
        """Start it."""
        (tmp_path / name).write_text(text)
        env = {"PYTHONPATH": str(APPS)}
        options = ("--app-dir", str(tmp_path), "--log-config", name, *options)
        return serve("shop:app", *options, cwd=tmp_path, env=env, workers=2, **details)

    return start


@pytest.mark.parametrize("name", FILES)
def test_application_logs_as_the_file_says(shop, name):
    """From its import on; and our own log goes on."""
    server = shop(name, FILES[name])
    server.expect_log(EXPECTED)
    ask(server.port, "/tea")
    assert ask(server.port, "/fail").status == 500
    for said in (
        r"^SHOP is imported$",
        r"^SHOP an order for /tea$",
        r'INFO .*"GET /tea HTTP/1.1" 200 ',
        r"ERROR .*Exception in ASGI application",
    ):
        wait_until(said, lambda said=said: re.search(said, server.log, re.MULTILINE))


def test_copy_of_uvicorns_file_says_what_it_says_there(shop):
    """Of requests and of errors: no line is lost, and none is written twice."""
    server = shop("log.json", json.dumps(OF_UVICORN))
    server.expect_log(EXPECTED)
    assert ask(server.port, "/fail").status == 500
    for said in (
        r'^127\.0\.0\.1:\d+ asked "GET /fail HTTP/1\.1" 500',
        r"^SHOP Exception in ASGI application",
    ):
        found = wait_until(
            said, lambda said=said: re.findall(said, server.log, re.MULTILINE)
        )
        assert len(found) == 1
    server.stop()
    assert server.log.count("Exception in ASGI application") == 1
    assert not re.search(r'"GET /fail HTTP/1.1" 500 \d+B', server.log)


def test_file_may_name_classes_of_the_application(shop):
    """They are found where the application is."""
    text = json.dumps(DICT | {"formatters": {"f": {"()": "classes.Loud"}}})
    server = shop("log.json", text)
    wait_until("it is loud", lambda: "LOUD IS IMPORTED" in server.log)


def test_reload_reads_it_again_and_refuses_a_broken_one(shop, tmp_path):
    """And the old generation serves on."""
    server = shop("log.json", FILES["log.json"])
    file = tmp_path / "log.json"
    file.write_text("{")
    result = server_reload(server)
    assert result.returncode == ExitCode.FAILED
    assert f"--log-config {file}: it is not JSON" in result.stderr
    # What only a worker can see.
    text = json.dumps(DICT | {"formatters": {"f": {"()": "nosuch.Loud"}}})
    file.write_text(text)
    server.expect_log("nosuch|is not ready|reload")
    result = server_reload(server)
    assert result.returncode == ExitCode.FAILED
    assert f"--log-config {file}: Unable to configure" in result.stderr
    assert {slot["generation"] for slot in server.status()["slots"]} == {1}
    file.write_text(FILES["log.json"].replace("SHOP", "STORE"))
    result = server_reload(server)
    assert (result.returncode, result.stderr) == (0, "")
    ask(server.port, "/tea")
    wait_until("the new file", lambda: "STORE an order for /tea" in server.log)


def server_reload(server):
    """Ask for a reload, to its end."""
    return subprocess.run(
        [COMMAND, "reload", "--control", server.control],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("text", "options", "code", "why"),
    [
        ("{", (), ExitCode.USAGE, "it is not JSON"),
        (
            json.dumps(DICT | {"handlers": {}}),
            (),
            ExitCode.USAGE,
            "logger 'root': there is no 'h' in `handlers`",
        ),
        (
            json.dumps(DICT | {"formatters": {"f": {"()": "nosuch.Loud"}}}),
            (),
            ExitCode.APP,
            "Unable to configure formatter 'f': .*No module named 'nosuch'$",
        ),
        ("{}", ("--exec",), ExitCode.USAGE, "--log-config with --exec: "),
    ],
)
def test_wrong_file_is_refused(tmp_path, command, text, options, code, why):
    """In one sentence, by a start and by a check."""
    (tmp_path / "log.json").write_text(text)
    result = subprocess.run(
        [COMMAND, command, "probe:app", "--app-dir", str(APPS), "--bind", "127.0.0.1:0",
         "--control", str(tmp_path / "c.sock"), "--log-config", "log.json", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert result.returncode == code
    last = result.stderr.splitlines()[-1]
    assert re.search(why, last)
    assert last.startswith("maitred: --log-config ")


def test_place_of_the_setting_is_named(tmp_path):
    """Where it is not the command line."""
    (tmp_path / "maitred.toml").write_text('log-config = "none.json"\n')
    result = subprocess.run(
        [COMMAND, "check", "probe:app", "--app-dir", str(APPS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == ExitCode.USAGE
    assert result.stderr == (
        f"maitred: --log-config {tmp_path}/none.json: it cannot be read (No such file"
        " or directory) (log-config: maitred.toml, line 1)\n"
    )
