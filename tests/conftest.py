"""What holds for all tests."""

from hypothesis import settings

# No test has a time limit that a slow machine would fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
