#!/usr/bin/env bash
# HAProxy has converters that find the client identifier in an MQTT CONNECT, so that a
# client comes back to its broker. A bridge of mosquitto marks itself by the top bit of
# the protocol level (0x84), which it does unless told otherwise. HAProxy then calls the
# packet not valid and finds no identifier in it: the bridge is stuck to no broker, where
# mosquitto itself takes it for an ordinary client. MQTT 3.1 and 3.1.1 are found.
#
# Needs HAProxy (Debian 12: haproxy 2.6.12). The CONNECT packets are those of mosquitto
# 2.0.11, byte for byte.
# Expected: the bridge is found by its identifier, as other clients are.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
needs haproxy
with_packages <<'PYTHON'
import socket
import subprocess
import sys
import tempfile
import threading
import time

CONFIGURATION = """
global
  stats socket {stats}
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:{front}
  tcp-request inspect-delay 1s
  tcp-request content accept if {{ req.payload(0,0),mqtt_is_valid }}
  default_backend back
backend back
  stick-table type string len 64 size 100 expire 1m
  stick on req.payload(0,0),mqtt_field_value(connect,client_identifier)
  server a 127.0.0.1:{server}
"""


def connect(protocol, level, name):
    body = len(protocol).to_bytes(2, "big") + protocol + bytes([level, 2, 0, 60])
    body += len(name).to_bytes(2, "big") + name
    return b"\x10" + bytes([len(body)]) + body


CLIENTS = {
    "MQTT 3.1.1": connect(b"MQTT", 4, b"lamp-311"),
    "MQTT 3.1": connect(b"MQIsdp", 3, b"lamp-31"),
    "MQTT 3.1.1, a bridge": connect(b"MQTT", 0x84, b"bridge-1"),
}


def broker(listener):
    while True:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"\x20\x02\x00\x00")
        connection.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=broker, args=(listener,), daemon=True).start()
front = free_port()
with tempfile.TemporaryDirectory() as place:
    stats = f"{place}/stats"
    with open(f"{place}/cfg", "w") as file:
        file.write(CONFIGURATION.format(
            stats=stats, front=front, server=listener.getsockname()[1]
        ))
    proxy = subprocess.Popen(["haproxy", "-db", "-f", f"{place}/cfg"])
    try:
        for packet in CLIENTS.values():
            for _ in range(500):
                try:
                    client = socket.create_connection(("127.0.0.1", front))
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            client.sendall(packet)
            while client.recv(4096):
                pass
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(stats)
            sock.sendall(b"show table back\n")
            table = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    finally:
        proxy.terminate()
        proxy.wait()
said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
print(said.splitlines()[0])
found = {}
for about, name in zip(CLIENTS, ("lamp-311", "lamp-31", "bridge-1")):
    found[about] = f"key={name} " in table
    print(f"{about}: found by its identifier: {found[about]}")
sys.exit([*found.values()] != [True, True, False])
PYTHON
