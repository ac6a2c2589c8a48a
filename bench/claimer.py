"""
A worker that has many sessions: it claims them at its first connection.

    claimer.py COUNT DIRECTORY

Half of the names are of its own making, half are its clients'. The first worker of a
slot alone claims, and leaves a file in DIRECTORY; whoever follows it begins with none.
"""

import contextlib
import os
import socket
import sys
from pathlib import Path

from maitred import Channel, ChannelClosed
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Claim,
    Closed,
    Drain,
    Drained,
    Handoff,
    Quit,
    Ready,
    Taken,
)

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
BATCH = 500
"Claims in one packet."
TTL = 3600


def claim(channel: Channel, count: int) -> None:
    """Claim *count* names that no other worker has."""
    me = os.getpid()
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        names = [b"header:x-session=%d-%032d" % (me, number) for number in numbers]
        made = [Claim(TTL, number % 2, name) for number, name in enumerate(names)]
        channel.send(*made)


def is_first(directory: str) -> bool:
    """Return whether no worker of this slot has called this before."""
    mark = Path(directory, os.environ["MAITRED_SLOT"])
    with contextlib.suppress(FileExistsError):
        mark.touch(exist_ok=False)
        return True
    return False


def serve(channel: Channel, count: int) -> None:
    """Claim *count* names, then answer each connection once, until told to leave."""
    while True:
        for message in channel.receive():
            match message:
                case Handoff():
                    claim(channel, count)
                    count = 0
                    channel.send(Taken(message.id))
                    with socket.socket(fileno=message.connection.detach()) as client:
                        client.settimeout(30)
                        client.recv(65536)
                        client.sendall(ANSWER)
                    channel.send(Closed(message.id))
                case Drain() | Quit():
                    channel.send(Drained(0))
                    return


def main() -> None:
    """Run one worker."""
    sock = socket.socket(fileno=int(os.environ["MAITRED_CHANNEL"]))
    channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
    try:
        channel.send(Ready(os.getpid()))
        serve(channel, int(sys.argv[1]) if is_first(sys.argv[2]) else 0)
    except ChannelClosed:
        return


if __name__ == "__main__":
    main()
