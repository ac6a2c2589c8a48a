#!/usr/bin/env bash
# A process that has all the descriptors it may have is told EMFILE by accept4(2), although
# nobody waits to be accepted: the kernel reserves the descriptor before it looks at the
# backlog. A server that gives up a descriptor for each EMFILE gives up one too many each
# time, and one that counts EMFILE counts clients that were never there.
#
# Expected: EAGAIN from a listener that does not block and has an empty backlog.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages <<'PYTHON'
import errno
import os
import platform
import resource
import socket
import sys


def said(listener):
    """Return what accept says, as the name of its error."""
    try:
        listener.accept()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "a connection"


listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)
with_room = said(listener)
lowest = os.dup(0)  # the next number that is free
os.close(lowest)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
at_the_limit = said(listener)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(f"Linux {platform.release()}, an empty backlog")
print(f"accept with room for descriptors: {with_room}; at the limit: {at_the_limit}")
sys.exit((with_room, at_the_limit) != ("EAGAIN", "EMFILE"))
PYTHON
