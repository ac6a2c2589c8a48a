"""
What HAProxy in front costs, and what a hop costs: ratios, measured side by side.

    python bench/machines.py [ROUNDS]

Needs haproxy and wrk. Each round measures, one after the other: requests on kept
connections and on new ones, straight to maitred and through HAProxy with the printed
configuration; and requests that all hop to another worker against requests that stay.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from driver import COMMAND, Maitred  # noqa: E402 - the path is first

SECONDS = 3


def wrk(url, *options):
    """Give requests a second."""
    said = subprocess.run(
        ["wrk", "-t1", "-c32", f"-d{SECONDS}s", *options, url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])


def cpu(pid):
    """Give the CPU seconds of a process, and of a worker that it has."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    # maitred's workers are not its own cost; HAProxy's are all of it.
    for each in [pid, *(children if len(children) == 1 else [])]:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / 100


def main():
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    place = Path(tempfile.mkdtemp())
    plain = place / "plain"
    proxied = place / "proxied"
    for each in (plain, proxied):
        each.mkdir()
    options = ("--affinity", "header:x-session", "--no-access-log")
    straight = Maitred("probe:app", *options, tmp_path=plain, workers=2).ready()
    behind = Maitred(
        "probe:app", *options, "--proxy-protocol", "required",
        tmp_path=proxied, workers=2,
    ).ready()  # fmt: skip
    config = subprocess.run(
        [COMMAND, "haproxy", "--machine", f"a=127.0.0.1:{behind.port}",
         "--bind", "127.0.0.1:18700", "--affinity", "header:x-session"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    file = place / "haproxy.cfg"
    file.write_text(config.replace("/run/haproxy-maitred.sock", str(place / "s")))
    haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(file)])
    time.sleep(1)
    front = "http://127.0.0.1:18700/"
    close = ("-H", "Connection: close")
    ratios = {"kept": [], "new": []}
    costs = {"haproxy per request": [], "haproxy per connection": []}
    master = {"straight": [], "behind": []}
    try:
        for _ in range(rounds):
            kept = wrk(straight.url)
            before = cpu(haproxy.pid)
            through = wrk(front)
            costs["haproxy per request"].append(
                (cpu(haproxy.pid) - before) / (through * SECONDS) * 1e6
            )
            ratios["kept"].append(through / kept)
            before = cpu(straight.pid)
            new = wrk(straight.url, *close)
            master["straight"].append(
                (cpu(straight.pid) - before) / (new * SECONDS) * 1e6
            )
            before, at = cpu(haproxy.pid), cpu(behind.pid)
            through = wrk(front, *close)
            costs["haproxy per connection"].append(
                (cpu(haproxy.pid) - before) / (through * SECONDS) * 1e6
            )
            master["behind"].append((cpu(behind.pid) - at) / (through * SECONDS) * 1e6)
            ratios["new"].append(through / new)
    finally:
        haproxy.terminate()
        haproxy.wait()
        straight.stop()
        behind.stop()
    for name, values in {**ratios, **costs, **master}.items():
        middle = statistics.median(values)
        print(f"{name:24} {middle:8.2f}  ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
