"""
PostgreSQL with psql and asyncpg, before a real server: the database picks the worker.

Each worker relays to the one server, and adds who came to it to a file. A cancel goes
to the worker that passed the key on, and works.
"""

import asyncio
import glob
import os
import shutil
import socket
import subprocess

import asyncpg
import pytest

from driver import DEADLINE, wait_until
from protocols import SSL, pg_cancel, pg_startup

BIN = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), "")
needs_server = pytest.mark.skipif(
    not (BIN and shutil.which("psql")) or os.geteuid() != 0,
    reason="needs PostgreSQL and psql, as Debian has them, and root to become it",
)
DATABASES = [f"shop{number}" for number in range(6)]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Run a PostgreSQL of our own; give its port."""
    directory = tmp_path_factory.mktemp("pg")
    for each in (directory, *directory.parents[:-2]):
        os.chmod(each, 0o755)
    data = directory / "data"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def as_postgres(*command, **details):
        return subprocess.run(
            command, user="postgres", group="postgres", extra_groups=[], cwd="/",
            check=True, capture_output=True, text=True, timeout=DEADLINE, **details,
        )  # fmt: skip

    as_postgres(
        f"{BIN}/initdb", "-D", data, "-A", "trust", "-U", "ann", "-N",
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    server = subprocess.Popen(
        [f"{BIN}/postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1",
         "-k", "", "-c", "fsync=off"],
        user="postgres", group="postgres", extra_groups=[], cwd="/",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def psql(statement):
            return subprocess.run(
                ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "ann", "-qc",
                 statement, "postgres"],
                check=False, capture_output=True, timeout=DEADLINE,
            ).returncode  # fmt: skip

        wait_until("the database serves", lambda: psql("select 1") == 0)
        for name in DATABASES:
            assert psql(f"create database {name}") == 0
        yield port
    finally:
        server.terminate()
        server.wait(DEADLINE)


@pytest.fixture
def service(serve, database, tmp_path):
    """Serve PostgreSQL before it; give the server and what says who came where."""
    seen = tmp_path / "seen"
    server = serve(
        "brokers:postgres", "--kind", "handler", "--protocol", "postgres",
        "--policy", "round-robin",
        env={"UPSTREAM": f"127.0.0.1:{database}", "LINES": str(seen)},
    )  # fmt: skip
    return server, lambda: [tuple(x.split()) for x in seen.read_text().splitlines()]


def psql(server, name, statement, **variables):
    """Have psql run *statement*."""
    return subprocess.run(
        ["psql", "-h", "127.0.0.1", "-p", str(server.port), "-U", "ann",
         "-Atqc", statement, name],
        check=False, capture_output=True, text=True, timeout=DEADLINE,
        env={**os.environ, **variables},
    )  # fmt: skip


@needs_server
def test_a_database_has_one_worker(service):
    """psql, with its SSLRequest and without: each database in one worker."""
    server, seen = service
    for name in DATABASES * 2:
        for mode in ("prefer", "disable"):
            done = psql(server, name, "select current_database()", PGSSLMODE=mode)
            assert (done.stdout, done.stderr) == (f"{name}\n", "")
    came = set(seen())
    assert {key for _, key in came} == {f"database={name}" for name in DATABASES}
    assert len(came) == len(DATABASES)
    assert {slot for slot, _ in came} == {"0", "1"}


@needs_server
def test_who_insists_on_encryption_is_told_that_there_is_none(service):
    """sslmode=require: psql's own sentence."""
    server, _ = service
    done = psql(server, "shop0", "select 1", PGSSLMODE="require")
    assert "server does not support SSL" in done.stderr


@needs_server
def test_asyncpg_works_and_a_cancel_finds_its_session(service):
    """A query is cancelled by a connection of its own, which goes to its worker."""
    server, seen = service

    async def main():
        connections = [
            await asyncpg.connect(
                host="127.0.0.1", port=server.port, user="ann", database=name,
            )
            for name in DATABASES
        ]  # fmt: skip
        for connection, name in zip(connections, DATABASES, strict=True):
            rows = await connection.fetch(
                "select n, current_database() as d from generate_series(1, 1000) n"
            )
            assert [row["n"] for row in rows] == [*range(1, 1001)]
            assert {row["d"] for row in rows} == {name}
        for connection in connections:
            with pytest.raises(asyncio.TimeoutError):
                # asyncpg sends a CancelRequest when the time is over, and waits for
                # the server to say that the query is.
                await connection.fetch("select pg_sleep(600)", timeout=0.3)
            assert await connection.fetchval("select 7") == 7
        for connection in connections:
            await connection.close()

    asyncio.run(main())
    where = {key: slot for slot, key in seen() if key.startswith("database=")}
    cancels = [(slot, key) for slot, key in seen() if key.startswith("cancel=")]
    assert len(cancels) == len(DATABASES)
    assert sorted(slot for slot, _ in cancels) == sorted(where.values())


