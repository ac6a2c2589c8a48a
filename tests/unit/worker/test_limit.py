"""The limit of what a worker serves at once: what counts, and how the rest is told."""

import asyncio

import pytest

from maitred.routing.refusal import CAUSES
from maitred.worker.limit import REFUSABLE, Limit, refuse

HTTP = {"type": "http"}
SOCKET = {"type": "websocket", "extensions": {REFUSABLE: {}}}


class App:
    """An application that goes on until it is told to end."""

    def __init__(self):
        self.begun = []
        self.end = asyncio.Event()

    async def __call__(self, scope, receive, send):
        """Serve one scope."""
        self.begun.append(scope["type"])
        await self.end.wait()
        if "fails" in scope:
            raise LookupError


async def answers(limit, scope):
    """Give what *limit* itself answers to *scope*."""
    said = []

    async def send(message):
        said.append(message)

    await limit(scope, None, send)
    return said


async def begin(limit, scope):
    """Begin with *scope*."""
    task = asyncio.ensure_future(limit(scope, None, None))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("scope", [HTTP, SOCKET])
def test_what_is_served_counts_until_it_ends(scope):
    """However it ends."""

    async def run():
        app = App()
        limit = Limit(app, 1, [].append)
        first = await begin(limit, scope | {"fails": True})
        assert (await answers(limit, HTTP))[0]["status"] == 503
        assert len(app.begun) == 1
        app.end.set()
        with pytest.raises(LookupError):
            await first
        assert await answers(limit, HTTP) == []

    asyncio.run(run())


def test_cancelled_request_counts_no_more():
    """A client that has left is not served."""

    async def run():
        limit = Limit(App(), 1, [].append)
        task = await begin(limit, HTTP)
        task.cancel()
        await asyncio.wait([task])
        again = await begin(limit, HTTP)
        assert not again.done()
        again.cancel()

    asyncio.run(run())


def test_lifespan_is_no_request():
    """It lasts as long as the worker."""

    async def run():
        app = App()
        limit = Limit(app, 1, [].append)
        tasks = [await begin(limit, {"type": t}) for t in ("lifespan", "http")]
        assert app.begun == ["lifespan", "http"]
        app.end.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("scope", "kind"), [(HTTP, "http.response"), (SOCKET, REFUSABLE)]
)
def test_client_reads_why(scope, kind):
    """In a sentence."""
    start, body = refuse(scope, 503, "too_busy")
    assert (start["type"], body["type"]) == (f"{kind}.start", f"{kind}.body")
    assert body["body"].decode().rstrip() == CAUSES["too_busy"].why
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])


def test_server_that_cannot_refuse_a_websocket_closes_it():
    """ASGI makes that 403."""
    assert refuse({"type": "websocket"}, 503, "too_busy") == [
        {"type": "websocket.close"}
    ]
