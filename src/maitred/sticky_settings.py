"""
What our own cookie is to be like, and which of that no browser would keep. Pure.

Invariant: a cookie that every browser drops is refused at the start, with a sentence
that says what to change.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from maitred.errors import UsageError

SAME_SITE: Final = ("lax", "strict", "none")
SECURE: Final = ("auto", "always", "never")
DOMAIN: Final = re.compile(r"(\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*)?")
PATH: Final = re.compile(r"/[!-:<-~]*")
STICKY: Final = "sticky:"


class StickySettings(Protocol):
    """The settings that say it (``Settings``)."""

    @property
    def affinity(self) -> tuple[str, ...]:
        """The values of ``--affinity``; ``sticky:NAME`` names the cookie."""

    @property
    def sticky_same_site(self) -> str:
        """With requests from which other sites the cookie is sent, one of SAME_SITE."""

    @property
    def sticky_secure(self) -> str:
        """Whether the cookie is sent over TLS only, one of SECURE."""

    @property
    def sticky_domain(self) -> str:
        """The domain whose hosts get the cookie; empty: the host that set it."""

    @property
    def sticky_path(self) -> str:
        """The path under which the cookie is sent."""

    @property
    def sticky_max_age(self) -> int:
        """Seconds for which the cookie is kept; 0: until the browser is closed."""


def check(settings: StickySettings) -> None:
    """
    Check that browsers keep the cookie that *settings* make.

    Raises:
        UsageError: A setting is malformed, or two do not go together.
    """
    if not DOMAIN.fullmatch(settings.sticky_domain):
        raise UsageError(
            f"--sticky-domain {settings.sticky_domain!r} is no domain, as in"
            " example.org"
        )
    if not PATH.fullmatch(settings.sticky_path):
        raise UsageError(
            f"--sticky-path {settings.sticky_path!r}: a path that begins with / is"
            " needed, without spaces and semicolons, as in /shop"
        )
    if settings.sticky_max_age < 0:
        raise UsageError(
            f"--sticky-max-age {settings.sticky_max_age}: a number of seconds is"
            " needed, or 0 for as long as the browser is open"
        )
    if settings.sticky_same_site == "none" and settings.sticky_secure == "never":
        raise UsageError(
            "--sticky-same-site none with --sticky-secure never: browsers drop a"
            " cookie for other sites that is not Secure; leave out one of the two"
        )
    for spec in settings.affinity:
        if spec.startswith(STICKY):
            _check_prefix(spec.removeprefix(STICKY), settings)


def _check_prefix(name: str, settings: StickySettings) -> None:
    """Check that the cookie is what a prefix of its *name*, as __Host-, promises."""
    host = name.lower().startswith("__host-")
    if not host and not name.lower().startswith("__secure-"):
        return
    if settings.sticky_secure != "always" and settings.sticky_same_site != "none":
        raise UsageError(
            f"--affinity sticky:{name}: browsers keep a cookie of that name only if it"
            " is Secure; give --sticky-secure always"
        )
    if host and (settings.sticky_domain or settings.sticky_path != "/"):
        raise UsageError(
            f"--affinity sticky:{name}: browsers keep a cookie of that name only for"
            " one host and all its paths; leave out --sticky-domain and --sticky-path"
        )
