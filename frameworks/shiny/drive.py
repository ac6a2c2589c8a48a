"""
A session uploads a file and downloads a report, ten times.

Both are requests of their own, which name the session of the WebSocket.
"""

from pathlib import Path

from browser import crowd


def drive(url, **how):
    """Give the answers of every user: process and count."""
    return crowd(lambda page: begin(page, url), act, **how)


def begin(page, url):
    """Open the page."""
    page.goto(url)
    page.get_by_text("has 0 files").wait_for()


def act(page, number):
    """Upload a file; download the report."""
    page.locator("input[type=file]").set_input_files(
        {"name": f"{number}.txt", "mimeType": "text/plain", "buffer": b"%d" % number}
    )
    page.get_by_text(f"has {number} files").wait_for()
    with page.expect_download() as download:
        page.get_by_text("Report").click()
    return [int(part) for part in Path(download.value.path()).read_text().split()]
