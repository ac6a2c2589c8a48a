"""What only ``maitred top`` needs is loaded by nobody else."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["maitred.cli.main", "maitred.worker.__main__"])
def test_terminal_libraries_are_not_loaded(module):
    """They take time and memory, in every master and worker."""
    code = (
        f"import sys, {module};"
        "print({'rich', 'textual', 'prometheus_client'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
