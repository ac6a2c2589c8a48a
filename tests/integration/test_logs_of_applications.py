"""What an application does with logging: it is heard, and silences itself alone."""

from __future__ import annotations

import re

import pytest

from driver import wait_until
from raw_http import ask

APP = """
import logging, logging.config
{setup}
from probe import app as probe
async def app(scope, receive, send):
    if scope["type"] == "http":
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).info("order of %s is paid", name)
        if scope["path"] == "/fail":
            raise RuntimeError("the till is stuck")
    await probe(scope, receive, send)
"""
SETUPS = {
    "nothing": "",
    "dictConfig": "logging.config.dictConfig({'version': 1})",
    "fileConfig": "import io; logging.config.fileConfig(io.StringIO("
    "'[loggers]\\nkeys=root\\n[handlers]\\nkeys=\\n[formatters]\\nkeys=\\n'"
    "'[logger_root]\\nlevel=INFO\\nhandlers=\\n'))",
    "Django": "import django; from django.conf import settings; settings.configure("
    "LOGGING={'version': 1, 'root': {'level': 'INFO'}}); django.setup()",
}


@pytest.mark.parametrize("name", SETUPS)
def test_worker_is_heard_whatever_the_application_configures(serve, tmp_path, name):
    """The access log, tracebacks, and what is said to uvicorn's loggers."""
    (tmp_path / "talking.py").write_text(APP.format(setup=SETUPS[name]))
    server = serve("talking:app", env={"PYTHONPATH": str(tmp_path)}, workers=1)
    server.expect_log("Exception in ASGI application|the till is stuck|Traceback|Error")
    assert ask(server.port, "/good").status == 200
    assert ask(server.port, "/fail").status == 500
    for said in (
        r'"GET /good HTTP/1.1" 200 ',
        r'"GET /fail HTTP/1.1" 500 ',
        r"RuntimeError: the till is stuck",
        r"INFO .* order of uvicorn is paid",
        r"INFO .* order of uvicorn\.error is paid",
    ):
        wait_until(said, lambda said=said: re.search(said, server.log))
    # What the server itself says of every start is of no interest.
    assert "Started server process" not in server.log
    assert "Application startup complete" not in server.log
    assert server.status()["dropped_log_lines"] == 0


def test_application_is_as_loud_as_the_level_says(serve, tmp_path):
    """With --log-level warning, INFO is nobody's, as under uvicorn."""
    (tmp_path / "talking.py").write_text(APP.format(setup=""))
    env = {"PYTHONPATH": str(tmp_path)}
    server = serve("talking:app", "--log-level", "warning", env=env, ready=False)
    server.wait_until_serving()
    server.stop()
    assert "is paid" not in server.log
