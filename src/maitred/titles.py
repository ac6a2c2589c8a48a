"""
What `ps`, `top` and `pgrep -f` show of our processes.

    maitred: master app:app
    maitred: worker 2 gen 1
    maitred: acceptor 1 app:app
    maitred: keeper app:app

The name of the service, if it has one, stands after it: `maitred: worker 2 gen 1
(api)`.

Invariant: the environment stays readable in /proc/PID/environ, by which an operator or
a test knows a process again; a title that does not fit where the command line stood is
cut off instead.
"""

from __future__ import annotations

import os
from typing import Final

KEEP_ENVIRONMENT: Final = "SPT_NOENV"
"In the environment while setproctitle begins: it does not write over the rest of it."


def show(title: str, name: str = "") -> None:
    """
    Set the title that this process is shown with, until it ends or calls exec.

    Args:
        title: What the process is and serves.
        name: The name of the service; empty: it has none.
    """
    os.environ[KEEP_ENVIRONMENT] = "1"
    try:
        import setproctitle  # noqa: PLC0415 - looks at the environment when it is loaded

        of = f" ({name})" if name else ""
        setproctitle.setproctitle(f"maitred: {title}{of}")
    finally:
        del os.environ[KEEP_ENVIRONMENT]


def served(target: str) -> str:
    """
    Return what is served, for a title: *target*, or the program of a command.

    The arguments of a command are left out, because they may be secret.
    """
    return next(iter(target.split(maxsplit=1)), "attached workers")
