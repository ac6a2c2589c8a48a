"""HAProxy's configuration: each affinity in its words, or a sentence that says no."""

import shutil
import subprocess

import pytest

from maitred.errors import UsageError
from maitred.haproxy import Place, Rule, configuration, place, rules
from maitred.routing import PRESETS

MACHINES = [Place("a", "10.0.0.1:8000"), Place("b", "10.0.0.2:8000")]
PEERS = [Place("lb1", "127.0.0.1:10001"), Place("lb2", "127.0.0.1:10002")]


def config(*affinities, machines=MACHINES, peers=PEERS, agent_port=9200):
    """Write a configuration."""
    return configuration(
        machines, peers, affinities, bind=":80", ttl=3600.0, agent_port=agent_port
    )


EXPRESSED = {
    "header:x-session": Rule("req.hdr(x-session)"),
    "header:x-session,learn": Rule("req.hdr(x-session)", "res.hdr(x-session)"),
    "cookie:sid": Rule("req.cook(sid)"),
    "cookie:sid,learn": Rule("req.cook(sid)", "res.cook(sid)"),
    "query:room": Rule("url_param(room)"),
    "path:2": Rule("path,field(3,/)"),
    "host": Rule("req.hdr(host),host_only,lower"),
    "ip": Rule("src"),
    "sticky": Rule("req.cook(maitred)", "res.cook(maitred)"),
    "sticky:front": Rule("req.cook(front)", "res.cook(front)"),
    "mcp": Rule(
        "req.hdr(mcp-session-id)", "res.hdr(mcp-session-id)", mark="mcp-session-id"
    ),
}
UNSEEN = {
    *("socketio", "streamlit", "shiny", "bokeh", "panel", "mcp-sse", "graphql-sse"),
}


@pytest.mark.parametrize("affinity", EXPRESSED)
def test_affinity_is_said_in_the_words_of_haproxy(affinity):
    """What the client makes is noted with the request, what the server makes later."""
    rule = EXPRESSED[affinity]
    assert rules(affinity) == (rule,)
    text = config(affinity)
    assert f"    stick match {rule.request}\n" in text
    stored = f"response {rule.response}" if rule.response else f"request {rule.request}"
    assert f"    stick store-{stored}\n" in text


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_expressed_or_refused(preset):
    """A preset that is new has to be one of the two."""
    if preset not in UNSEEN:
        assert "stick match" in config(preset)
        return
    with pytest.raises(UsageError, match="give --affinity sticky too"):
        config(preset)
    text = config(preset, "sticky")
    assert f"# {preset}: not seen here; the others decide" in text
    assert "stick match req.cook(maitred)" in text


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
@pytest.mark.parametrize(
    "affinities",
    [(), *((each,) for each in EXPRESSED), *((p, "sticky") for p in PRESETS)],
    ids=" ".join,
)
@pytest.mark.parametrize("peers", [PEERS, []], ids=["two", "one"])
def test_haproxy_accepts_it(tmp_path, affinities, peers):
    """All that is printed."""
    file = tmp_path / "haproxy.cfg"
    file.write_text(config(*affinities, peers=peers, agent_port=9200 if peers else 0))
    done = subprocess.run(
        ["haproxy", "-L", "lb1", "-c", "-f", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_who_keeps_cookies_is_told_its_machine():
    """Where the server makes the name; a name of the client's own is hashed."""
    made = config("mcp")
    assert "balance leastconn\n" in made
    assert "    cookie maitred-machine insert indirect nocache httponly\n" in made
    assert "    server a 10.0.0.1:8000 cookie a\n" in made
    named = config("path:2")
    assert "    balance hash path,field(3,/)\n    hash-type consistent\n" in named
    assert "cookie" not in named


def test_a_name_that_clients_only_repeat_says_its_machine():
    """That of MCP; another header may be more to its client."""
    made = config("mcp")
    assert "word(1,~) -m str a b }\n" in made
    assert " mcp-session-id %[srv_name]~%[res.hdr(mcp-session-id)] if" in made
    assert "~" not in config("header:x-session,learn")


def test_without_affinity_nothing_sticks():
    """The machine with the fewest connections is as good as any."""
    assert "stick" not in config("none")
    assert "stick" not in config()


def test_agent_check_is_asked_where_it_is_answered():
    """And nowhere else."""
    text = config()
    assert " agent-check agent-port 9200 agent-inter 1s\n" in text
    assert "    tcp-check connect port 9200\n    tcp-check expect rstring" in text
    assert "agent" not in config(agent_port=0)
    assert "tcp-check" not in config(agent_port=0)


def test_weights_are_hundreds():
    """A percentage of the agent's, of a weight of 1, is nothing (HAProxy's manual)."""
    assert "    default-server weight 100 check " in config()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"machines": []}, "no --machine"),
        ({"machines": [MACHINES[0]] * 2}, "--machine a: that name is given twice"),
        ({"peers": [PEERS[1]] * 2}, "--peer lb2: that name is given twice"),
    ],
)
def test_what_cannot_be_is_said(arguments, sentence):
    """In one sentence."""
    with pytest.raises(UsageError, match=sentence):
        config("ip", **arguments)


def test_own_affinity_is_not_guessed_at():
    """HAProxy cannot run Python."""
    with pytest.raises(UsageError, match="own:AFFINITY: HAProxy cannot see"):
        config("own:AFFINITY")


@pytest.mark.parametrize("text", ["a", "a=b", "=h:1", "a=h:", "a b=h:1", "a=h:123456"])
def test_place_is_a_name_and_an_address(text):
    """Anything else is told what it has to be."""
    with pytest.raises(UsageError, match="is not name=host:port"):
        place("--machine", text)
    assert place("--machine", "a=[::1]:80") == Place("a", "[::1]:80")
