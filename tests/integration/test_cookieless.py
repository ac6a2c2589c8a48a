"""Clients that keep no cookies, where a cookie of ours says who they are."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx
import pytest

VISITS = 12


def processes_without_cookies(url: str, headers: dict[str, str]) -> set[int]:
    """Visit on new connections and bring no cookie back; return who answered."""
    found = set()
    for _ in range(VISITS):
        said = httpx.get(url, headers=headers, trust_env=False).raise_for_status()
        found.add(said.json()["pid"])
    return found


@pytest.mark.parametrize("preset", ["sticky", "gradio"])
def test_address_places_whoever_brings_no_cookie(serve, preset):
    """A second affinity counts where the first finds nothing."""
    words = ("--affinity", preset, "--affinity", "ip", "--no-access-log")
    server = serve("baskets:app", *words, workers=4)
    assert len(processes_without_cookies(server.url, {})) == 1


def test_header_of_ones_own_goes_before_the_cookie(serve):
    """Many clients behind one address, told apart by what each says."""
    words = ("--affinity", "header:x-session", "--affinity", "gradio")
    server = serve("baskets:app", *words, "--no-access-log", workers=4)
    found = [
        processes_without_cookies(server.url, {"x-session": f"user-{number}"})
        for number in range(8)
    ]
    assert all(len(processes) == 1 for processes in found)
    assert len(set.union(*found)) > 1


def test_aiohttp_keeps_cookies_of_an_address_only_if_told(serve):
    """What the how-to says of aiohttp, and the cure it names."""

    async def processes(**jar) -> set[int]:
        """Visit with one session, each time on a new connection."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.CookieJar(**jar),
        ) as http:
            found = set()
            for _ in range(VISITS):
                async with http.get(server.url) as answer:
                    found.add((await answer.json(content_type=None))["pid"])
            return found

    words = ("--affinity", "sticky", "--policy", "round-robin", "--no-access-log")
    server = serve("baskets:app", *words, workers=4)
    assert len(asyncio.run(processes(unsafe=True))) == 1
    assert len(asyncio.run(processes())) == 4
