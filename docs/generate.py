"""
The parts of the documentation that are made from the code, the drawings, and the
man page.

A page says where a part goes, with ``<!-- generated: NAME -->`` before it and
``<!-- end -->`` after it. "script/docs" writes all parts anew; with --check it
changes nothing and exits with 1 if a part is stale. tests/test_docs_reference.py checks
the same.

To add a part, write a function that gives Markdown and enter it in PARTS.
"""

import ast
import functools
import inspect
import json
import re
import runpy
import sys
from pathlib import Path

import click

import maitred
import maitred.errors
from maitred.admin.metrics import METRICS
from maitred.cli.doctor import CHECKS
from maitred.cli.familiar import FAMILIAR
from maitred.cli.options import DEFAULTS, KINDS, OPTIONS, said
from maitred.cli.serve import serve
from maitred.cli.sources import EXAMPLES
from maitred.cli.steer import command
from maitred.cli.top import top
from maitred.config import RELOADED, option
from maitred.control import COMMANDS
from maitred.failpoints import PLACES
from maitred.placement import POLICIES
from maitred.routing import PRESETS
from maitred.routing.refusal import CAUSES
from maitred.signal_effects import SIGNALS
from maitred.supervision.lifecycle import (
    IGNORED,
    IMPOSSIBLE,
    WorkerEvent,
    WorkerState,
    next_state,
)

