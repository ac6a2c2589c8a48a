"""
A page is opened, which makes the session; its WebSocket asks for it; ten clicks.

The page names the process that made it. The session of the WebSocket counts.
"""

import re

from browser import crowd


def drive(url, **how):
    """Give the answers of every user: process and count."""
    return crowd(lambda page: begin(page, url), act, **how)


def begin(page, url):
    """Open the page."""
    page.goto(f"{url}/counter")
    page.get_by_text("has 0 clicks").wait_for()
    page.made_by = process_and_count(page)[0]


def act(page, number):
    """Click."""
    page.get_by_text("Click", exact=True).click()
    page.get_by_text(f"has {number} clicks").wait_for()
    pid, count = process_and_count(page)
    assert pid == page.made_by, "another process runs the session a second time"
    return pid, count


def process_and_count(page):
    """Read the line."""
    text = page.get_by_text(re.compile(r"process \d+ has")).inner_text()
    return [int(part) for part in re.search(r"(\d+) has (\d+)", text).groups()]
