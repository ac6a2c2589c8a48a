"""
MQTT with real clients and a real broker: the client identifier picks the worker.

Each worker relays to a mosquitto of its own, so that which worker a client reached can
be seen from outside: what one publishes reaches those who are at the same broker.
"""

import shutil
import subprocess
import threading

import paho.mqtt.client as mqtt
import pytest

from driver import DEADLINE, wait_until
from mosquitto import broker
from protocols import mqtt_connect

pytestmark = pytest.mark.skipif(
    not shutil.which("mosquitto"), reason="needs mosquitto, as Debian has it"
)


@pytest.fixture
def brokers(tmp_path):
    """Run two brokers; give their ports."""
    with broker(tmp_path) as one, broker(tmp_path) as other:
        yield [one, other]


@pytest.fixture
def service(serve, brokers, tmp_path):
    """Serve MQTT before them; give the server and what says who came where."""
    seen = tmp_path / "seen"
    server = serve(
        "brokers:relay", "--kind", "handler", "--protocol", "mqtt",
        "--policy", "round-robin",
        env={
            "UPSTREAM": f"127.0.0.1:{brokers[0]},{brokers[1]}", "LINES": str(seen),
        },
    )  # fmt: skip

    def slots():
        pairs = [line.split() for line in seen.read_text().splitlines()]
        return [(int(slot), key) for slot, key in pairs]

    return server, slots


class Client:
    """A paho client."""

    def __init__(self, port, name, protocol=mqtt.MQTTv311, user=None):
        """Connect, and wait until the broker has said yes."""
        self.messages = []
        self.connected = threading.Event()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, name, protocol=protocol
        )
        if user:
            self.client.username_pw_set(user, "secret")
        self.client.on_connect = lambda *_: self.connected.set()
        self.subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _c, _u, message: self.messages.append(
            message.payload
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.connected.wait(DEADLINE)

    def subscribe(self, topic):
        """Subscribe, and wait until that holds."""
        self.client.subscribe(topic, qos=1)
        assert self.subscribed.wait(DEADLINE)

    def close(self):
        """Leave."""
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5], ids=["3.1.1", "5"])
def test_a_client_comes_back_to_its_worker(service, protocol):
    """Twelve identifiers, three times each: one worker an identifier."""
    server, slots = service
    for number in [*range(12)] * 3:
        Client(server.port, f"lamp-{number}", protocol).close()
    seen = slots()
    assert len(seen) == 36
    assert len(set(seen)) == 12
    assert {slot for slot, _ in seen} == {0, 1}
    assert {key for _, key in seen} == {f"client=lamp-{n}" for n in range(12)}


def test_messages_pass(service):
    """What is published to a broker reaches who has subscribed there."""
    server, slots = service
    listener = Client(server.port, "listener")
    listener.subscribe("house/#")
    mine = slots()[-1][0]
    number, slot = 0, None
    while slot != mine:  # until somebody comes to the same broker
        number += 1
        speaker = Client(server.port, f"speaker-{number}")
        slot = slots()[-1][0]
        for text in range(100):
            speaker.client.publish("house/lamp", f"{slot} {text}", qos=1)
        wait_until("all is sent", lambda c=speaker.client: not c.want_write())
        if slot != mine:
            speaker.close()
    expected = [f"{mine} {text}".encode() for text in range(100)]
    wait_until("all has come", lambda: len(listener.messages) >= 100)
    assert listener.messages == expected
    speaker.close()
    listener.close()


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
def test_mosquitto_clients_see_no_difference(service, version):
    """What one identifier has kept at its broker, the same one finds there."""
    server, _ = service
    for number in range(6):
        who = ["-p", str(server.port), "-i", f"m{number}", "-V", version, "-q", "2"]
        topic = ["-t", f"kept/{number}", "-u", "ann", "-P", "secret"]
        published = subprocess.run(
            ["mosquitto_pub", *who, *topic, "-r", "-m", f"hello {number}"],
            check=False, capture_output=True, timeout=DEADLINE,
        )  # fmt: skip
        assert (published.returncode, published.stderr) == (0, b"")
        heard = subprocess.run(
            ["mosquitto_sub", *who, *topic, "-C", "1", "-W", "30"],
            check=False, capture_output=True, timeout=DEADLINE,
        )  # fmt: skip
        assert (heard.returncode, heard.stdout) == (0, b"hello %d\n" % number)


def test_the_user_name_can_pick(serve, brokers, tmp_path):
    """--affinity user: all clients of a user come to one worker."""
    seen = tmp_path / "seen"
    server = serve(
        "brokers:relay", "--kind", "handler", "--protocol", "mqtt",
        "--policy", "round-robin",
        "--affinity", "user",
        env={
            "UPSTREAM": f"127.0.0.1:{brokers[0]},{brokers[1]}", "LINES": str(seen),
        },
    )  # fmt: skip
    for number in range(12):
        Client(server.port, f"c{number}", user=f"user-{number % 3}").close()
    keys = {tuple(line.split()) for line in seen.read_text().splitlines()}
    assert len(keys) == 3


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv50"])
def test_a_bridge_gets_through(service, tmp_path, version):
    """What is published at its end reaches who has subscribed at ours."""
    server, slots = service
    lines = (
        "connection up", f"address 127.0.0.1:{server.port}", "remote_clientid bridge",
        f"bridge_protocol_version {version}", "topic # out 1",
    )  # fmt: skip
    with broker(tmp_path, *lines) as mine:
        wait_until("it comes", lambda: (tmp_path / "seen").exists() and slots())
        [(slot, key)] = slots()
        assert key == "client=bridge"
        number = 0
        while slots()[-1] != (slot, f"client=c{number}"):  # a listener behind it
            number += 1
            listener = Client(server.port, f"c{number}")
        listener.subscribe("house/#")
        speaker = Client(mine, "speaker")
        speaker.client.publish("house/lamp", b"on", qos=1)
        wait_until("it has come", lambda: listener.messages == [b"on"])
        for client in (speaker, listener):
            client.close()


REFUSALS = {
    "3.1 of level 4": (mqtt_connect(name=b"MQIsdp", level=4), bytes([0x20, 2, 0, 1])),
    "3.1.1 without a name to keep": (
        mqtt_connect(b"", flags=0), bytes([0x20, 2, 0, 2]),
    ),
    "level 6": (mqtt_connect(level=6), bytes([0x20, 3, 0, 0x84, 0])),
    "3.1.1 and wrong": (mqtt_connect(flags=0x03), b""),
    "5 and wrong": (mqtt_connect(level=5, flags=0x03), bytes([0x20, 3, 0, 0x81, 0])),
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_wrong_is_refused_in_its_own_words(serve, case):
    """A CONNACK where the specification has one for it, the end of the connection."""
    said, answer = REFUSALS[case]
    server = serve("kinds:handler", "--kind", "handler", "--protocol", "mqtt")
    with server.connect() as sock:
        sock.sendall(said)
        with sock.makefile("rb") as file:
            assert file.read() == answer


def test_silence_ends_at_the_deadline(serve):
    """Half a CONNECT is answered, in the version it speaks; nothing at all is not."""
    server = serve(
        "kinds:handler", "--kind", "handler", "--protocol", "mqtt",
        "--head-timeout", "0.5",
    )  # fmt: skip
    with server.connect() as silent, server.connect() as half:
        half.sendall(mqtt_connect(level=5)[:12])
        with half.makefile("rb") as file:
            assert file.read() == bytes([0x20, 3, 0, 0x88, 0])
        assert silent.recv(1) == b""
    assert server.status()["connections"]["refused"] == {"head_timeout": 1}
