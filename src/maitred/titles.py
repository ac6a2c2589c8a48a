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
    Have our process shown as *title*, for as long as it lives or until exec.

    Args:
        title: What it is and does.
        name: What the service is called, if anything.
    """
    os.environ[KEEP_ENVIRONMENT] = "1"
    try:
        import setproctitle  # noqa: PLC0415 - looks at the environment when it is loaded

        of = f" ({name})" if name else ""
        setproctitle.setproctitle(f"maitred: {title}{of}")
    finally:
        del os.environ[KEEP_ENVIRONMENT]


def served(target: str) -> str:
    """Say what is served; of a command, whose arguments may be secret, the program."""
    return next(iter(target.split(maxsplit=1)), "attached workers")
