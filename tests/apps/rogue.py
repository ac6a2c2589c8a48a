"""
A worker that serves, except for the first one in slot 0, which breaks the protocol.

``rogue.py FLAG SIN``: FLAG is a file that says that the sin was committed already.
"""

import os
import select
import socket
import struct
import sys
from pathlib import Path

from maitred import Channel, ChannelClosed
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Closed,
    Drain,
    Drained,
    Handoff,
    Quit,
    Ready,
    Return,
    Taken,
)

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


def send_directory(sock, *, times=1):
    """Send a well-formed RETURN whose descriptor is a directory, *times* over."""
    channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
    folder = socket.socket(fileno=os.dup(sock.fileno()))
    os.dup2(os.open("/", os.O_RDONLY), folder.fileno())
    channel.send(*[Return(folder, 1, b"", 0, b"", 0, b"", 0, b"")] * times, timeout=10)


def send_descriptors_with_taken(sock):
    """Hide 200 descriptors behind a message that carries none."""
    packet = struct.pack("!BBHHHIQ", 2, 3, 0, 1, 0, 8, 7)
    fds = struct.pack("200i", *[sock.fileno()] * 200)
    sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


SINS = {
    "garbage": lambda sock: sock.send(b"\xff" * 100),
    "version": lambda sock: sock.send(
        struct.pack("!BBHHHI", 9, 2, 0, 1, 0, 4) + b"...."
    ),
    "before_ready": lambda sock: sock.send(
        struct.pack("!BBHHHIQ", 2, 3, 0, 1, 0, 8, 7)
    ),
    "unknown_id": lambda sock: sock.send(struct.pack("!BBHHHIQ", 2, 3, 0, 1, 0, 8, 7)),
    "masters_words": lambda sock: sock.send(struct.pack("!BBHHHI", 2, 9, 0, 1, 0, 0)),
    "oversize": lambda sock: sock.send(bytes(140_000)),
    "directory": send_directory,
    "flood": lambda sock: send_directory(sock, times=250),
    "stowaways": send_descriptors_with_taken,
}
"What a worker can do wrong, given its end of the channel."

SAYS_READY_FIRST = {"unknown_id", "directory", "flood", "stowaways"}


def sin(sock, name):
    """Commit sin *name*, then wait for the end."""
    if name in SAYS_READY_FIRST:
        sock.send(struct.pack("!BBHHHIIB", 2, 2, 0, 1, 0, 5, os.getpid(), 0))
    SINS[name](sock)
    while True:
        select.select([], [], [])


def serve(channel):
    """Answer every connection with one response, until told to leave."""
    channel.send(Ready(os.getpid()))
    while True:
        for message in channel.receive():
            match message:
                case Handoff():
                    channel.send(Taken(message.id))
                    with socket.socket(fileno=message.connection.detach()) as client:
                        client.settimeout(30)
                        client.recv(65536)
                        client.sendall(ANSWER)
                    channel.send(Closed(message.id))
                case Drain() | Quit():
                    channel.send(Drained(0))
                    return


def main():
    """Run one worker."""
    flag, name = Path(sys.argv[1]), sys.argv[2]
    sock = socket.socket(fileno=int(os.environ["MAITRED_CHANNEL"]))
    if os.environ["MAITRED_SLOT"] == "0" and not flag.exists():
        flag.touch()
        sin(sock, name)
    channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
    try:
        serve(channel)
    except ChannelClosed:
        return


if __name__ == "__main__":
    main()
