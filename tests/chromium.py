"""
A browser for tests: Debian's Chromium, without a window.

Invariant: whatever a page says on its console, or asks for elsewhere, is a failure.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

PROGRAM = shutil.which("chromium")
DEADLINE_MS = 60_000.0


@contextlib.contextmanager
def opened(
    *, dark: bool = False, width: int = 1280, height: int = 900, motion: bool = False
) -> Iterator[Page]:
    """Yield an empty page of a new browser; check at the end that it was quiet."""
    said: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(
            color_scheme="dark" if dark else "light",
            reduced_motion="no-preference" if motion else "reduce",
            viewport={"width": width, "height": height},
        )
        page = context.new_page()
        page.set_default_timeout(DEADLINE_MS)
        page.on("console", lambda message: said.extend(_complaint(message)))
        page.on("pageerror", lambda error: said.append(str(error)))
        try:
            yield page
        finally:
            browser.close()
    # A refused request is told by Chromium itself; the page deals with it.
    wrong = [text for text in said if "Failed to load resource" not in text]
    assert not wrong, wrong


def _complaint(message: ConsoleMessage) -> list[str]:
    return [message.text] if message.type in {"error", "warning"} else []
