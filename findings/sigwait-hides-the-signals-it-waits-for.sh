#!/usr/bin/env bash
# A thread inside sigwait (or sigtimedwait) has the signals that it waits for blocked, or
# their default action would end the process. SigBlk in /proc/PID/status leaves just these
# out for as long as it waits; SigCgt has none of them either. Whoever reads there whether
# a TERM would kill a process (is it safe to send?) is told that it would.
#
# Expected: SigBlk is the mask that the program set.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages <<'PYTHON'
import os
import platform
import signal
import subprocess
import sys
import time

PROGRAM = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
print("blocked", flush=True)
sys.stdin.readline()
print("got", signal.sigwait({signal.SIGTERM}).name, flush=True)
"""


def blocked(pid):
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    mask = int(fields["SigBlk"], 16)
    return {n.name for n in (signal.SIGTERM, signal.SIGUSR1) if mask >> (n - 1) & 1}


child = subprocess.Popen(
    [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
child.stdout.readline()
before = blocked(child.pid)
child.stdin.write("\n")
child.stdin.flush()
deadline = time.monotonic() + 10
while "SIGTERM" in (during := blocked(child.pid)) and time.monotonic() < deadline:
    time.sleep(0.01)
child.terminate()
got = child.stdout.read().strip()
code = child.wait()
print(f"Linux {platform.release()}, Python {sys.version.split()[0]}")
print(f"SigBlk before {sorted(before)}, within sigwait {sorted(during)}")
print(f"TERM does not end it: {got}, exit {code}")
expected = ({"SIGTERM", "SIGUSR1"}, {"SIGUSR1"}, "got SIGTERM", 0)
sys.exit((before, during, got, code) != expected)
PYTHON
