"""
A chat room moves between processes while all who are in it are typing.

What is promised: no message is lost, doubled or reordered, for anybody; no client sees
anything of it. A room moves by `move`, by a reload, by `drain`, by `scale`, and under
several acceptors; those who cannot be frozen stay to their end.
"""

import asyncio
import contextlib
import functools
import subprocess

import pytest
from websockets.asyncio.client import connect

from driver import COMMAND, DEADLINE, wait_until
from maitred.control import ask

CLIENTS = 50
MOVES = 10
PAUSE = 0.1
"Seconds between two messages of a client: it is a room of people."

KINDS = {
    "handler": ("rooms:Chat", ("--kind", "handler", "--protocol", "rooms:ROOMS")),
    "protocol": (
        "rooms:ChatProtocol", ("--kind", "protocol", "--protocol", "rooms:ROOMS"),
    ),
    "websocket": ("rooms:Talk", ("--kind", "websocket", "--affinity", "path:1")),
}  # fmt: skip
KEYS = {"handler": "room=lobby", "protocol": "room=lobby", "websocket": "path:1=lobby"}


class Lines:
    """A client that speaks lines."""

    @classmethod
    async def join(cls, port, room, name):
        """Join *room*."""
        client = cls()
        client.reader, client.writer = await asyncio.open_connection("127.0.0.1", port)
        client.say(f"JOIN {room} {name}")
        assert (await client.hear()).startswith("HELLO ")
        return client

    def say(self, line):
        """Say *line*, in two pieces, so that some are cut by a move."""
        self.writer.write(line[:1].encode())
        asyncio.get_running_loop().call_later(
            0.002, self.writer.write, line[1:].encode() + b"\n"
        )

    async def hear(self):
        """Wait for a line; empty: the end."""
        return (await self.reader.readline()).decode().rstrip("\n")

    async def leave(self):
        """Leave."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Messages:
    """A client that speaks WebSocket."""

    @classmethod
    async def join(cls, port, room, name):
        """Join *room*."""
        client = cls()
        # It keeps all that comes: nobody listens while the others leave.
        url = f"ws://127.0.0.1:{port}/{room}/{name}"
        client.websocket = await connect(url, max_queue=None)
        assert (await client.hear()).startswith("HELLO ")
        return client

    def say(self, line):
        """Say *line*."""
        self.saying = asyncio.ensure_future(self.websocket.send(line))

    async def hear(self):
        """Wait for a message."""
        return await self.websocket.recv()

    async def leave(self):
        """Leave."""
        await self.websocket.close()


CLIENT = {"handler": Lines, "protocol": Lines, "websocket": Messages}


async def typing(server, kind, happen, count=CLIENTS):
    """
    Have *count* clients type in one room while *happen* is done, again and again.

    Returns what each of them has heard, and how often each has spoken.
    """
    make = functools.partial(CLIENT[kind].join, server.port, "lobby")
    clients = [await make(f"c{number}") for number in range(count)]
    # The first hear how the others come; from here on all hear the same.
    spoken = [0] * count
    done = asyncio.Event()

    async def type_(number):
        await asyncio.sleep(PAUSE * number / count)
        while not done.is_set():
            spoken[number] += 1
            clients[number].say(f"{number}.{spoken[number]}")
            await asyncio.sleep(PAUSE)

    async def listen(client):
        heard = []
        lasts = set()
        while len(lasts) < count:
            line = await client.hear()
            assert line, f"the end, after {len(heard)} lines"
            sender, _, text = line.partition(": ")
            if text == "last":
                lasts.add(sender)
            else:
                heard.append(text)
        return heard

    listening = [asyncio.ensure_future(listen(client)) for client in clients]
    typists = [asyncio.ensure_future(type_(number)) for number in range(count)]
    await happen()
    done.set()
    await asyncio.gather(*typists)
    await asyncio.sleep(0.1)
    for client in clients:
        client.say("last")
    async with asyncio.timeout(DEADLINE):
        heard = await asyncio.gather(*listening)
    for client in clients:
        await client.leave()
    return heard, spoken


def check(heard, spoken):
    """Everybody heard everything once, in one order, which is each sender's too."""
    assert all(each == heard[0] for each in heard), "two clients heard differently"
    by_sender = [[] for _ in spoken]
    for line in heard[0]:
        sender, _, number = line.partition(".")
        by_sender[int(sender)].append(int(number))
    assert by_sender == [[*range(1, count + 1)] for count in spoken]


def moves_of(server, kind):
    """Give what moves the room ten times, there and back."""

    async def happen():
        for number in range(MOVES):
            await asyncio.sleep(0.1)
            key = KEYS[kind]
            where = await asyncio.to_thread(ask, server.control, "whereis", key=key)
            slot = 1 - where["slot"]
            await asyncio.to_thread(ask, server.control, "move", key=key, slot=slot)
            wanted = (number + 1) * CLIENTS
            await asyncio.to_thread(
                wait_until,
                "all have moved",
                lambda wanted=wanted: (
                    server.status()["connections"]["returned"] >= wanted
                    and not server.total("in_flight")
                ),
            )

    return happen


