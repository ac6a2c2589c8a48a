#!/usr/bin/env bash
# An MQTT 5 client that connects with an empty identifier is told in CONNACK which one the
# broker assigned (property 18). paho-mqtt shows it to the application, but reconnects with
# an empty one again, and with clean start 0: it asks to continue a session that it does
# not name. A broker, or whoever routes by the identifier, takes it for somebody new.
#
# Expected: after a lost connection the client comes back by the name it was given.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages paho-mqtt==2.2.0 <<'PYTHON'
import socket
import sys
import threading
from importlib.metadata import version

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5

listener = socket.create_server(("127.0.0.1", 0))
NAME = b"auto-1"
PROPERTIES = b"\x12" + len(NAME).to_bytes(2, "big") + NAME
CONNACK = b"\x00\x00" + bytes([len(PROPERTIES)]) + PROPERTIES
seen = []


def identifier(packet):
    """Return clean start and the client identifier of a CONNECT packet."""
    assert packet[0] == 0x10 and packet[2:8] == b"\x00\x04MQTT"
    flags, properties = packet[9], packet[12]
    at = 13 + properties
    length = int.from_bytes(packet[at : at + 2], "big")
    return bool(flags & 2), packet[at + 2 : at + 2 + length]


def broker():
    for _ in range(2):
        connection, _ = listener.accept()
        seen.append(identifier(connection.recv(4096)))
        connection.sendall(b"\x20" + bytes([len(CONNACK)]) + CONNACK)
        connected.wait(10)
        connected.clear()
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    done.set()


connected, done = threading.Event(), threading.Event()
told = []
client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
client.reconnect_delay_set(1, 1)


def on_connect(_client, _data, _flags, _code, properties):
    told.append(properties.AssignedClientIdentifier)
    connected.set()


client.on_connect = on_connect
threading.Thread(target=broker, daemon=True).start()
client.connect("127.0.0.1", listener.getsockname()[1])
client.loop_start()
finished = done.wait(30)
client.loop_stop()
print(f"paho-mqtt {version('paho-mqtt')}; the application is told {told}")
for number, (clean, name) in enumerate(seen, 1):
    print(f"CONNECT {number}: clean start {clean}, client identifier {name!r}")
sys.exit(not finished or [name for _, name in seen] != [b"", b""])
PYTHON
