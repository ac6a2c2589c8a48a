"""
Who waits for a reload, and what they are told meanwhile.

Invariant: everybody who asks is told one outcome, of the first reload that begins after
they asked, or why there will be none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from maitred.errors import CommandFailed

PULSE: Final = 3.0
"Seconds after which an asker is told, with an empty line, that we are still there."

Told = dict[str, Any] | CommandFailed


class Reloads:
    """Those who asked for a reload and do not know its outcome yet."""

    def __init__(self) -> None:
        """Start with no asker."""
        # Lines not sent to each asker yet, and the generation it waits for.
        self._askers: dict[asyncio.Queue[Told], int] = {}

    def tell(self, text: str) -> None:
        """Send *text* to all who wait."""
        for told in self._askers:
            told.put_nowait({"progress": text})

    def serves(self, generation: int) -> None:
        """Answer those who wait for *generation*, or an older one: it serves."""
        for told, awaited in self._askers.items():
            if awaited <= generation:
                told.put_nowait({"ok": True, "generation": generation})

    def failed(self, generation: int, why: str, traceback: str) -> None:
        """Answer those who wait for *generation*, or an older one: it failed."""
        for told, awaited in self._askers.items():
            if awaited <= generation:
                told.put_nowait(CommandFailed(f"reload failed: {why}", traceback))

    def give_up(self, why: str) -> None:
        """Answer all who wait: there will be no reload any more."""
        for told in self._askers:
            told.put_nowait(CommandFailed(f"reload failed: {why}"))

    def watch(self, generation: int, *reports: str) -> AsyncGenerator[dict[str, Any]]:
        """
        Return the lines for an asker who waits for *generation*, *reports* first.

        Raises:
            CommandFailed: It will not serve; what served before serves on.
        """
        told: asyncio.Queue[Told] = asyncio.Queue()
        # From now on, and not only when the first line is asked for.
        self._askers[told] = generation
        return self._lines(told, reports)

    async def _lines(
        self, told: asyncio.Queue[Told], reports: Sequence[str]
    ) -> AsyncGenerator[dict[str, Any]]:
        try:
            for report in reports:
                yield {"progress": report}
            while True:
                line = await _next(told)
                if isinstance(line, CommandFailed):
                    raise line
                yield line
                if "ok" in line:
                    return
        finally:
            del self._askers[told]


async def _next(told: asyncio.Queue[Told]) -> Told:
    try:
        async with asyncio.timeout(PULSE):
            return await told.get()
    except TimeoutError:
        return {}
