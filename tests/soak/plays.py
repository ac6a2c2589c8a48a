"""
The kinds of clients of the long mixed load: each is a function that makes requests.

What a function does is drawn from its client's chance, and so from the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from ledger import Extent
from soak.clients import PATIENCE, Client, compose
from soak.plan import CLIENTS, HEAD_TIMEOUT, KEEP_ALIVE
from soak.websocket import Talk


async def kept(client: Client) -> None:
    """Make a request of its own session on its own connection."""
    body = client.chance.randbytes(client.chance.randrange(6000))
    post = client.chance.random() < 0.4
    request = client.enter(client.name, body if post else b"")
    pause = client.chance.uniform(0, 0.1) if client.chance.random() < 0.2 else 0
    lines = [f"x-pause: {pause:.3f}"]
    pieces = compose(request, *lines, body=body if post else None)
    await client.ask(request, [b"".join(pieces)])


async def learning(client: Client) -> None:
    """Have a session made, and use it some times, on new connections too."""
    session = "-"
    for _ in range(client.chance.randrange(3, 30)):
        if client.chance.random() < 0.3:
            client.leave()
        request = client.enter(session)
        await client.ask(request, compose(request))
        if request.good and not request.wrong:
            session = request.got_session
        await asyncio.sleep(client.chance.uniform(0, 0.1))
    if session != "-":
        client.carts[client.chance.randrange(12) :] = [session]


async def new(client: Client) -> None:
    """Make a request on a connection of its own."""
    client.leave()
    request = client.enter(
        client.any_session() if client.chance.random() < 0.8 else "-"
    )
    await client.ask(request, compose(request))


async def hopping(client: Client) -> None:
    """Make a request of another session than the one before, on one connection."""
    body = client.chance.randbytes(200) if client.chance.random() < 0.3 else None
    request = client.enter(client.any_session(), body or b"")
    await client.ask(request, [b"".join(compose(request, body=body))])


async def pipelined(client: Client) -> None:
    """Send several requests at once, and read their answers in order."""
    group = []
    sent = b""
    session = client.any_session()
    for _ in range(client.chance.randrange(2, 7)):
        body = client.chance.randbytes(300) if client.chance.random() < 0.3 else None
        if client.chance.random() < 0.3:
            session = client.any_session()
        group.append(client.enter(session, body or b""))
        sent += b"".join(compose(group[-1], body=body))
    cut = client.chance.choice([0, client.chance.randrange(len(sent))])
    pieces = [piece for piece in (sent[:cut], sent[cut:]) if piece]

    async def part() -> None:
        wire, *_ = [await client.connected(request) for request in group]
        await wire.send(group[0], pieces, 0.005)
        for request in group:
            request.sent, request.whole_at = group[0].sent, group[0].whole_at
        for request in group:
            await wire.hear(request)
            request.ended = time.time()

    await client.play(group[0], part)
    for request in group:
        request.ended = request.ended or time.time()
        if request.answered is not Extent.WHOLE:
            request.sent, request.problem = group[0].sent, group[0].problem
    if not all(request.good for request in group):
        client.leave()


async def events(client: Client) -> None:
    """Hear server-sent events, to their end or not."""
    client.leave()
    count, pause = client.chance.randrange(2, 40), client.chance.uniform(0.02, 0.2)
    request = client.enter(client.any_session())
    lines = [f"x-events: {count}", f"x-pause: {pause:.3f}"]
    pieces = compose(request, *lines, path="/events")
    if client.chance.random() < 0.6:
        await client.ask(request, pieces)
        return

    async def part() -> None:
        wire = await client.connected(request)
        await wire.send(request, pieces, 0)
        request.own_doing = "left the events"
        await wire.reader.readuntil(b"data: ")
        await asyncio.sleep(client.chance.uniform(0, 1))
        (wire.close if client.chance.random() < 0.5 else wire.reset)()
        client.leave()

    await client.play(request, part)


async def upload(client: Client) -> None:
    """Send a body in pieces, some of them slowly."""
    body = client.chance.randbytes(client.chance.choice([1, 3000, 40_000, 200_000]))
    count = client.chance.randrange(1, 12)
    request = client.enter(client.any_session(), body)
    chunked = client.chance.random() < 0.5
    head, *rest = compose(request, body=body, chunks=count if chunked else 0)
    if not chunked:
        size = len(body) // count + 1
        rest = [body[at : at + size] for at in range(0, len(body), size)]
    pause = client.chance.choice([0, 0.001, 0.05, 0.3])
    await client.ask(request, [head, *rest], pause)


async def websocket(client: Client) -> None:
    """Talk on a WebSocket, and close it."""
    client.leave()
    request = client.enter(client.any_session())
    lines = Talk.handshake(client.chance)
    pieces = compose(request, *lines, path="/ws")
    await client.ask(request, pieces)
    if request.status != 101 or client.wire is None:
        return
    wire = client.wire
    talk = Talk(wire.reader, wire.writer, client.chance)
    message = request

    async def part() -> None:
        message.port, message.before = request.port, request
        message.sent = Extent.PART
        await talk.send(message.id)
        message.sent, message.whole_at = Extent.WHOLE, time.time()
        said = await talk.hear()
        message.close_code = talk.close_code
        if said is None:
            raise EOFError(f"the WebSocket was closed with {talk.close_code}")
        message.answered, message.status = Extent.WHOLE, 200
        message.hear(said)

    for _ in range(client.chance.randrange(1, 25)):
        await asyncio.sleep(client.chance.uniform(0, 0.4))
        if wire.reader.at_eof() or talk.ended():
            break
        message = client.enter(request.session)
        await client.play(message, part)
        if not message.good:
            break
    else:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await talk.close()
    client.leave()


async def reset(client: Client) -> None:
    """Send a request, or some of it, and reset the connection."""
    request = client.enter(client.any_session(), b"x" * 2000)
    sent = b"".join(compose(request, body=b"x" * 2000))
    at = client.chance.choice([1, 20, 60, len(sent) - 1, len(sent)])

    async def part() -> None:
        wire = await client.connected(request)
        request.own_doing = "reset the connection"
        await wire.send(request, [sent[:at]], 0)
        await asyncio.sleep(client.chance.choice([0, 0, 0.002, 0.05]))
        wire.reset()
        client.leave()

    if client.chance.random() < 0.5:
        await kept(client)  # so that it is reset as the second one
    await client.play(request, part)


async def half_closed(client: Client) -> None:
    """Say FIN right behind a request, which is to be answered all the same."""
    client.leave()
    request = client.enter(client.any_session())

    async def part() -> None:
        wire = await client.connected(request)
        await wire.send(request, compose(request), 0)
        wire.writer.write_eof()
        await wire.hear(request)
        client.leave()

    await client.play(request, part)


async def slow_head(client: Client) -> None:
    """Send a head in pieces; one in five takes longer than it may."""
    late = client.chance.random() < 0.2
    if client.chance.random() < 0.5:
        client.leave()
    request = client.enter(client.any_session())
    if late:
        request.own_doing = "sent its head too slowly"
    whole = b"".join(compose(request))
    cuts = sorted(client.chance.sample(range(1, len(whole)), 5))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    seconds = HEAD_TIMEOUT * (1.3 if late else client.chance.uniform(0.05, 0.5))
    await client.ask(request, pieces, seconds / 5)


async def http10(client: Client) -> None:
    """Speak HTTP/1.0: one request, and the server closes."""
    client.leave()
    request = client.enter(client.any_session())
    await client.ask(request, compose(request, version="1.0"))
    client.leave()


async def idle(client: Client) -> None:
    """Be silent between two requests: shorter or longer than the keep-alive time."""
    short = client.chance.random() < 0.6
    share = client.chance.uniform(0.05, 0.6) if short else client.chance.uniform(1.3, 2)
    await asyncio.sleep(KEEP_ALIVE * share)
    await kept(client)


PLAYS: Final = {
    play.__name__: play
    for play in (
        *(kept, learning, new, hopping, pipelined, events, upload, websocket),
        *(reset, half_closed, slow_head, http10, idle),
    )
}
assert set(PLAYS) == set(CLIENTS)
