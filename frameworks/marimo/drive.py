"""A page is clicked ten times; each click is a request of its own."""

import re

from browser import crowd


def drive(url, **how):
    """Give the answers of every user: process and count."""
    return crowd(lambda page: begin(page, url), act, **how)


def begin(page, url):
    """Open the page."""
    page.goto(url)
    page.get_by_text("has 0 clicks").wait_for()


def act(page, number):
    """Click."""
    page.get_by_text("Click", exact=True).click()
    line = page.get_by_text(f"has {number} clicks")
    line.wait_for()
    text = line.inner_text()
    return [int(part) for part in re.search(r"(\d+) has (\d+)", text).groups()]
