"""
A configuration of HAProxy that sends a session to the machine that has it. Pure.

HAProxy picks the machine, maitred the process. Both go by the same name of the session:
what ``--affinity`` says is put here in HAProxy's words. A name that the client makes is
noted with the request; one that the server makes, with the response. What is not plain
HTTP is in ``haproxy_tcp``.

Invariant: what HAProxy cannot see is refused with a sentence, or said in a comment if
something else is seen; never left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from maitred.errors import UsageError
from maitred.haproxy_tcp import Sticking, language, sticking

HTTP: Final = "http"
STICKY: Final = "maitred"
COOKIE: Final = "maitred-machine"
LONGEST_KEY: Final = 128
ENTRIES: Final = "1m"
PLACE: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)=(?P<address>[^\s=]+:[0-9]{1,5})"
)
WORD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
BEFORE: Final = "^.*/(rooms?|docs?|games?)/"
IN_PATH: Final = "{ path_reg /(rooms?|docs?|games?)/[^/]+ }"


class Rule(NamedTuple):
    """
    The samples in which HAProxy finds a session's name.

    Args:
        request: The sample in the request.
        response: That in the response that makes the name; empty: the client makes it.
        condition: When the former is one.
        mark: The header whose value clients only repeat: HAProxy puts the machine's
            name before it, and takes it away again; empty: there is none.
    """

    request: str
    response: str = ""
    condition: str = ""
    mark: str = ""


def _cookie(name: str, *, learn: bool) -> Rule:
    return Rule(f"req.cook({name})", f"res.cook({name})" if learn else "")


def _header(name: str, *, learn: bool) -> Rule:
    return Rule(f"req.hdr({name})", f"res.hdr({name})" if learn else "")


def _query(name: str, *, learn: bool) -> Rule:
    return Rule(f"url_param({name})")


def _path(segment: str, *, learn: bool) -> Rule:
    return Rule(f"path,field({int(segment) + 1},/)")


def _sticky(name: str, *, learn: bool) -> Rule:
    return _cookie(name, learn=True)


NAMED: Final[Mapping[str, Callable[..., Rule]]] = MappingProxyType(
    {
        "header": _header,
        "cookie": _cookie,
        "query": _query,
        "path": _path,
        "sticky": _sticky,
    }
)
"Forms with a name after the colon."

PLAIN: Final[Mapping[str, tuple[Rule, ...]]] = MappingProxyType(
    {
        "host": (Rule("req.hdr(host),host_only,lower"),),
        "ip": (Rule("src"),),
        "sticky": (_sticky(STICKY, learn=True),),
        "nicegui": (_sticky(STICKY, learn=True),),
        "gradio": (_sticky(STICKY, learn=True),),
        # "Visible ASCII", and nothing else to its client (MCP, "Session Management").
        "mcp": (_header("mcp-session-id", learn=True)._replace(mark="mcp-session-id"),),
        "mcp-modern": (_header("mcp-param-session", learn=False),),
        "marimo": (
            _header("marimo-session-id", learn=False),
            Rule("url_param(session_id)", condition="{ path_end /ws }"),
        ),
        "rooms": (
            Rule(f"'path,regsub(\"{BEFORE}\",),field(1,/)'", condition=IN_PATH),
            Rule("url_param(room)"),
        ),
        "llm": tuple(
            _header(name, learn=False)
            for name in (
                *("x-session-id", "x-session-affinity", "x-claude-code-session-id"),
                *("session-id", "session_id", "x-dynamo-session-id"),
            )
        ),
        "reflex": (
            Rule("url_param(token)", condition="{ path_sub /_event }"),
            _header("reflex-client-token", learn=False),
        ),
        "solara": (_cookie("solara-session-id", learn=True),),
        "chainlit": (_sticky(STICKY, learn=True),),
    }
)
"Forms that are one word, the presets among them."


class Place(NamedTuple):
    """A machine or an HAProxy: its name and where it listens."""

    name: str
    address: str


def place(option: str, text: str) -> Place:
    """
    Parse *text*, ``name=host:port``.

    Raises:
        UsageError: *text* is something else; the sentence names *option*.
    """
    match = PLACE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{option} {text} is not name=host:port, as in a=10.0.0.1:8000"
        )
    return Place(match["name"], match["address"])


def rules(affinity: str) -> tuple[Rule, ...]:
    """Return the rules by which HAProxy finds the key of *affinity*; or none."""
    text, _, option = affinity.partition(",")
    form, _, name = text.partition(":")
    if text in PLAIN:
        return PLAIN[text]
    if form in NAMED and WORD.fullmatch(name):
        return (NAMED[form](name, learn=option == "learn"),)
    return ()


def configuration(
    machines: Sequence[Place],
    peers: Sequence[Place],
    affinities: Sequence[str],
    *,
    bind: str,
    ttl: float,
    agent_port: int,
    protocol: str = HTTP,
    wait: float = 10.0,
) -> str:
    """
    Return the whole configuration.

    Args:
        machines: Name and address of the maitred on each machine, which has
            ``--proxy-protocol required``.
        peers: Name and address of each HAProxy, where they exchange what they know;
            none: there is one HAProxy.
        affinities: The affinities as given to maitred.
        bind: The address where clients connect; empty: the protocol's usual port.
        ttl: Seconds a session is remembered.
        agent_port: The port on which each machine answers the agent check; 0: none.
        protocol: The protocol that clients speak, as in ``--protocol``, or ``tls``.
        wait: Seconds in which a client has to send its first bytes.

    Raises:
        UsageError: There is no machine, a name is given twice, HAProxy can see none
            of the affinities, or the protocol has no usual port and *bind* is empty.
    """
    if not machines:
        raise UsageError(
            "no --machine: say where each maitred listens, as in a=10.0.0.1:8000"
        )
    for option, places in (("--machine", machines), ("--peer", peers)):
        names = [each.name for each in places]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{option} {twice[0]}: that name is given twice")
    lines = (
        _http(machines, affinities)
        if protocol == HTTP
        else sticking(protocol, affinities, wait)
    )
    shared = " peers machines_of_sessions" if peers else ""
    table = (
        f"stick-table type string len {LONGEST_KEY} size {ENTRIES}"
        f" expire {round(ttl)}s{shared}"
    )
    made = any(line.startswith(f"cookie {COOKIE}") for line in lines.backend)
    return TEMPLATE.format(
        defaults=DEFAULTS[protocol == HTTP],
        peers=_peers(peers),
        bind=bind or _usual(protocol),
        looks=_indented(lines.frontend),
        balance=lines.balance,
        reuse=REUSE if protocol == HTTP else "",
        sticks=_indented([table, *lines.backend] if lines.backend else []),
        check=CHECK.format(agent_port) if agent_port else "",
        each=EACH,
        agent=f" agent-check agent-port {agent_port} agent-inter 1s"
        if agent_port
        else "",
        machines="".join(
            f"    server {m.name} {m.address}{f' cookie {m.name}' if made else ''}\n"
            for m in machines
        ),
    )


def _indented(lines: Sequence[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def _usual(protocol: str) -> str:
    """Return the address with the usual port of *protocol*; UsageError: it has none."""
    port = 80 if protocol == HTTP else language(protocol).port
    if not port:
        raise UsageError(
            f"--protocol {protocol} without --bind: say where clients connect, as in"
            " --bind :7000"
        )
    return f":{port}"


def _http(machines: Sequence[Place], affinities: Sequence[str]) -> Sticking:
    """Return the lines that send each request to the machine of its session."""
    named = [each for each in affinities if each != "none"]
    marks = [rule.mark for each in named for rule in rules(each) if rule.mark]
    lines = [line for each in named for line in _sticks(each)]
    if named and all(line.startswith("#") for line in lines):
        raise UsageError(
            f"--affinity {' '.join(named)}: HAProxy cannot see where that stands; give"
            " --affinity sticky too, a cookie of our own, here and to maitred"
        )
    if any(rule.response for each in named for rule in rules(each)):
        lines += [
            "# For who keeps cookies, one says the machine: that outlives a reload.",
            f"cookie {COOKIE} insert indirect nocache httponly",
        ]
    marked = [line for mark in marks for line in _marks(mark, machines)]
    return Sticking([], _balance(named), [*lines, *marked])


def _balance(affinities: Sequence[str]) -> str:
    """Return the ``balance`` that a session which is not known gets a machine by."""
    first = next(filter(None, map(rules, affinities)), ())
    # Not by a hash, because a request without a name yet would have none to hash.
    if len(first) != 1 or first[0].response or first[0].condition:
        return "leastconn"
    # By the name itself, because an HAProxy that was just reloaded has an empty table.
    return f"hash {first[0].request}\n    hash-type consistent"


def _sticks(affinity: str) -> list[str]:
    found = rules(affinity)
    if not found:
        return [f"# {affinity}: not seen here; the others decide"]
    lines = []
    for rule in found:
        condition = f" if {rule.condition}" if rule.condition else ""
        lines.append(f"stick match {rule.request}{condition}")
        if rule.response:
            lines.append(f"stick store-response {rule.response}")
        else:
            lines.append(f"stick store-request {rule.request}{condition}")
    return lines


def _marks(header: str, machines: Sequence[Place]) -> list[str]:
    """Return the lines that put the machine's name before the session's in *header*."""
    value, ours = f"req.hdr({header})", "{ var(txn.machine) -m found }"
    names = " ".join(each.name for each in machines)
    is_known = f"{{ {value},word(1,~) -m str {names} }}"
    told = f"res.hdr({header})"
    marked = f"%[srv_name]~%[{told}]"
    return [
        "# A session's name says its machine to HAProxy: that outlives a reload too.",
        f"http-request set-var(txn.machine) {value},word(1,~) if {is_known}",
        f"http-request replace-header {header} ^[^~]+~(.*)$ \\1 if {ours}",
        f"http-response set-header {header} {marked} if {{ {told} -m found }}",
        f"use-server %[var(txn.machine)] if {ours}",
    ]


def _peers(peers: Sequence[Place]) -> str:
    if not peers:
        return ""
    lines = "".join(f"    peer {peer.name} {peer.address}\n" for peer in peers)
    return (
        "# Start each HAProxy with -L and its name here.\n"
        f"peers machines_of_sessions\n{lines}\n"
    )


DEFAULTS: Final = (
    """\
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    # A client that vanished is found out by the kernel, and one that is silent stays.
    timeout tunnel 24h
    option tcpka
    timeout queue 30s
    # To another machine only what has not reached the first: nothing is done twice.
    retries 3
    option redispatch
