"""A chat gets ten messages, and loses its WebSocket after each."""

import re

from browser import REMEMBER_SOCKETS, crowd


def drive(url, **how):
    """Give the answers of every user: process and count."""
    return crowd(lambda page: begin(page, url), act, **how)


def begin(page, url):
    """Open the chat."""
    page.add_init_script(REMEMBER_SOCKETS)
    page.goto(f"{url}/chat/")
    page.get_by_text("Hello").wait_for()


def act(page, number):
    """Send a message; lose the WebSocket."""
    page.locator("#chat-input").click()
    page.keyboard.type("count")
    page.keyboard.press("Enter")
    line = page.get_by_text(f"has {number} messages")
    line.wait_for()
    pid, count = re.search(r"process (\d+) has (\d+)", line.inner_text()).groups()
    with page.expect_websocket():
        page.evaluate("window.sockets.at(-1).close()")
    return int(pid), int(count)
