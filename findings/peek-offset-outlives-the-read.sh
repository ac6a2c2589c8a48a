#!/usr/bin/env bash
# SO_PEEK_OFF makes each recv(MSG_PEEK) go on where the last one ended. The offset belongs
# to the connection: a process that receives it by SCM_RIGHTS peeks from there too. And a
# plain recv of what was peeked moves the offset back only by what it has read; so two
# processes that each do the usual thing (peek to look, then read from the start) do not
# see the same first byte.
#
# Expected: a peek after a recv begins at the first byte that is unread.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages <<'PYTHON'
import os
import platform
import socket
import sys

SO_PEEK_OFF = 42
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
client.sendall(bytes(range(100)))
master, _ = listener.accept()
master.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
while len(master.recv(100, socket.MSG_PEEK)) == 0:
    pass
master.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
looked = [master.recv(10, socket.MSG_PEEK)[0] for _ in range(2)]
ours, theirs = socket.socketpair()
socket.send_fds(ours, [b"x"], [master.fileno()])
if os.fork() == 0:
    _, (fd,), _, _ = socket.recv_fds(theirs, 1, 1)
    worker = socket.socket(fileno=fd)
    read = worker.recv(5)
    peeked = worker.recv(10, socket.MSG_PEEK)
    theirs.sendall(bytes([read[0], peeked[0]]))
    os._exit(0)
os.wait()
first_read, first_peeked = ours.recv(2)
print(f"Linux {platform.release()}")
print(f"the first process peeks at bytes {looked}, the second reads from {first_read},")
print(f"5 bytes, and then peeks at byte {first_peeked}; the first unread byte is 5")
sys.exit((looked, first_read, first_peeked) != ([0, 10], 0, 20))
PYTHON
