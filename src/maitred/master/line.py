"""
One end of the channel between the master and a deputy, on which nobody waits.

Invariants: what is said goes out in order, soon. A descriptor that rides along is
closed here when it has gone out, or when the other side is dead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from maitred import logs
from maitred.errors import (
    ChannelClosed,
    ChannelFull,
    ChannelRefused,
    MessageTooLarge,
)
from maitred.wire import Channel, Owner

RETRY: Final = 0.01
"Seconds until what the channel had no room for is said again."


class Line:
    """Says what there is to say, and passes on what is heard."""

    def __init__(self, channel: Channel) -> None:
        """Own *channel*; needs a running loop."""
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._unsaid: deque[tuple[Any, Owner | None]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._is_open = True

    def listen(self, heard: Callable[[], None]) -> None:
        """Call *heard* whenever there is something to ``receive``."""
        self._loop.add_reader(self._channel.fileno(), heard)

    def receive(self) -> list[Any]:
        """
        Give the messages of the next packet; none: there is nothing more now.

        Raises:
            ChannelClosed: The other side is gone, and everything it said was given.
        """
        return self._channel.receive_nowait() if self._is_open else []

    def say(self, message: Any, passed: Owner | None = None) -> None:
        """Say *message*, and own *passed*, which rides along in it."""
        if not self._is_open:
            if passed is not None:
                passed.close()
            return
        self._unsaid.append((message, passed))
        if self._retry is None:
            self._flush()

    def close(self) -> None:
        """Hear nothing and say nothing any more."""
        if not self._is_open:
            return
        self._is_open = False
        self._drop()
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()

    def _flush(self) -> None:
        self._retry = None
        while self._unsaid:
            message, passed = self._unsaid[0]
            try:
                self._channel.send_nowait(message)
            except ChannelFull:
                self._retry = self._loop.call_later(RETRY, self._flush)
                return
            except (ChannelRefused, MessageTooLarge) as exc:
                # Both ends hear that it is over, and begin anew.
                logs.master.error("a line between acceptors is cut: %s", exc)
                self._channel.hang_up()
                self._drop()
                return
            except ChannelClosed:  # whoever listens hears of it
                self._drop()
                return
            self._unsaid.popleft()
            if passed is not None:
                passed.close()

    def _drop(self) -> None:
        while self._unsaid:
            _, passed = self._unsaid.popleft()
            if passed is not None:
                passed.close()
