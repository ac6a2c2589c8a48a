"""
Take the picture of ``maitred top`` for docs/howto/top.md: howto/top.svg.

A real service under a little load, for some seconds; run it again when the screen has
changed. Nothing in the picture is fetched from elsewhere: its font is the reader's.

    .venv/bin/python docs/screenshot.py
"""

import asyncio
import contextlib
import http.client
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from maitred.cli.rates import Rates
from maitred.cli.screen import Top
from maitred.control import ask
from maitred.errors import NoMaster

ROOT = Path(__file__).parents[1]
PORT = 8123
SECONDS = 20
APP = """
async def app(scope, receive, send):
    head = {"type": "http.response.start", "status": 200}
    await send(head | {"headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def main():
    """Start a service, watch it under load, and write what was seen."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "app.py").write_text(APP)
        control = f"{directory}/control.sock"
        command = [
            *(sys.executable, "-m", "maitred", "serve", "app:app", "--workers", "4"),
            *("--bind", f"127.0.0.1:{PORT}", "--affinity", "query:user"),
            *("--control", control, "--no-access-log", "--lifespan", "off"),
        ]
        with subprocess.Popen(command, cwd=directory) as service:
            try:
                picture = asyncio.run(watch(control))
            finally:
                service.terminate()
    (ROOT / "docs" / "howto" / "top.svg").write_text(without_fonts(picture))


async def watch(control):
    """Give the screen as it is after a while under load, and a reload."""
    rates = Rates()
    while rates.status is None:
        with contextlib.suppress(NoMaster):
            status = ask(control, "status")
            if status["state"] == "ready":
                rates.look(status, time.monotonic())
        await asyncio.sleep(0.1)
    app = Top(control, rates, SECONDS / 60)
    async with app.run_test(size=(80, 24)) as pilot:
        load = asyncio.get_running_loop().run_in_executor(None, clients)
        await pilot.pause(SECONDS / 2)
        await pilot.press("r", "y")
        await load
        return app.export_screenshot(title="maitred top")


def clients():
    """Ask for something, as different users, more often and less often."""
    end = time.monotonic() + SECONDS
    crowd = [http.client.HTTPConnection("127.0.0.1", PORT) for _ in range(40)]
    user = 0
    while (left := end - time.monotonic()) > 0:
        user += 1
        client = crowd[user % len(crowd)]
        client.request("GET", f"/?user={user % 97 if user % 9 else user % 40}")
        client.getresponse().read()
        time.sleep(0.002 + 0.02 * abs(left % 8 - 4) / 4)


def without_fonts(picture):
    """Leave out the fonts, which would be fetched from elsewhere."""
    return re.sub(r"(?s)@font-face \{.*?\}\s*", "", picture)


if __name__ == "__main__":
    main()
