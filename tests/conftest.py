"""What holds for all tests."""

import os
import shutil
import tempfile

from hypothesis import settings

# No test looks for services where those of this machine are, nor makes one there; it
# has a short name, because the path of a socket has at most 107 bytes.
RUNTIME = tempfile.mkdtemp(prefix="maitred-tests-")
os.environ["MAITRED_RUNTIME_DIR"] = RUNTIME

# No test has a time limit that a slow machine would fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_unconfigure() -> None:
    """Remove what only these tests have looked at."""
    shutil.rmtree(RUNTIME)
