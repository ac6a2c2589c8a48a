"""A worker's ways to its acceptors, with real channels."""

import asyncio
import contextlib

from maitred.wire import Channel
from maitred.wire.messages import FROM_MASTER, FROM_WORKER, Link
from maitred.worker.links import Links


def pair():
    """Make a channel: an acceptor's end and the worker's."""
    return Channel.pair(sends=FROM_MASTER, receives=FROM_WORKER)


def nothing(*_arguments):
    """Do nothing."""


def test_acceptor_that_was_just_replaced_is_not_heard():
    """The master says so first, and then there is no way to the old one any more."""
    lost = []

    async def test():
        with contextlib.ExitStack() as stack:
            master, ours = map(stack.enter_context, pair())
            links = Links(
                ours,
                heed=lambda _link, messages: [links.add(said) for said in messages],
                on_master_gone=nothing,
                on_lost=lost.append,
                make_room=nothing,
            )
            links.open(asyncio.get_running_loop())
            for _ in range(2):
                theirs, given = map(stack.enter_context, pair())
                master.send_nowait(Link(given, 1, 2, b"key"))
                before = links._links.get(1)
                if before is None:
                    links._on_readable(links.master)
                    stack.callback(theirs.close)
            # Its end is readable, and so is the master's channel.
            links._on_readable(before)
            assert lost == [1]
            assert links._links[1] is not before
            for link in links:
                link.loop.remove_reader(link.channel.fileno())
                link.channel.close()

    asyncio.run(test())