""",
    """\
    mode http
    timeout connect 5s
    timeout client 60s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout server 60s
    timeout tunnel 1h
    timeout queue 30s
    # To another machine only what has not reached the first: nothing is done twice.
    retries 3
    option redispatch
    retry-on conn-failure
""",
)
"For what is not HTTP, and for HTTP."
REUSE: Final = """\
    # A connection to a machine belongs to one client: PROXY says whose it is, once.
    http-reuse never
"""
CHECK: Final = """\
    # The kernel accepts for a master that is stopped, too: so the master has to speak.
    option tcp-check
    tcp-check connect
    tcp-check connect port {0}
    tcp-check expect rstring ^(up|drain|down)
    # The agent's percentages are of the weight, in whole numbers: of 1 nothing is left.
"""
EACH: Final = "weight 100 check inter 2s fall 2 rise 1 send-proxy-v2"
"What holds for every machine."
TEMPLATE: Final = """\
# Made by `maitred haproxy`. HAProxy picks the machine, maitred the process.

global
    master-worker
    # A reload passes the listeners on, and no connect is refused.
    stats socket /run/haproxy-maitred.sock mode 600 level admin expose-fd listeners

defaults
{defaults}
{peers}frontend clients
    bind {bind}
{looks}    default_backend machines

backend machines
    balance {balance}
{reuse}{sticks}{check}    default-server {each}{agent}
{machines}"""
