"""
A session uploads a file, sees its picture, and loses its WebSocket, ten times.

The upload and the picture are requests of their own; after a lost WebSocket the
browser asks for its session again.
"""

import re

from browser import REMEMBER_SOCKETS, crowd


def drive(url, **how):
    """Give the answers of every user: process and count."""
    return crowd(lambda page: begin(page, url), act, **how)


def begin(page, url):
    """Open the page."""
    page.add_init_script(REMEMBER_SOCKETS)
    page.goto(url)
    page.get_by_text("has 0 files").wait_for()


def act(page, number):
    """Upload a file; see the picture; lose the WebSocket."""
    page.locator("input[type=file]").set_input_files(
        {"name": f"{number}.txt", "mimeType": "text/plain", "buffer": b"%d" % number}
    )
    line = page.get_by_text(f"has {number} files")
    line.wait_for()
    page.wait_for_function(
        "[...document.images].some(i => i.src.includes('/media/') && i.naturalWidth)"
    )
    pid, count = re.search(r"process (\d+) has (\d+)", line.inner_text()).groups()
    with page.expect_websocket():
        page.evaluate("window.sockets.at(-1).close()")
    return int(pid), int(count)
