"""
Your own master and two workers: python examples/channel_in_15_lines.py PORT

The master accepts and hands each connection to the next worker, which answers it.
"""

import os
import socket
import sys
from itertools import cycle
from typing import NamedTuple

from maitred import Channel, ChannelClosed, Passed


class Connection(NamedTuple):
    client: Passed


def work(channel):
    while True:
        try:
            [message] = channel.receive()
        except ChannelClosed:
            sys.exit()
        with socket.socket(fileno=message.client.detach()) as client:
            client.recv(65536)
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\nworker %d\n" % os.getpid())


channels = []
for _ in range(2):
    ours, theirs = Channel.pair(sends={1: Connection}, receives={})
    channels.append(ours)
    if os.fork() == 0:
        for channel in channels:
            channel.close()  # ours now are the master's: a copy would hide its end
        work(theirs)
    theirs.close()

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    print("listening on port", listener.getsockname()[1], flush=True)
    for channel in cycle(channels):
        client, _ = listener.accept()
        with client:  # the worker has its own copy
            channel.send(Connection(client))
