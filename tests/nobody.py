"""
Servers that are started as root and become user nobody.

Invariant: that user may run the Python and read the packages that are used for it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sysconfig
from pathlib import Path

import pytest

import maitred

NOBODY = pwd.getpwnam("nobody")
# A Python that everybody may run, and the packages of the one that runs this.
SYSTEM = ("/usr/bin/python3", "-P", "-m", "maitred")
PACKAGES = {
    "PYTHONPATH": ":".join(
        [str(Path(maitred.__file__).parents[1]), sysconfig.get_path("purelib")]
    )
}


def nobody_can_run_it():
    """Return whether there is such a Python, and this is root, who can be anybody."""
    if os.geteuid() != 0 or not Path(SYSTEM[0]).exists():
        return False
    command = [*SYSTEM, "--version"]
    tried = subprocess.run(
        command, user="nobody", env=PACKAGES, capture_output=True, check=False
    )
    return tried.returncode == 0


needs_nobody = pytest.mark.skipif(
    not nobody_can_run_it(),
    reason="needs root, and a Python and packages that everybody may read",
)


def leave(server):
    """Stop *server*, and remove its socket: nobody may not, in root's directory."""
    assert server.stop() == 0
    Path(server.control).unlink()
