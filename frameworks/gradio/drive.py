"""
Half of the users call with Gradio's own client, half click in a browser.

A call is a POST that is answered at once, and a stream that brings the result.
"""

import re
from concurrent.futures import TimeoutError as TooLate

from browser import crowd
from gradio_client import Client


def drive(url, *, users, **how):
    """Give the answers of every user: process and count."""
    half = users // 2
    return [
        *(client(url, **how) for _ in range(half)),
        *crowd(lambda page: begin(page, url), act, users=users - half, **how),
    ]


def client(url, *, interactions, patience):
    """Call with Gradio's own client."""
    answers = []
    try:
        session = Client(url, verbose=False, analytics_enabled=False, ssl_verify=False)
        for _ in range(interactions):
            job = session.submit(api_name="/click")
            answers.append(process_and_count(job.result(timeout=patience)))
    except (TooLate, Exception) as exc:  # noqa: BLE001 - whatever it raises, it is lost
        answers.append(f"{type(exc).__name__}: {exc}")
    return answers


def begin(page, url):
    """Open the page."""
    page.goto(url)
    page.get_by_role("button", name="Click").wait_for()


def act(page, number):
    """Click."""
    page.get_by_role("button", name="Click").click()
    page.wait_for_function(
        "n => document.querySelector('textarea, input[type=text]')"
        "?.value.includes(` has ${n} clicks`)",
        arg=number,
    )
    return process_and_count(page.locator("textarea, input[type=text]").input_value())


def process_and_count(text):
    """Read the line."""
    return [int(part) for part in re.search(r"(\d+) has (\d+)", text).groups()]
