"""
A promise to the kernel that nothing started from here on gains rights (prctl(2)).

Invariant: it is inherited, survives exec and cannot be taken back.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

PR_SET_NO_NEW_PRIVS: Final = 38


def gain_no_privileges() -> None:
    """Set no_new_privs: what this process starts gains no rights from now on."""
    with contextlib.suppress(OSError, AttributeError):  # no such library, or not Linux
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
