"""A page is clicked, and loses its WebSocket, ten times."""

import re

from browser import REMEMBER_SOCKETS, crowd


def drive(url, **how):
    """Give the answers of every user: process and count."""
    return crowd(lambda page: begin(page, url), act, **how)


def begin(page, url):
    """Open the page."""
    page.add_init_script(REMEMBER_SOCKETS)
    page.goto(url)
    page.get_by_text("has 0 clicks").wait_for()


def act(page, number):
    """Click; lose the WebSocket."""
    page.get_by_role("button", name="Click").click()
    line = page.get_by_text(f"has {number} clicks")
    line.wait_for()
    pid, count = re.search(r"process (\d+) has (\d+)", line.inner_text()).groups()
    with page.expect_websocket():
        page.evaluate("window.sockets.at(-1).close()")
    return int(pid), int(count)
