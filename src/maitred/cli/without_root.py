"""
What is needed again when root was given up: tried at the start, and never later.

Invariant: a master that gets past this can start workers, reload, and be asked by its
admin process; otherwise one sentence says what its user may not, and what to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from maitred import errors
from maitred.config import Settings
from maitred.errors import SystemRefused, UsageError


def try_access(settings: Settings, read: Callable[[], object]) -> None:
    """
    Check that this process, no longer root, may do what is to come.

    Args:
        settings: The settings that hold.
        read: Reads the settings as a reload does.

    Raises:
        SystemRefused: It may not.
        UsageError: The settings cannot be read again.
    """
    who = f"user {settings.user}" if settings.user else f"group {settings.group}"
    for what, path, mode, why in _needed(settings):
        if not os.access(path, mode):
            do = {os.X_OK: "run", os.R_OK: "read"}.get(mode, "reach")
            raise SystemRefused(f"{what} {path}: {who} may not {do} it, and {why}")
    try:
        read()
    except UsageError as exc:
        raise UsageError(f"{exc}: {who} has to, at a reload") from exc


def _needed(settings: Settings) -> Iterator[tuple[str, str, int, str]]:
    """Yield option, path, mode of access, the reason, and advice, for each file."""
    for path in (sys.executable, errors.__file__):
        mode = os.X_OK if path == sys.executable else os.R_OK
        why = "workers need it: install Python and maitred where everybody may"
        yield "--user with", path, mode, why
    why = "each worker has to, also after a reload: change its owner or its group"
    for option in ("certfile", "keyfile"):
        for path in getattr(settings, option):
            yield f"--{option}", path, os.R_OK, why
    if path := settings.sticky_key_file:
        why = "has to at a reload: change its owner"
        yield "--sticky-key-file", path, os.R_OK, why
    if settings.admin:
        why = "the admin process has to: open its directory (chmod 711), or leave out"
        yield "--control", settings.control, os.R_OK | os.W_OK, f"{why} --admin"
