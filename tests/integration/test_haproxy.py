"""
HAProxy, with what ``maitred haproxy`` prints, before two machines of two workers each.

The numbers are HAProxy's own: what it makes of an agent's answer, not what we meant.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter

import asyncpg
import paho.mqtt.client as mqtt
import pytest

from balanced import ADDRESSES, HAProxy
from driver import DEADLINE, wait_until
from maitred.control import ask as ask_master
from mosquitto import broker, free_port
from protocols import mqtt_connect
from raw_http import ask

pytestmark = pytest.mark.skipif(
    not shutil.which("haproxy"), reason="needs haproxy, as Debian has it"
)
needs_mosquitto = pytest.mark.skipif(
    not shutil.which("mosquitto"), reason="needs mosquitto, as Debian has it"
)
WHOLE = ("UP", 100)
HALF = ("UP", 50)


@pytest.fixture
def machines(serve, tmp_path):
    """Start two machines and their HAProxy; return both, with *words* for each."""
    started = []

    def start(target, *words, agent=True, serve_words=(), env=None, envs=None):
        port, agent_port = free_port(), free_port() if agent else 0
        servers = {
            name: serve(
                target, "--proxy-protocol", "required", *serve_words, *words,
                *(["--agent", f"{address}:{agent_port}"] if agent else []),
                bind=f"{address}:{port}", workers=2,
                env={**(env or {}), **(envs or {}).get(name, {})},
            )
            for name, address in ADDRESSES.items()
        }  # fmt: skip
        started.append(HAProxy(tmp_path, port, agent_port, *words))
        return servers, started[-1]

    yield start
    for each in started:
        each.close()


def where(servers, proxy, requests):
    """Ask so often through *proxy*; return how often each machine answered."""
    seen = Counter()
    pids = {pid: name for name, s in servers.items() for pid in s.worker_pids()}
    for _ in range(requests):
        reply = ask(proxy.port)
        assert reply.status == 200
        seen[pids[reply.json["pid"]]] += 1
    return seen


@pytest.mark.parametrize("affected", [("a",), ("a", "b")], ids=["one", "all"])
def test_a_drained_worker_takes_its_share_of_the_weight(machines, affected):
    """Half of it is half, and not nothing: all requests are answered."""
    servers, proxy = machines("probe:app", "--affinity", "cookie:s")
    proxy.wait_for(a=WHOLE, b=WHOLE)
    for name in affected:
        ask_master(servers[name].control, "drain", slot=0)
    proxy.wait_for(**{n: HALF if n in affected else WHOLE for n in ADDRESSES})
    assert set(where(servers, proxy, 40)) == set(ADDRESSES)


@pytest.mark.parametrize("affected", [("a",), ("a", "b")], ids=["one", "all"])
def test_a_hung_worker_takes_its_share_of_the_weight(machines, affected):
    """Likewise; whoever belongs to the other worker is served all the while."""
    servers, proxy = machines("probe:app", serve_words=["--hang-timeout", "600"])
    proxy.wait_for(a=WHOLE, b=WHOLE)
    stopped = [servers[name].kill_worker(0, signal.SIGSTOP) for name in affected]
    try:
        for name in affected:
            servers[name].expect_log("hangs|silent|heartbeat|heard of")
        proxy.wait_for(**{n: HALF if n in affected else WHOLE for n in ADDRESSES})
        assert set(where(servers, proxy, 40)) == set(ADDRESSES)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    proxy.wait_for(a=WHOLE, b=WHOLE)


def test_a_stopped_master_is_down(machines):
    """The kernel accepts for it; it says nothing to the check, and that counts."""
    servers, proxy = machines("probe:app")
    proxy.wait_for(a=WHOLE, b=WHOLE)
    servers["a"].tell(signal.SIGSTOP)
    try:
        proxy.wait_for(a=("DOWN", 100), b=WHOLE)
        assert {ask(proxy.port).json["pid"] for _ in range(10)} <= set(
            servers["b"].worker_pids()
        )
    finally:
        servers["a"].tell(signal.SIGCONT)
    proxy.wait_for(a=WHOLE, b=WHOLE)


def test_without_an_agent_the_kernel_is_asked(machines):
    """A machine whose listener is gone is down; there is no percentage."""
    servers, proxy = machines("probe:app", agent=False)
    proxy.wait_for(a=WHOLE, b=WHOLE)
    assert servers["a"].stop() == 0
    proxy.wait_for(a=("DOWN", 100), b=WHOLE)
    assert where({"b": servers["b"]}, proxy, 10) == {"b": 10}


def lines_of(paths):
    """Return the machine, slot and key of each connection that came."""
    return [
        (name, *line.split(" "))
        for name, path in paths.items()
        if path.exists()
        for line in path.read_text().splitlines()
    ]


@pytest.fixture
def mosquitto(tmp_path):
    """Run a broker; give its port."""
    with broker(tmp_path) as port:
        yield port


@pytest.fixture
def brokers(machines, mosquitto, tmp_path):
    """Start two machines that serve MQTT; return their HAProxy, and who came where."""
    paths = {name: tmp_path / f"seen-{name}" for name in ADDRESSES}

    def start(*words):
        _, proxy = machines(
            "brokers:relay", "--protocol", "mqtt", *words,
            serve_words=["--kind", "handler", "--policy", "round-robin"],
            env={"UPSTREAM": f"127.0.0.1:{mosquitto}"},
            envs={name: {"LINES": str(path)} for name, path in paths.items()},
        )  # fmt: skip
        proxy.wait_for(a=WHOLE, b=WHOLE)
        return proxy, lambda: lines_of(paths)

    return start


def mosquitto_pub(port, *words):
    """Publish something, which has to succeed."""
    done = subprocess.run(
        ["mosquitto_pub", "-p", str(port), "-t", "a", "-m", "b", "-q", "1", *words],
        check=False, capture_output=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


@needs_mosquitto
def test_an_mqtt_client_returns_to_its_machine_and_process(brokers):
    """By its identifier, in every version, and without one it is served too."""
    proxy, seen = brokers()
    for number in [*range(12)] * 3:
        version = ("mqttv31", "mqttv311", "mqttv5")[number % 3]
        mosquitto_pub(proxy.port, "-i", f"lamp-{number}", "-V", version)
    came = seen()
    assert len(came) == 36
    assert len(set(came)) == 12
    assert {name for name, _, _ in came} == set(ADDRESSES)
    assert {key for _, _, key in came} == {f"client=lamp-{n}" for n in range(12)}
    for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
        answered = threading.Event()
        client.on_connect = lambda *_, answered=answered: answered.set()
        client.connect("127.0.0.1", proxy.port)
        client.loop_start()
        assert answered.wait(DEADLINE)
        client.disconnect()
        client.loop_stop()
    assert [key for _, _, key in seen()].count("") == 2


@needs_mosquitto
def test_an_mqtt_user_returns_to_its_machine_and_process(brokers):
    """Where --affinity says so."""
    proxy, seen = brokers("--affinity", "user")
    for number in [*range(8)] * 3:
        mosquitto_pub(proxy.port, "-u", f"user-{number}", "-P", "x")
    came = seen()
    assert len(came) == 24
    assert len(set(came)) == 8
    assert {name for name, _, _ in came} == set(ADDRESSES)


@needs_mosquitto
@pytest.mark.parametrize("will", [b"x", b"x" * 200], ids=["short", "long"])
def test_a_bridge_returns_to_its_machine(brokers, will):
    """HAProxy's own reader does not know its level, whose top bit is set."""
    proxy, seen = brokers()
    names = [(b"MQTT", 0x84), (b"MQIsdp", 0x83)]
    for number in [*range(6)] * 2:
        name, level = names[number % 2]
        hello = mqtt_connect(
            b"bridge-%d" % number, name=name, level=level, will=(b"state", will)
        )
        with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as sock:
            # It need not come in one piece.
            sock.sendall(hello[:20])
            sock.sendall(hello[20:])
            assert sock.recv(4) == bytes([0x20, 2, 0, 0])
    came = seen()
    assert len(came) == 12
    assert len(set(came)) == 6
    assert {name for name, _, _ in came} == set(ADDRESSES)


