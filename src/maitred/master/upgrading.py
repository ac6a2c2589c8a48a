"""
The attempts to become the program that is on disk now, and who waits for one.

Invariant: one attempt at a time. It ends in another program, or in ``UpgradeRefused``
and a master that is as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, NoReturn

from maitred import logs
from maitred.errors import UpgradeRefused
from maitred.upgrade.key_pages import KeyPages

from .succession import rehearse, take_over

PULSE: Final = 3.0
"Seconds after which an asker is told, with an empty line, that we are still there."


class Upgrades:
    """Makes attempts to upgrade, one at a time."""

    def __init__(
        self,
        write: Callable[[], dict[str, Any]],
        pages: KeyPages,
        *,
        check: Callable[[], None],
        seconds: float,
        given_up: asyncio.Future[None],
        settle_down: Callable[[], Awaitable[None]],
        serve_on: Callable[[], None],
    ) -> None:
        """
        Start without an attempt.

        Args:
            write: Returns the snapshot.
            pages: Writes the key table.
            check: Raises UpgradeRefused where there may be no successor.
            seconds: How long a rehearsal may take.
            given_up: Done when there is to be no upgrade any more.
            settle_down: Called before the takeover; starts nothing new from then on.
            serve_on: Called when the takeover failed.
        """
        self._write = write
        self._pages = pages
        self._check = check
        self._seconds = seconds
        self._given_up = given_up
        self._settle_down = settle_down
        self._serve_on = serve_on
        self._under_way = False
        self._attempts: set[asyncio.Task[UpgradeRefused]] = set()

    def begin(self) -> asyncio.Task[UpgradeRefused]:
        """Start an attempt; the task has a result only if it failed."""
        attempt = asyncio.get_running_loop().create_task(self._attempt())
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        return attempt

    async def watch(self) -> AsyncGenerator[dict[str, Any]]:
        """
        Start an attempt; yield empty lines until a successor answers the asker.

        Raises:
            UpgradeRefused: There is no successor; this program serves on.
        """
        attempt = self.begin()
        while not attempt.done():
            await asyncio.wait({attempt}, timeout=PULSE)
            yield {}
        raise attempt.result()

    async def _attempt(self) -> UpgradeRefused:
        try:
            if self._under_way:
                raise UpgradeRefused("another upgrade is under way")
            self._under_way = True
            try:
                self._check()
                logs.master.info("upgrade: the new code rehearses")
                await self._pages.write()
                await rehearse(self._write(), self._seconds, self._given_up)
                self._pages.catch_up()
                await self._leave()
            finally:
                self._pages.drop()
                self._under_way = False
        except UpgradeRefused as exc:
            if exc.traceback:
                logs.say(exc.traceback + "\n")
            logs.master.warning("%s", exc)
            return exc

    async def _leave(self) -> NoReturn:
        try:
            await self._settle_down()
            await take_over(self._write)
        except UpgradeRefused:
            self._serve_on()
            raise