@pytest.mark.parametrize("kind", KINDS)
def test_a_room_moves_ten_times_while_fifty_are_typing(serve, kind):
    """No message is lost, doubled or reordered."""
    target, options = KINDS[kind]
    server = serve(target, *options)
    heard, spoken = asyncio.run(typing(server, kind, moves_of(server, kind)))
    check(heard, spoken)
    counts = server.status()["connections"]
    assert counts["returned"] == CLIENTS * MOVES
    assert counts["lost"] == 0


def command(server, *words):
    """Give what has the command line do something."""

    async def happen():
        await asyncio.sleep(0.3)
        done = await asyncio.to_thread(
            subprocess.run,
            [COMMAND, *words, "--control", server.control],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done
        server.told = done.stdout
        await asyncio.sleep(0.3)

    return happen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [("reload",), ("drain",), ("scale", "1")], ids=str)
def test_a_room_survives_what_an_operator_does(serve, kind, words):
    """Reload, drain and scale: the same promise."""
    target, options = KINDS[kind]
    server = serve(target, *options)

    async def happen():
        where = await asyncio.to_thread(ask, server.control, "whereis", key=KEYS[kind])
        # To scale down has it move only if it is in the slot that goes.
        if words[0] == "scale" and where["slot"] == 0:
            await asyncio.to_thread(ask, server.control, "move", key=KEYS[kind], slot=1)
        also = [str(where["slot"])] if words[0] == "drain" else []
        await command(server, *words, *also)()

    heard, spoken = asyncio.run(typing(server, kind, happen, count=12))
    check(heard, spoken)
    assert server.status()["connections"]["lost"] == 0
    assert server.status()["connections"]["returned"] >= 12
    assert "0 lost" in server.told or "0 connections lost" in server.told
    server.descriptors_at_start = None  # there are fewer workers, or others


def test_a_room_moves_under_several_acceptors(serve):
    """What was frozen passes from one acceptor to another too."""
    target, options = KINDS["handler"]
    server = serve(target, *options, "--acceptors", "2")
    heard, spoken = asyncio.run(typing(server, "handler", moves_of(server, "handler")))
    check(heard, spoken)


def test_a_room_survives_an_upgrade_and_moves_after_it(serve):
    """The master becomes another program, and knows still who can be moved."""
    target, options = KINDS["handler"]
    server = serve(target, *options)

    async def happen():
        await asyncio.to_thread(server.upgrade)
        await moves_of(server, "handler")()

    heard, spoken = asyncio.run(typing(server, "handler", happen))
    check(heard, spoken)


def test_state_travels(serve):
    """What the application counted in one process, it knows in the next."""
    target, options = KINDS["handler"]
    server = serve(target, *options)

    async def main():
        client = await Lines.join(server.port, "lobby", "ann")
        for number in range(3):
            client.say(f"n{number}")
            assert await client.hear() == f"ann: n{number}"
        client.say("WHERE")
        before = await client.hear()
        server.reload()
        client.say("SAID")
        assert await client.hear() == "SAID 3"
        client.say("WHERE")
        after = await client.hear()
        assert before != after
        await client.leave()

    asyncio.run(main())
    server.descriptors_at_start = None


def test_a_handler_that_waits_for_something_else_stays(serve, tmp_path):
    """It cannot stand still, and goes on where it is."""
    _, options = KINDS["handler"]
    let_go = tmp_path / "let-go"
    server = serve("rooms:Busy", *options, env={"LET_GO": str(let_go)})
    server.expect_log("stay where they are: 1 of its connections did not stand still")

    async def main():
        client = await Lines.join(server.port, "lobby", "ann")
        where = await asyncio.to_thread(
            ask, server.control, "whereis", key="room=lobby"
        )
        slot = 1 - where["slot"]
        await asyncio.to_thread(
            ask, server.control, "move", key="room=lobby", slot=slot
        )
        await asyncio.to_thread(server.wait_for_log, "did not stand still")
        let_go.touch()
        client.say("let go")
        assert await client.hear() == "ann: let go"
        await client.leave()

    asyncio.run(main())


def test_a_function_has_no_state_to_move(serve):
    """Without freeze and thaw, a reload leaves a connection where it is, to its end."""
    server = serve("kinds:handler", "--kind", "handler", "--protocol", "kinds:LINES")

    async def main():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"k one\n")
        pid = (await reader.readline()).split()[0]
        await asyncio.to_thread(server.reload)
        writer.write(b"k two\n")
        assert (await reader.readline()).split() == [pid, b"two"]
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())
    server.descriptors_at_start = None


def test_state_that_is_too_large_stays(serve):
    """More than travels in a packet: the connection goes on where it is."""
    server = serve("rooms:Heavy", "--kind", "handler", "--protocol", "rooms:ROOMS")
    server.expect_log("stay where they are: the state of a connection is larger")

    async def main():
        client = await Lines.join(server.port, "lobby", "ann")
        where = await asyncio.to_thread(
            ask, server.control, "whereis", key="room=lobby"
        )
        await asyncio.to_thread(
            ask, server.control, "move", key="room=lobby", slot=1 - where["slot"]
        )
        await asyncio.to_thread(server.wait_for_log, "larger than")
        client.say("hello")
        assert await client.hear() == "ann: hello"
        await client.leave()

    asyncio.run(main())
