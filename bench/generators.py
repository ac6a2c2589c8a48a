"""
Make load: wrk, and generator/load.c for what wrk cannot do.

Both give the same figures: requests, seconds, errors (anything but a complete 200, or
101), timeouts, and the median and 99th percentile of the time of a request in ms.
``--check-generator`` compares the two where both can do the same.
"""

import contextlib
import functools
import hashlib
import json
import os
import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "generator"
ADDRESS = "127.0.0.1"
WEBSOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class GeneratorFailed(Exception):
    """The generator itself could not do what was asked."""


def sessions(count, start=0):
    """
    Name *count* sessions, always the same ones; another *start* gives others.

    The names look random, for the proxies hash them. "sid=" and 20 characters are what
    @socket.io/sticky recognises.
    """
    numbers = range(start, start + count)
    return [f"sid={hashlib.sha256(b'%d' % i).hexdigest()[:20]}" for i in numbers]


def head(path, session, port, fields=()):
    """Write a request as it goes over the wire."""
    lines = [f"GET {path} HTTP/1.1", f"host: {ADDRESS}:{port}", f"x-session: {session}"]
    lines += [f"{name}: {value}" for name, value in dict(fields).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@functools.cache
def program():
    """Compile the generator; give its path."""
    # The directory lives as long as we do.
    program.directory = tempfile.TemporaryDirectory(prefix="maitred-bench-")
    path = f"{program.directory.name}/load"
    run(["cc", "-O2", "-o", path, HERE / "load.c"], 60)
    return path


@contextlib.contextmanager
def request_file(requests):
    with tempfile.NamedTemporaryFile() as file:
        for each in requests:
            file.write(struct.pack("=I", len(each)) + each)
        file.flush()
        yield file.name


def load(mode, port, connections, seconds, requests):
    """Run our own generator; see the head of load.c for what it can do."""
    with request_file(requests) as path:
        command = [program(), mode, ADDRESS, port, connections, seconds, path]
        return json.loads(run(command, seconds + 30))


@contextlib.contextmanager
def holding(port, connections, requests, *, status, at_a_time=100):
    """
    Hold *connections*, each after its request was answered with *status*.

    With status 0 no answer is awaited. Gives what was opened; afterwards that has
    "dropped" too: how many the server has closed meanwhile.
    """
    with request_file(requests) as path:
        command = [program(), "hold", ADDRESS, port, connections, at_a_time, path]
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HELD": str(status)},
        )
        with process:
            found = json.loads(process.stdout.readline() or b"{}")
            if found.get("held") != connections:
                process.kill()
                raise GeneratorFailed(f"of {connections} connections, {found}")
            try:
                yield found
            finally:
                process.stdin.close()
                found |= json.loads(process.stdout.readline() or b"{}")


def wrk(port, connections, seconds, path, names, fields=(), *, own=False):
    """
    Run wrk: every request is of a random session of *names*.

    With *own*, every connection has a session of its own. wrk can do that only with a
    thread for each connection.
    """
    # wrk counts whole seconds.
    whole = max(1, round(seconds))
    options = [f"--header={name}: {value}" for name, value in dict(fields).items()]
    threads = connections if own else 1
    command = ["wrk", f"--threads={threads}", f"--connections={connections}",
               f"--duration={whole}s", "--timeout=2s",
               f"--script={HERE / 'session.lua'}", *options,
               f"http://{ADDRESS}:{port}{path}", "--",
               "own" if own else "random", *names]  # fmt: skip
    said = run(command, whole + 30)
    return json.loads(said.partition("RESULT ")[2].partition("\n")[0])


def run(command, timeout):
    """Run a generator; give what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise GeneratorFailed(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout
