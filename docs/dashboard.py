"""
The picture of the page in docs/howto/dashboard.md: "python docs/dashboard.py".

Serves an application with some clients for a minute, and photographs the page in
Debian's Chromium. Not part of script/docs: two pictures are never the same.
"""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import chromium  # noqa: E402
import driver  # noqa: E402

SECONDS = 75
CLIENTS = 12


def ask_again_and_again(url, name, over):
    """Be a client with a session, on one connection, until it is *over*."""
    with httpx.Client(trust_env=False) as client:
        while not over.is_set():
            with contextlib.suppress(httpx.HTTPError):
                client.get(url, headers={"x-session": name})
                client.get(url, headers={"x-session": f"{name}-other"})
            over.wait(0.05)


def main():
    """Serve, look, and write the picture."""
    with tempfile.TemporaryDirectory() as directory:
        server = driver.Maitred(
            *("probe:app", "--affinity", "header:x-session", "--no-access-log"),
            *("--admin", "127.0.0.1:0"),
            tmp_path=Path(directory),
        ).ready()
        over = threading.Event()
        clients = [
            threading.Thread(
                target=ask_again_and_again, args=(server.url, f"user-{i}", over)
            )
            for i in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        with chromium.opened(width=1280, height=1340, motion=True) as page:
            page.goto(server.status()["admin"][0] + "/")
            time.sleep(SECONDS / 2)
            subprocess.run(
                [driver.COMMAND, "reload", "--control", server.control], check=True
            )
            page.fill("#key", "user-3")
            page.keyboard.press("Enter")
            time.sleep(SECONDS / 2)
            page.screenshot(path=ROOT / "docs" / "howto" / "dashboard.png")
        over.set()
        for client in clients:
            client.join()
        server.stop()


if __name__ == "__main__":
    main()
