"""
Try every preset on its real framework: on maitred, and on plain uvicorn workers.

For each framework NAME there is

    frameworks/NAME/app.py               a small application with state, ``app``
    frameworks/NAME/drive.py             ``drive(url, **how)``, see browser.py
    requirements/frameworks/NAME.txt     the exact packages

Eight users interact ten times each. Each interaction gives the process and a count that
it keeps; a user's state has survived if the counts are 1 to 10, all of one process.
What comes out is kept in frameworks/results.json, from which docs/generate.py makes a
table.

With --elsewhere the users are on another host, without TLS and with it, and only
maitred is tried.

Run by script/test-frameworks. Standard library only; ``drive`` runs in the framework's
own environment, as a process of its own (see ``--drive``).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import ExitStack
from pathlib import Path

import elsewhere

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
ENVIRONMENTS = ROOT / ".frameworks"
REQUIREMENTS = ROOT / "requirements" / "frameworks"

USERS, INTERACTIONS, WORKERS = 8, 10, 4
START = 120.0
PATIENCE = {"maitred": 15.0, "uvicorn": 4.0}
"Seconds a user waits for an answer. On plain workers, some wait in vain."

# What to say to maitred for each framework.
OPTIONS = {
    "streamlit": ["--affinity", "streamlit"],
    "gradio": ["--affinity", "gradio"],
    "nicegui": ["--affinity", "nicegui"],
    "shiny": ["--affinity", "shiny"],
    "panel": ["--affinity", "panel"],
    "marimo": ["--affinity", "marimo"],
    "reflex": ["--affinity", "reflex"],
    "solara": ["--affinity", "solara"],
    "chainlit": ["--affinity", "chainlit"],
}


def environment(name):
    """Make the framework's environment what its requirements say; give its Python."""
    home = ENVIRONMENTS / name
    python = home / "bin" / "python"
    stamp = home / "stamp"
    packages = REQUIREMENTS / f"{name}.txt"
    ours = (ROOT / "pyproject.toml").read_text()
    wanted = packages.read_text() + ours + str(ROOT)
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"{name}: installing into {home.relative_to(ROOT)} ...")
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        pip = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
        run([*pip, "--requirement", packages])
        # With what maitred itself needs, beside the versions of the framework.
        run(
            [*pip, "--constraint", packages, "--no-build-isolation", "--editable", ROOT]
        )
        stamp.write_text(wanted)
    return python


