"""
Eight people with a browser each: contexts of one headless Chromium.

A context has its own cookies and its own connections.
"""

import os
from contextlib import suppress

from playwright.sync_api import Error, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Keeps a page's WebSockets in ``window.sockets``, so that a test can close one.
REMEMBER_SOCKETS = """
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
        constructor(...args) { super(...args); window.sockets.push(this); }
    };
"""


def crowd(begin, act, *, users, interactions, patience):
    """
    Let *users* people interact in turn.

    ``begin(page)`` opens the application, ``act(page, number)`` does something and
    gives what the application answered. Gives the answers of each; where one fails,
    a text stands in place of its remaining answers.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, headless=True
        )
        answers = [[] for _ in range(users)]
        pages = []
        for mine in answers:
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.set_default_timeout(patience * 1000)
            pages.append(page)
            attempt(mine, begin, page)
        for number in range(1, interactions + 1):
            for mine, page in zip(answers, pages, strict=True):
                if not (mine and isinstance(mine[-1], str)):
                    attempt(mine, act, page, number)
        with suppress(Error):
            browser.close()
    return answers


def attempt(answers, act, *arguments):
    """Note what *act* gives, or why it does not."""
    try:
        answer = act(*arguments)
    except (Error, AssertionError) as exc:
        answers.append(str(exc).partition("\n")[0])
    else:
        if answer is not None:
            answers.append(answer)
