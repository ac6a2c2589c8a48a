"""
Applications that start processes, in every kind: what they are told, they do.

    pool        map over a multiprocessing.Pool; leaving it terminates its processes
    executor    the same with concurrent.futures, whose processes are terminated
    terminate   fork a process that sleeps, and terminate it; its exit code
    interrupt   the same with INT
    group       fork one that leads a group of its own, and terminate that group
    abort       fork one that aborts; its exit code
    title       what a forked process is called
    descriptors how many of the worker's sockets a forked process has not
    sleeper     execute a program that sleeps, send INT; its exit code
    inherited   what an executed program inherits, as JSON
    leave       fork a process that lives on; its pid

Each answer begins with our pid and how often this process was asked.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

FORK = multiprocessing.get_context("fork")
ASKED = []
INHERITED = """
import json, os, resource
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "ignored": int(status["SigIgn"], 16), "blocked": int(status["SigBlk"], 16),
    "nice": os.nice(0), "umask": status["Umask"].strip(),
    "oom": open("/proc/self/oom_score_adj").read().strip(),
    "ours": sorted(name for name in os.environ if name.startswith("MAITRED_")),
}))
"""


def square(number):
    """Compute, in a child."""
    return number * number


def sleep():
    """Sleep, in a child, for longer than any test."""
    time.sleep(600)


def lead():
    """Lead a group of processes, in a child."""
    os.setpgrp()
    sleep()


def descriptors():
    """List what is open; not the directory that is looked at."""
    fds = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [os.readlink(fd) for fd in fds if os.path.lexists(fd)]


def say(queue, what):
    """Say to *queue* what is asked of a child."""
    if what == "title":
        queue.put(Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode())
    else:
        queue.put(descriptors())


def end(target, how):
    """Fork a process that runs *target*, end it by *how*; give its exit code."""
    child = FORK.Process(target=target)
    child.start()
    while target is lead and os.getpgid(child.pid) != child.pid:
        time.sleep(0.01)
    how(child)
    child.join()
    return child.exitcode


def ask_child(what):
    """Give what a forked process says of *what*."""
    queue = FORK.SimpleQueue()
    child = FORK.Process(target=say, args=(queue, what))
    child.start()
    answer = queue.get()
    child.join()
    return answer


def run(program, *, interrupt=False):
    """Execute Python *program*; give its exit code, or what it printed."""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    if interrupt:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        child.communicate()
        return child.returncode
    return child.communicate()[0].strip()


def pool():
    """Leave a pool, which terminates its processes."""
    with FORK.Pool(2) as processes:
        return json.dumps(processes.map(square, range(5)))


def executor():
    """Terminate the processes of an executor."""
    with ProcessPoolExecutor(2, mp_context=FORK) as processes:
        told = list(processes.map(square, range(5)))
        for child in list(processes._processes.values()):
            child.terminate()
    return json.dumps(told)


def leave():
    """Fork a process that lives on; give its pid."""
    if child := os.fork():
        return child
    return sleep()


def missing():
    """Count the worker's sockets that a forked process has not."""
    theirs = set(ask_child("descriptors"))
    return sum(link.startswith("socket:") for link in set(descriptors()) - theirs)


def sleeper():
    """Execute a program that sleeps, and interrupt it."""
    return run("import time; print(flush=True); time.sleep(600)", interrupt=True)


WHAT = {
    "pool": pool,
    "executor": executor,
    "terminate": lambda: end(sleep, lambda child: child.terminate()),
    "interrupt": lambda: end(sleep, lambda child: os.kill(child.pid, signal.SIGINT)),
    "group": lambda: end(lead, lambda child: os.killpg(child.pid, signal.SIGTERM)),
    "abort": lambda: end(os.abort, lambda child: None),
    "title": lambda: ask_child("title"),
    "descriptors": missing,
    "sleeper": sleeper,
    "inherited": lambda: run(INHERITED),
    "leave": leave,
    "nothing": lambda: "nothing",
}


def answer(what):
    """Answer with our pid, how often we were asked, and what became of *what*."""
    ASKED.append(what)
    return f"{os.getpid()} {len(ASKED)} {WHAT[what]()}"


async def asgi(scope, receive, send):
    """Serve, of kind asgi: in the event loop itself."""
    if scope["type"] == "lifespan":
        return
    told = answer(scope["path"].strip("/")).encode()
    length = (b"content-length", b"%d" % len(told))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": told})


def wsgi(environ, start_response):
    """Serve, of kind wsgi: in a thread."""
    told = answer(environ["PATH_INFO"].strip("/")).encode()
    start_response("200 OK", [("content-length", str(len(told)))])
    return [told]


async def handler(reader, writer):
    """Serve, of kind handler: a line, answered by one."""
    while line := await reader.readline():
        writer.write(answer(line.decode().strip()).encode() + b"\n")
        await writer.drain()


def plain(sock):
    """Serve, of kind socket: likewise, in a thread."""
    with sock.makefile("rwb") as file:
        for line in file:
            file.write(answer(line.decode().strip()).encode() + b"\n")
            file.flush()
