"""Servers for integration tests; each is checked for leftovers after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driver import Maitred, Uvicorn, check_all


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Maitred]]:
    """Start ``maitred serve``, with the arguments of ``driver.Maitred``."""
    started: list[Maitred] = []

    def start(
        target: str = "probe:app", *options: str, ready: bool = True, **details: Any
    ) -> Maitred:
        directory = tmp_path / f"server-{len(started)}"
        directory.mkdir()
        server = Maitred(target, *options, tmp_path=directory, **details)
        started.append(server)
        return server.ready() if ready else server

    yield start
    check_all(started)


@pytest.fixture(scope="module")
def servers_of_module(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Maitred]]:
    """Start a server, or give the one that was started with the same arguments."""
    started: dict[str, Maitred] = {}

    def start(*arguments: Any, **details: Any) -> Maitred:
        name = repr((arguments, details))
        if name not in started:
            directory = tmp_path_factory.mktemp("server")
            started[name] = Maitred(*arguments, tmp_path=directory, **details)
            started[name].ready()
        return started[name]

    yield start
    check_all(list(started.values()))


@pytest.fixture
def share(
    servers_of_module: Callable[..., Maitred],
) -> Iterator[Callable[..., Maitred]]:
    """As ``serve``, one for all tests of a module: they leave it as it was."""
    used: list[Maitred] = []

    def start(
        target: str = "probe:app", *options: str, workers: int = 2, **details: Any
    ) -> Maitred:
        used.append(servers_of_module(target, *options, workers=workers, **details))
        return used[-1]

    yield start
    for server in used:
        server.check_at_rest()


@pytest.fixture
def serve_plain(tmp_path: Path) -> Iterator[Callable[..., Uvicorn]]:
    """Start plain ``uvicorn --workers``, ready to serve."""
    started: list[Uvicorn] = []

    def start(target: str, *options: str, **details: Any) -> Uvicorn:
        started.append(Uvicorn(target, *options, tmp_path=tmp_path, **details))
        return started[-1].ready()

    yield start
    for server in started:
        server.kill_all()
