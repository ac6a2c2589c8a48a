"""
The files of the page, as they lie beside this module.

Nothing of them is made: what stands in ``page`` is what a browser gets.

Invariant: the page takes nothing from anywhere else, and runs nothing that is not in
these files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

DIRECTORY: Final = Path(__file__).parent / "page"
INDEX: Final = "index.html"
KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
"The content type of what ends so."
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"What a browser may do with the page (CSP Level 3)."


def files() -> dict[str, tuple[str, bytes]]:
    """Return content type and bytes for each path; ``/`` is INDEX."""
    return {
        "/" if path.name == INDEX else f"/{path.name}": (
            KINDS[path.suffix],
            path.read_bytes(),
        )
        for path in sorted(DIRECTORY.iterdir())
    }