@needs_mosquitto
def test_what_is_no_mqtt_is_refused_at_once(brokers):
    """By maitred, in the words of the protocol; HAProxy does not keep it waiting."""
    proxy, _ = brokers()
    for said, answer in (
        (mqtt_connect(level=9), bytes([0x20, 3, 0, 0x84, 0])),
        (mqtt_connect(b"", flags=0), bytes([0x20, 2, 0, 2])),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
    ):
        with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as sock:
            sock.sendall(said)
            with sock.makefile("rb") as file:
                assert file.read() == answer


@pytest.mark.parametrize("affinity", ["ip", "none"])
def test_a_cancel_of_postgresql_reaches_its_session(machines, tmp_path, affinity):
    """From one address to one machine, whatever is placed by there."""
    _, proxy = machines(
        "small_pg:handler", "--protocol", "postgres", "--affinity", affinity,
        serve_words=["--kind", "handler"],
    )  # fmt: skip
    proxy.wait_for(a=WHOLE, b=WHOLE)

    async def main():
        for _ in range(4):
            connection = await asyncpg.connect(
                host="127.0.0.1", port=proxy.port, user="ann", database="shop"
            )
            with pytest.raises(asyncio.TimeoutError):
                await connection.execute("sleep", timeout=0.2)
            assert await connection.execute("count") == "SELECT 1"
            await connection.close()

    asyncio.run(main())


@pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")
def test_psql_works_through_it(machines):
    """With its SSLRequest; each client's address has one process."""
    _, proxy = machines(
        "small_pg:handler", "--protocol", "postgres", "--affinity", "ip",
        serve_words=["--kind", "handler"],
    )  # fmt: skip
    proxy.wait_for(a=WHOLE, b=WHOLE)
    said = set()
    for number in range(1, 5):
        done = subprocess.run(
            ["psql", "-h", "127.0.0.1", "-p", str(proxy.port), "-U", "ann", "-Atqc",
             "count", "shop"],
            check=True, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        pid, count = done.stdout.strip().split("|")
        assert int(count) == number
        said.add(int(pid))
    assert len(said) == 1


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg, as Debian has it")
def test_rtmp_goes_by_address(machines, tmp_path):
    """What ffmpeg publishes arrives; the handshake hides its application."""
    published = tmp_path / "published"
    _, proxy = machines(
        "rtmp_server:handler", "--protocol", "rtmp", "--affinity", "ip",
        serve_words=["--kind", "handler"], env={"PUBLISHED": str(published)},
    )  # fmt: skip
    proxy.wait_for(a=WHOLE, b=WHOLE)
    for number in range(3):
        done = subprocess.run(
            ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin",
             "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10", "-frames:v", "5",
             "-c:v", "flv1", "-f", "flv", f"rtmp://127.0.0.1:{proxy.port}/live/{number}"],
            check=False, capture_output=True, text=True, timeout=2 * DEADLINE,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    wait_until("all have ended", lambda: len(published.read_text().splitlines()) == 3)
    assert len({line.split()[0] for line in published.read_text().splitlines()}) == 1


def test_a_server_may_speak_first(machines):
    """Raw connections are not waited for, and know their client's address."""
    _, proxy = machines(
        "kinds:greeter", "--protocol", "raw", serve_words=["--kind", "handler"]
    )
    proxy.wait_for(a=WHOLE, b=WHOLE)
    with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as sock:
        assert sock.recv(100)