@needs_server
def test_psql_cancels(service):
    """SIGINT in psql: the query ends with the server's own sentence."""
    server, _ = service
    process = subprocess.Popen(
        ["psql", "-h", "127.0.0.1", "-p", str(server.port), "-U", "ann", "-Atqc",
         "select pg_sleep(600)", "shop1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def sleeps():
        query = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
        return psql(server, "shop1", query).stdout == "1\n"

    wait_until("it sleeps", sleeps)
    process.send_signal(2)
    _, error = process.communicate(timeout=DEADLINE)
    assert "canceling statement due to user request" in error


@pytest.fixture
def small(serve):
    """Serve a worker that speaks enough of the protocol by itself."""
    return serve(
        "small_pg:handler", "--kind", "handler", "--protocol", "postgres",
        "--policy", "round-robin",
    )  # fmt: skip


needs_psql = pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")


@needs_psql
def test_a_database_lives_in_one_process(small):
    """psql, anew each time: a counter in memory counts on."""
    for number in range(1, 6):
        pids = {}
        for name in DATABASES:
            done = psql(small, name, "count")
            assert done.stderr == ""
            pid, count = done.stdout.strip().split("|")
            assert int(count) == number
            pids[name] = int(pid)
        assert set(pids.values()) == set(small.worker_pids())


def test_asyncpg_cancels_in_a_worker_that_made_the_key(small):
    """Its statement times out, and the cancel reaches the process that sleeps."""

    async def main():
        for name in DATABASES:
            connection = await asyncpg.connect(
                host="127.0.0.1",
                port=small.port,
                user="ann",
                database=name,
            )
            assert await connection.execute("count") == "SELECT 1"
            with pytest.raises(asyncio.TimeoutError):
                await connection.execute("sleep", timeout=0.2)
            assert await connection.execute("count") == "SELECT 1"
            await connection.close()

    asyncio.run(main())
    assert small.status()["connections"]["claims"] >= len(DATABASES)


ONLY_3 = "Only protocol 3 of PostgreSQL is spoken here."


def error_of(answer):
    """Return the SQLSTATE of an ErrorResponse; the text of one to a client of 2.0."""
    if answer.startswith(b"EFATAL:  "):
        return answer.removeprefix(b"EFATAL:  ").decode()
    assert answer[:1] == b"E", answer
    assert len(answer) == 1 + int.from_bytes(answer[1:5], "big")
    fields = {part[:1]: part[1:] for part in answer[5:].split(b"\0") if part}
    assert fields[b"S"] == fields[b"V"] == b"FATAL"
    assert fields[b"M"]
    return fields[b"C"].decode()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (pg_startup(0x40000, user="ann"), "0A000"),
        (pg_startup(0x20000, user="ann"), f"{ONLY_3}\n\0"),
        (pg_startup(database="x"), "08P01"),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
        (SSL + pg_startup(0x40000, user="ann"), "0A000"),
    ],
    ids=["version 4", "version 2", "no user", "http", "after an SSLRequest"],
)
def test_what_is_wrong_is_refused_in_its_own_words(serve, said, state):
    """An ErrorResponse with the SQLSTATE that the server itself would give."""
    server = serve("kinds:handler", "--kind", "handler", "--protocol", "postgres")
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(said)
        answer = file.read()
    assert error_of(answer.removeprefix(b"N")) == state


def test_a_cancel_that_nobody_knows_is_not_answered(serve):
    """As by the server itself; the worker that gets it has nothing to do with it."""
    server = serve("kinds:greeter", "--kind", "handler", "--protocol", "postgres")
    with server.connect() as sock:
        sock.sendall(pg_cancel()[:10])
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    assert server.status()["connections"]["refused"] == {"head_cut_short": 1}


def test_who_is_silent_after_the_answer_is_told_so(serve):
    """The deadline is one for the whole dialogue."""
    server = serve(
        "kinds:handler", "--kind", "handler", "--protocol", "postgres",
        "--head-timeout", "0.5",
    )  # fmt: skip
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(SSL + pg_startup(user="ann")[:9])
        assert error_of(file.read().removeprefix(b"N")) == "08006"
