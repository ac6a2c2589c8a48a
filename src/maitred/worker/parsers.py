"""
How the gate learns what uvicorn's parser makes of the bytes that passed.

One mixin for each of uvicorn's HTTP protocol classes. The parser says when a request
begins and when it ends; the gate says whether that is the request that has passed.

Invariant: what the gate has not passed reaches no application: a parser that is out of
step is stopped before it has read the head of anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from .gate import DUE, INSIDE, NOTHING, OPEN, Gate

# What the mixins are mixed with.
AnyProtocol: Any = asyncio.Protocol


class Stepping(AnyProtocol):  # type: ignore[misc]
    """What both parsers have in common."""

    _gate: Gate
    out_of_step: Callable[[], None]
    refuse: Callable[[int, str], None]

    def _should_upgrade(self) -> bool:
        """Return what the gate has decided: nobody reads an Upgrade line twice."""
        return self._gate.upgrades

    def send_400_response(self, _text: str) -> None:
        """Refuse what the parser cannot read as we refuse what the gate cannot."""
        if not self.transport.is_closing():
            self.refuse(400, "bad_request")


class OutOfStep(Exception):
    """Stops httptools in a callback; uvicorn takes it for an invalid request."""


class HttptoolsStep(Stepping):
    """
    Follows httptools by its callbacks.

    ``begin_message`` and ``complete_message`` are those of uvicorn's class: it costs
    less to call them than to look them up in each request.
    """

    begin_message: Callable[[], None]
    complete_message: Callable[[], None]

    def on_message_begin(self) -> None:
        """Start a request if it is the one that passed; otherwise raise OutOfStep."""
        gate = self._gate
        # This and the next are begun() and ended() of the gate, written out because
        # each request passes here.
        if gate.reading is not DUE:
            self.out_of_step()
            raise OutOfStep
        gate.reading = OPEN
        self.begin_message()

    def on_message_complete(self) -> None:
        """Complete the request if the gate is at its end; otherwise raise OutOfStep."""
        gate = self._gate
        if gate.reading is not OPEN or gate.stage is INSIDE:
            self.out_of_step()
            raise OutOfStep
        gate.reading = NOTHING
        self.complete_message()

    def _unsupported_upgrade_warning(self) -> None:
        """Close: the parser has upgraded where the gate has seen no handshake."""
        self.out_of_step()


class H11Step(Stepping):
    """Follows h11 by the question that uvicorn asks once for each request."""

    _is_out_of_step = False

    def _should_upgrade(self) -> bool:
        """Return whether to upgrade; uvicorn asks once, when a request begins."""
        if self._gate.begun():
            return super()._should_upgrade()
        self._is_out_of_step = True
        self.out_of_step()
        # uvicorn leaves its loop where an upgrade begins, and only there.
        return True

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Upgrade, unless that is how uvicorn's loop was left."""
        if not self._is_out_of_step:
            super().handle_websocket_upgrade(event)

    def data_received(self, data: bytes) -> None:
        """Parse what passed the gate, then check that h11 has read just that."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        gate = self._gate
        # By its name: who is served by httptools need not import h11.
        is_in_body = self.conn.their_state.__name__ == "SEND_BODY"
        # h11 is through with a request whose end the gate has not seen yet.
        if gate.reading is OPEN and not is_in_body and not gate.ended():
            self.out_of_step()
        elif gate.reading is not OPEN and self.conn.trailing_data[0]:
            # h11 holds the beginning of a request, or of none, that has not passed.
            self.out_of_step()


STEPS: Final = {"HttpToolsProtocol": HttptoolsStep, "H11Protocol": H11Step}
"The mixin for each protocol class of uvicorn, by its name."


def stepping(inner: Any) -> Any:
    """Return a class that is *inner*, one of uvicorn's, and that the gate follows."""
    step = STEPS[inner.__name__]
    own = {}
    if step is HttptoolsStep:
        own["begin_message"] = inner.on_message_begin
        own["complete_message"] = inner.on_message_complete
    return type("SteppingConnection", (step, inner), own)
