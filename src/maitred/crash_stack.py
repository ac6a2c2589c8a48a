"""
Where a process leaves the stacks of its threads when it crashes or is aborted.

faulthandler writes them, on an alternative stack of some 12 KiB, so that it can after
an overflow too. Python's handlers of other signals run on the same one, and each kind
that comes while another is handled takes 3.4 KiB there with AVX-512, 11 KiB with AMX:
three or four signals at once end the process by SIGSEGV (seen with CPython 3.11.7). So
it is given a stack that has room for every signal there is.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
from typing import Final

VARIABLE: Final = "MAITRED_STACK"
"In the environment: the descriptor of the file that the master reads."
SIZE: Final = 1024 * 1024
"Bytes of the alternative stack; what is not used takes no memory."


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (
        ("ss_sp", ctypes.c_void_p),
        ("ss_flags", ctypes.c_int),
        ("ss_size", ctypes.c_size_t),
    )


# Kept as long as the process lives, because the kernel writes there.
_memory: list[mmap.mmap] = []


def lend() -> None:
    """
    Enable faulthandler with the file that the master has lent, if it has lent one.

    It must be called once, in the main thread, because an alternative stack belongs to
    one thread.

    Raises:
        OSError: The kernel does not take the alternative stack.
    """
    lent = os.environ.pop(VARIABLE, "")
    if not lent:
        return
    os.set_inheritable(int(lent), False)
    faulthandler.enable(file=int(lent))
    # Not shared, because a forked child handles its signals at the same address.
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    _memory.append(memory)
    place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    stack = SignalStack(place, 0, SIZE)
    if ctypes.CDLL(None, use_errno=True).sigaltstack(ctypes.byref(stack), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "sigaltstack")
