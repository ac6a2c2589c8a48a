"""
Become a program under a kernel that refuses one system call (seccomp(2)).

    python refusing.py CALL ERROR COMMAND...
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, IS_EQUAL, ANSWER = 0x20, 0x15, 0x06
ERRNO, ALLOW = 0x00050000, 0x7FFF0000
NUMBERS = {
    "pidfd_open": 434,
    "landlock_create_ruleset": 444,
    "memfd_create": {"x86_64": 319, "aarch64": 279}[platform.machine()],
}

call, error, *command = sys.argv[1:]
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (LOAD_NUMBER, 0, 0, 0),
        (IS_EQUAL, 0, 1, NUMBERS[call]),
        (ANSWER, 0, 0, ERRNO | getattr(errno, error)),
        (ANSWER, 0, 0, ALLOW),
    )
)
text = ctypes.create_string_buffer(program, len(program))
filter_ = ctypes.create_string_buffer(
    struct.pack("H6xP", len(program) // 8, ctypes.addressof(text))
)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, FILTER, filter_, 0, 0) == 0
os.execvp(command[0], command)