def run(command):
    """Run *command*; show what it said only if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nthis failed: {command}")


def say(text):
    """Tell the person who started this."""
    print(text, flush=True)


class Served:
    """A server of the framework's application, its log in a temporary file."""

    def __init__(self, kind, name, python, options, address="127.0.0.1"):
        self.log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115
        self.scratch = tempfile.TemporaryDirectory()
        self.port = elsewhere.free_port(address)
        self.url = f"http://{address}:{self.port}"
        common = ["app:app", "--workers", str(WORKERS), "--no-access-log"]
        if kind == "maitred":
            command = [python, "-m", "maitred", "serve", *common, *options, "--bind",
                       f"{address}:{self.port}", "--control",
                       f"{self.scratch.name}/control.sock"]  # fmt: skip
            self.ready, times = r"workers of generation 1 ready", 1
        else:
            command = [python, "-m", "uvicorn", *common, "--port", str(self.port)]
            self.ready, times = r"Application startup complete", WORKERS
        self.process = subprocess.Popen(
            command,
            cwd=HERE / name,
            stdout=self.log,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **settings(name), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        end = time.monotonic() + START
        while len(re.findall(self.ready, self.text())) < times:
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                sys.exit(f"{kind} does not serve {name}:\n{self.text()}")
            time.sleep(0.1)

    def text(self):
        return Path(self.log.name).read_text(errors="replace")

    def close(self):
        """End the server and its workers."""
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()


def settings(name):
    """Give the environment variables of the framework: frameworks/NAME/env.json."""
    path = HERE / name / "env.json"
    return json.loads(path.read_text()) if path.exists() else {}


def answers(kind, name, python, options, way="here"):
    """
    Serve *name* and let the users interact; give the answers of each.

    Args:
        kind: maitred or uvicorn.
        name: The framework.
        python: That of its environment.
        options: What maitred is told.
        way: How the users come: here (from 127.0.0.1), or from another host by http
            or https.
    """
    server = Served(
        kind, name, python, options, elsewhere.OURS if way == "http" else "127.0.0.1"
    )
    stack = ExitStack()
    try:
        url = server.url
        if way == "https":
            url = stack.enter_context(elsewhere.https(server.port))
        inside = elsewhere.INSIDE if way != "here" else []
        done = subprocess.run(
            [*inside, python, __file__, "--drive", name, url, str(PATIENCE[kind])],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"the driver of {name} failed on {kind}:\n{server.text()}")
    finally:
        stack.close()
        server.close()
    found = json.loads(done.stdout.splitlines()[-1])
    for user in found:
        if "--verbose" in sys.argv or (kind == "maitred" and not kept(user)):
            say(f"  {kind}: {user}")
    if "--verbose" in sys.argv:
        say(server.text())
    return found


def kept(user):
    """Say whether one process counted all that *user* did."""
    return len(user) == INTERACTIONS and [list(a) for a in user] == [
        [user[0][0], count] for count in range(1, INTERACTIONS + 1)
    ]


def version(name, python):
    """Give the version of the framework that is installed."""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def test(name):
    """Try *name*; give the result."""
    python = environment(name)
    result = {"version": version(name, python), "options": OPTIONS[name]}
    for kind in ("maitred", "uvicorn"):
        found = answers(kind, name, python, OPTIONS[name])
        result[kind] = sum(map(kept, found))
        if kind == "maitred":
            result["processes"] = len({u[0][0] for u in found if kept(u)})
    right = (
        result["maitred"] == USERS
        and result["processes"] > 1
        and result["uvicorn"] < USERS
    )
    say(
        f"{name} {result['version']}: of {USERS} users, {result['maitred']} kept their"
        f" state on maitred ({result['processes']} processes), {result['uvicorn']} on"
        f" plain workers: {'right' if right else 'WRONG'}"
    )
    return result if right else None


def test_from_elsewhere(name, earlier):
    """Try *name* from another host; add what came out to the *earlier* result."""
    python = environment(name)
    result = {**earlier, "elsewhere": {}}
    for way in ("http", "https"):
        found = answers("maitred", name, python, OPTIONS[name], way)
        result["elsewhere"][way] = sum(map(kept, found))
    kept_by = ", ".join(f"{n} by {way}" for way, n in result["elsewhere"].items())
    say(f"{name} {version(name, python)}, of {USERS} users elsewhere: {kept_by}")
    return result if set(result["elsewhere"].values()) == {USERS} else None


def drive(name, url, patience):
    """Run the driver of *name*; in its own environment."""
    sys.path[:0] = [str(HERE), str(HERE / name)]
    from drive import drive as drive_it  # noqa: PLC0415 - which one was just decided

    found = drive_it(
        url, users=USERS, interactions=INTERACTIONS, patience=float(patience)
    )
    print(json.dumps(found), flush=True)
    # A client that lost its session may wait for it in a thread, for ever.
    os._exit(0)


def main(names):
    """Try *names*, or all; exit with 1 if one is not right."""
    if names[:1] == ["--drive"]:
        drive(*names[1:])
        return 0
    is_elsewhere = "--elsewhere" in names
    names = [name for name in names if not name.startswith("-")]
    if unknown := set(names) - set(OPTIONS):
        sys.exit(f"unknown: {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
    status = 0
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or OPTIONS:
        if is_elsewhere:
            with elsewhere.network():
                result = test_from_elsewhere(name, results[name])
        else:
            result = test(name)
        if result is None:
            status = 1
            continue
        results[name] = result
        ordered = {name: results[name] for name in OPTIONS if name in results}
        RESULTS.write_text(json.dumps(ordered, indent=2) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
