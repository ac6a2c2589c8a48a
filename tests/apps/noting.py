"""
The probe, noting which requests it has started, and which it has finished.

A request that says who it is, in ``x-id``, is noted in the file that the environment's
LEDGER names: "started ID PID" before it is looked at, "finished ID PID" before the end
of the answer leaves. Each line is one write, to the end of the file.
"""

import os

import probe

LEDGER = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(what, name):
    """Write down that *what* was done with the request called *name*."""
    os.write(LEDGER, f"{what} {name} {os.getpid()}\n".encode())


async def app(scope, receive, send):
    """Serve one scope."""
    name = scope["type"] == "http" and dict(scope["headers"]).get(b"x-id", b"").decode()
    if not name:
        await probe.app(scope, receive, send)
        return

    async def watched(message):
        """Note the end of the answer before it is sent."""
        if message["type"] == "http.response.body" and not message.get("more_body"):
            note("finished", name)
        await send(message)

    note("started", name)
    await probe.app(scope, receive, watched)
