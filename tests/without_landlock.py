"""
Become a program under a kernel without Landlock: that system call does not exist.

    python without_landlock.py COMMAND...
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, IS_EQUAL, ANSWER = 0x20, 0x15, 0x06
ERRNO, ALLOW, ENOSYS = 0x00050000, 0x7FFF0000, 38
CREATE_RULESET = 444

program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (LOAD_NUMBER, 0, 0, 0),
        (IS_EQUAL, 0, 1, CREATE_RULESET),
        (ANSWER, 0, 0, ERRNO | ENOSYS),
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
os.execvp(sys.argv[1], sys.argv[1:])
