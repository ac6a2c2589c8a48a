"""
Send the numbers of a service to StatsD: statsd.py ADMIN-URL STATSD-HOST:PORT [SECONDS]

    python statsd.py http://127.0.0.1:9900 127.0.0.1:8125
"""

import json
import socket
import sys
import time
import urllib.request


def numbers(snapshot):
    """Give name, number and kind: c is a count since the start, g a state."""
    for name, count in snapshot["connections"].items():
        if not isinstance(count, dict):
            yield f"maitred.connections.{name}", count, "c"
    causes = [snapshot["connections"][n] for n in ("refused", "refused_by_workers")]
    refused = sum(sum(counts.values()) for counts in causes)
    yield "maitred.connections.refused", refused, "c"
    yield "maitred.keys", snapshot["keys"], "g"
    for slot in snapshot["slots"]:
        prefix = f"maitred.worker.{slot['slot']}"
        yield f"{prefix}.requests", slot["totals"]["requests"], "c"
        yield f"{prefix}.connections", slot.get("open") or 0, "g"
        yield f"{prefix}.lag_ms", (slot.get("lag") or 0) * 1000, "g"


def main(url, statsd, seconds="10"):
    host, _, port = statsd.rpartition(":")
    sock, before = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), {}
    while True:
        try:
            with urllib.request.urlopen(f"{url}/api/snapshot", timeout=10) as answer:
                found = list(numbers(json.load(answer)))
        except OSError as exc:
            print(f"no answer: {exc}", file=sys.stderr)
            found = []
        for name, number, kind in found:
            # StatsD adds up: it is told what is new, and all of it after a restart.
            known = before.get(name, 0) if kind == "c" else 0
            value = number - known if number >= known else number
            sock.sendto(f"{name}:{value}|{kind}".encode(), (host, int(port)))
            before[name] = number
        time.sleep(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