DOCS = Path(__file__).parent
UNSET = click.Option(["--any"]).default
MARKED = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def table(*rows):
    """Lay out *rows*, the first of which is the head."""
    cells = [[cell.replace("|", "&#124;") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def options_of(command):
    options = [p for p in command.params if isinstance(p, click.Option)]
    return table(("option", "default", "meaning"), *map(row_of_option, options))


def row_of_option(option):
    spelling = " / ".join(
        f"`{name}`" for name in [*option.opts, *option.secondary_opts]
    )
    if isinstance(option.type, click.Choice) and option.metavar != "L":
        spelling += " " + ", ".join(f"`{choice}`" for choice in option.type.choices)
    elif not option.is_flag:
        spelling += f" {option.metavar or option.type.name.upper()}"
    meaning, _, default = (option.help or "").removesuffix("]").partition("[default: ")
    if isinstance(option.type, click.Choice) and option.metavar == "L":
        meaning = f"{meaning} One of {', '.join(option.type.choices)}."
    if isinstance(option.show_default, str):
        default = option.show_default
    elif not default and option.is_flag:
        default = "off"
    elif not default and option.default not in {None, UNSET}:
        default = str(option.default)
    return spelling, default.strip(), " ".join(meaning.split())


def settings():
    rows = [("setting", "is", "default", "variable", "takes effect")]
    for name in ("target", *OPTIONS):
        row = OPTIONS.get(name)
        what = EXAMPLES[KINDS[name]][0].removeprefix("a ")
        if row and row.choices:
            what = ", ".join(f"`{choice}`" for choice in row.choices)
        default = "" if row is None else row.default or said(DEFAULTS[name])
        effect = "at a reload" if name in RELOADED else "at a start"
        rows.append(
            (
                f"`{option(name)[2:]}`",
                what,
                default,
                f"`MAITRED_{name.upper()}`",
                effect,
            )
        )
    return table(*rows)


def signals():
    rows = [("signal", "comes from", "master", "keeper", "worker", "acceptor, admin")]
    rows += [(number.name[3:], *effects) for number, effects in SIGNALS.items()]
    return table(*rows)


def aliases():
    rows = [("theirs", "of", "ours")]
    for name, familiar in FAMILIAR.items():
        if familiar.ours:
            value = "" if familiar.wrap == "{}" else f" {familiar.wrap}"
            ours = f"{option(familiar.ours)}{value}".replace("{}", "...")
            rows.append((f"`{name}`", familiar.of, f"`{ours}`"))
    return table(*rows)


def lacking():
    rows = [("theirs", "of", "instead")]
    rows += [
        (f"`{name}`", familiar.of, familiar.instead)
        for name, familiar in FAMILIAR.items()
        if familiar.instead
    ]
    return table(*rows)


def commands():
    rows = [("command", "level", "what it does")]
    for name, entry in COMMANDS.items():
        told = [
            f"[{a.name.upper()}]" if a.optional else a.name.upper()
            for a in entry.arguments
        ]
        about = " ".join(filter(None, [entry.about, entry.more]))
        rows.append((f"`{' '.join([name, *told])}`", entry.level.value, about))
    parts = [table(*rows)]
    arguments = {a: name for name, entry in COMMANDS.items() for a in entry.arguments}
    rows = [("argument", "of", "meaning")]
    for argument in arguments:
        of = [f"`{name}`" for name, e in COMMANDS.items() if argument in e.arguments]
        choices = f": {', '.join(argument.choices)}" if argument.choices else ""
        rows.append((f"`{argument.name}`", ", ".join(of), argument.about + choices))
    return "\n".join([*parts, table(*rows)])


def exit_codes():
    return table(("code", "name", "meaning"), *codes_of_exit())


def codes_of_exit():
    source = inspect.getsource(maitred.errors)
    [codes] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "ExitCode"
    ]
    for member, text in zip(codes.body, codes.body[1:], strict=False):
        if isinstance(member, ast.Assign):
            [name] = member.targets
            yield str(member.value.value), name.id, text.value.value


def checks():
    rows = [("check", "what is done")]
    rows += [(name, inspect.getdoc(check)) for name, check in CHECKS.items()]
    return table(*rows)


def presets():
    rows = [("preset", "where the session's name stands, and who makes it")]
    rows += [(f"`{preset.name}`", preset.about) for preset in PRESETS.values()]
    return table(*rows)


def frameworks():
    results = json.loads((DOCS.parent / "frameworks" / "results.json").read_text())
    head = ("framework", "served with", "of 8 users kept their state")
    rows = [(*head, "from another host, HTTP / HTTPS", "on uvicorn")]
    for name, result in results.items():
        kept = f"{result['maitred']}, in {result['processes']} processes"
        options = f"`{' '.join(result['options'])}`"
        ways = result["elsewhere"]
        both = f"{ways['http']} / {ways['https']}"
        plain = str(result["uvicorn"])
        rows.append((f"{name} {result['version']}", options, kept, both, plain))
    return table(*rows)


def policies():
    rows = [("policy", "a new session goes to", "remembered in the key table")]
    for name, policy in POLICIES.items():
        rows.append((f"`{name}`", policy.about, "yes" if policy.remembers else "no"))
    return table(*rows)


def refusals():
    rows = [("status", "cause", "what the client reads")]
    rows += [(str(c.status), f"`{name}`", c.why) for name, c in CAUSES.items()]
    return table(*rows)


# What `maitred status --json` answers. tests/test_docs_reference.py asks a running
# master whether these are the fields it has.
STATUS = {
    "version": "of maitred",
    "name": "what the service is called, empty if it has no name",
    "pid": "of the master",
    "state": "`starting`, `ready`, `reloading` or `stopping`",
    "uptime": "seconds since the master started, upgrades or not",
    "upgrades": "how often the master became another program",
    "target": "what is served",
    "listening": "where, one entry for each listener",
    "generation": "the last that filled every slot; a reload raises it",
    "affinity": "as given with `--affinity`",
    "policy": "as given with `--policy`",
    "keys": "sessions in the key table",
    "key_bytes": "bytes that these sessions take, each its name and 256",
    "max_key_bytes": "how many bytes they may take",
    "evicted_keys": "sessions that were forgotten because there were too many",
    "max_keys": "how many sessions there may be",
    "peeking": "connections whose first bytes have not come yet",
    "waiting": "connections that are decided and wait for room in a worker",
    "dropped_log_lines": "lines of the log that could not be written, by any process",
    "listeners": "one entry for each: name, and how many connections it accepted",
    "connections": "counts since the start, see below",
    "acceptors": "one entry for each, the master first: number, pid, state (`silent`:"
    " it does not answer, and these are its words of before), how many connections it"
    " accepted, passed and received, and its memory and cpu as in `slots`",
    "departed": "the same counts of acceptors that are dead, as they were last asked",
    "times": "histograms of `peek` (from accepting a connection until its client had"
    " sent enough to place it, where that was not there at once), `hand_over` (from"
    " there to handing it over) and `take` (from there to hearing that its worker has"
    " read from it): counts for each bucket, their upper `bounds` in seconds, and the"
    " sum of all times",
    "events": "the last 200 that changed the service: when (seconds since 1970), kind"
    " and a sentence",
    "event_counts": "how many there were since the start, by kind",
    "admin": "where `--admin` listens, one entry for each listener",
    "elders": "with `--drain sessions`, the old workers that still have sessions: pid,"
    " slot, generation, sessions (null where they cannot be counted), seconds left",
    "slots": "one entry for each slot, see below",
    "others": "workers that fill no slot, because their generation is coming or"
    " leaving: one entry for each, with those fields that say something of a worker",
}
CONNECTIONS = {
    "accepted": "taken off the backlog",
    "handed_over": "sent to a worker, a second time included",
    "taken": "a worker has read from it, after a return too; then it is the worker's",
    "returned": "given back by a worker, because the next request belongs to another",
    "drained": "of those that were given back, how many by workers that were leaving",
    "redispatched": "placed again, because the first worker died or refused",
    "orphaned": "had been taken by a worker that died; each ends once more",
    "no_descriptor": "refused by a worker that was at its limit of open files",
    "client_left": "it had ended before anything could be decided",
    "silent": "closed at the head timeout without having said a word",
    "lost": "a worker died with it, and it was no longer untouched",
    "claims": "session names that workers have claimed",
    "passed": "to another acceptor, the home of its key",
    "received": "by an acceptor, from another one",
    "accept_pauses": "pauses in accepting, because descriptors or memory ran out",
    "refused": "answered by the master, by cause",
    "refused_by_workers": "requests that a worker answered so, by cause",
}
SLOT = {
    "slot": "number of the slot",
    "state": "`empty`, `starting`, `ready`, `draining` or `stopping`",
    "queued": "connections that wait for this slot and no other",
    "early_deaths": "in a row, of workers that were not ready for a second",
    "why": "how the last of these ended; empty if there were none",
    "next_try": "seconds until the next worker is started; null if none waits for that",
    "pid": "of the worker that fills it",
    "drained": "whether it is given nothing new, because an operator said so",
    "late": "its event loop has not been heard of for a second",
    "generation": "of that worker",
    "open": "connections it serves now, by its own account",
    "in_flight": "handed over and not yet taken",
    "handed_over": "connections it was handed in its life",
    "hops_in": "connections it took that another worker had given back",
    "hops_out": "connections it gave back, because the next request belongs to another"
    " worker, or because it is to have nothing more",
    "requests": "requests it has answered, as of at most 0.1 s ago",
    "uptime": "seconds since its process started",
    "threads": "with kinds wsgi and socket `most`, the threads it may serve in, `busy`,"
    " those that are, and `waiting`, the requests that wait for one; else null",
    "lag": "seconds by which its event loop was late when it was last due, twice a"
    " second; null if it does not say",
    "memory": "bytes of it that are resident, those it shares with others included",
    "cpu": "seconds it has computed",
    "claimed_keys": "sessions its application made and that live there",
    "totals": "requests, handed_over, hops_in, hops_out and cpu of all workers that"
    " have filled the slot, and how many of them have ended (deaths), and unasked"
    " (restarts)",
}


def status_fields():
    parts = []
    for title, fields in (
        ("The master", STATUS),
        ("`connections`", CONNECTIONS),
        ("Each of `slots`", SLOT),
    ):
        rows = [(f"`{name}`", text) for name, text in fields.items()]
        parts.append(f"{title}:\n\n{table(('field', 'meaning'), *rows)}")
    return "\n".join(parts)


def metrics():
    rows = [("metric", "kind", "labels", "meaning")]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append((f"`{metric.name}`", metric.kind.value, labels, metric.help))
    return table(*rows)


def worker_states():
    rows = [("a worker that is", *(f"`{event.name.lower()}`" for event in WorkerEvent))]
    for state in WorkerState:
        then = (what_follows(state, event) for event in WorkerEvent)
        rows.append((state.name, *then))
    return table(*rows)


def what_follows(state, event):
    if (state, event) in IMPOSSIBLE:
        return ""
    return "ignored" if (state, event) in IGNORED else next_state(state, event).name


def failpoints():
    found = runpy.run_path(str(DOCS.parent / "tests" / "failpoint_promises.py"))
    actions, promises = found["Action"], found["PROMISES"]
    rows = [("failpoint", "who is there", *(action.value for action in actions))]
    for name, place in PLACES.items():
        outcomes = (promises[name].of(action).value for action in actions)
        rows.append((f"`{name}`", "master" if place.in_master else "worker", *outcomes))
    return table(*rows)


# Files of contrib/ that a page shows: where one is, its language, and its name there.
SHOWN = {
    "file-service": ("systemd/maitred.service", "ini", "counter.service"),
    "file-socket": ("systemd/maitred.socket", "ini", "counter.socket"),
    "file-dockerfile": ("docker/Dockerfile", "dockerfile", "Dockerfile"),
    "file-compose": ("docker/compose.yaml", "yaml", "compose.yaml"),
    "file-kubernetes": ("kubernetes/maitred.yaml", "yaml", "counter.yaml"),
}


def shown(path, language, title):
    text = (DOCS.parent / "contrib" / path).read_text(encoding="utf-8")
    return f'```{language} title="{title}"\n{text}```\n'


PARTS = {
    **{name: functools.partial(shown, *file) for name, file in SHOWN.items()},
    **runpy.run_path(str(DOCS / "api.py"))["PARTS"],
    "settings": settings,
    "signals": signals,
    "aliases": aliases,
    "lacking": lacking,
    "serve-options": lambda: options_of(serve),
    "status-options": lambda: options_of(command("status")),
    "top-options": lambda: options_of(top),
    "commands": commands,
    "exit-codes": exit_codes,
    "presets": presets,
    "checks": checks,
    "frameworks": frameworks,
    "policies": policies,
    "refusals": refusals,
    "status-fields": status_fields,
    "metrics": metrics,
    "worker-states": worker_states,
    "failpoints": failpoints,
}


def pages():
    """Give each page with generated parts: path, text as it is, as it should be."""
    drawings = runpy.run_path(str(DOCS / "drawings.py"))
    for name, drawing in drawings["DRAWINGS"].items():
        path = DOCS / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        yield path, text, drawings["svg"](*drawing)
    manual = runpy.run_path(str(DOCS / "manual.py"))
    path = DOCS.parent / "contrib" / "man" / "maitred.1"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    yield path, text, manual["page"]((n, told) for n, _, told in codes_of_exit())
    for path in sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"]):
        text = path.read_text(encoding="utf-8")
        if MARKED.search(text):
            yield path, text, MARKED.sub(renewed, text)


def renewed(match):
    name = match["name"]
    if name not in PARTS:  # another generator's
        return match[0]
    return f"{match['begin']}\n{PARTS[name]()}\n{match['end']}"


def main():
    check = sys.argv[1:] == ["--check"]
    stale = False
    for path, text, wanted in pages():
        if text != wanted:
            stale = True
            if not check:
                path.write_text(wanted, encoding="utf-8")
            print("stale:" if check else "written:", path.relative_to(DOCS.parent))
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
