"""Solara as an ASGI application."""

import os
from pathlib import Path

os.environ["SOLARA_APP"] = str(Path(__file__).with_name("page.py"))

from solara.server.starlette import app

__all__ = ["app"]
