"""
A worker that attaches, in Python, and behaves as it is told: PATH NAME BEHAVIOUR.

    hold      is ready, and takes nothing it is handed
    mute      never says READY
    desert    ends when it has its slot
    garbage   says what is no packet
    flood     gives back what it was never handed, with descriptors of its own
    twice     attaches, and attaches again
    leave     closes its channel, and lives on
    closed    lets no descriptors in, from the beginning (SO_PASSRIGHTS)
    closes    lets no descriptors in, when it has its slot
    shrink    cuts its scoreboard short, before it is ready
"""

import os
import socket
import sys
import time

from maitred import Channel, Descriptor
from maitred.wire.messages import (
    FROM_MASTER,
    FROM_WORKER,
    Attach,
    Attached,
    Ready,
    Return,
)

SO_PASSRIGHTS = 83
path, name, behaviour = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(path)
raw = socket.socket(fileno=os.dup(sock.fileno()))
if behaviour == "closed":
    raw.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
channel = Channel(sock, sends=FROM_WORKER, receives=FROM_MASTER)
said = Attach(name.encode(), os.urandom(16), 3)
channel.send(said)
(answer,) = channel.receive(60)
print(answer, flush=True)
if not isinstance(answer, Attached):
    sys.exit(3)
if behaviour == "shrink":
    os.ftruncate(answer.board.fileno(), 0)
answer.board.close()
if behaviour == "desert":
    sys.exit(0)
if behaviour == "mute":
    time.sleep(600)
if behaviour == "closes":
    raw.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
channel.send(Ready(os.getpid()))
if behaviour == "garbage":
    raw.sendall(b"\xff" * 100)
elif behaviour == "twice":
    channel.send(Attach(b"again", os.urandom(16), 3))
elif behaviour == "flood":
    null = [Descriptor(os.open("/dev/null", os.O_RDONLY)) for _ in range(64)]
    channel.send(*[Return(d, 7, b"", 0, b"", 0, b"", 0, b"") for d in null])
elif behaviour == "leave":
    raw.close()
    channel.close()
time.sleep(600)
