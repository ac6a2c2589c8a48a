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
    """Sends messages in order without waiting, and receives what comes."""

    def __init__(self, channel: Channel) -> None:
        """Take over *channel*; needs a running loop."""
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._unsaid: deque[tuple[Any, Owner | None]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._is_open = True

    def listen(self, heard: Callable[[], None]) -> None:
        """Register *heard*, called whenever there is something to ``receive``."""
        self._loop.add_reader(self._channel.fileno(), heard)

    def receive(self) -> list[Any]:
        """
        Return the messages of the next packet; empty: nothing more has come.

        Raises:
            ChannelClosed: The other side is gone, and all it sent was returned.
        """
        return self._channel.receive_nowait() if self._is_open else []

    def say(self, message: Any, passed: Owner | None = None) -> None:
        """Send *message*, now or soon; take over *passed*, which rides along in it."""
        if not self._is_open:
            if passed is not None:
                passed.close()
            return
        self._unsaid.append((message, passed))
        if self._retry is None:
            self._flush()

    def close(self) -> None:
        """Close the channel; what was not sent is dropped."""
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
                # Hung up, because then both ends see that it has ended, and begin anew.
                logs.master.error("a line between acceptors is cut: %s", exc)
                self._channel.hang_up()
                self._drop()
                return
            except ChannelClosed:  # which the reader sees as well
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
