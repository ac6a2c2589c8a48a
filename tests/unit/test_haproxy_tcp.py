"""HAProxy's configuration for what is not plain HTTP: what it sees."""

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from maitred.cli.haproxy import haproxy
from maitred.errors import UsageError
from maitred.haproxy import Place, configuration
from maitred.haproxy_tcp import LANGUAGES
from maitred.routing import SNIFFERS

MACHINES = [Place("a", "10.0.0.1:8000"), Place("b", "10.0.0.2:8000")]
CLIENT = "req.payload(0,0),mqtt_field_value(connect,client_identifier)"


def config(protocol, *affinities, bind=":7000", peers=(), agent_port=0):
    """Write a configuration."""
    return configuration(
        MACHINES, peers, affinities, bind=bind, ttl=60.0, agent_port=agent_port,
        protocol=protocol,
    )  # fmt: skip


SEEN = {
    ("mqtt",): [CLIENT, "req.payload_lv(12,2) if"],
    ("mqtt", "client"): [CLIENT],
    ("mqtt", "user"): ["req.payload(0,0),mqtt_field_value(connect,username)"],
    ("mqtt", "user", "ip"): ["req.payload(0,0),mqtt_field", "src"],
    ("mqtt", "ip"): ["src"],
    ("postgres", "ip"): ["src"],
    ("postgres", "none"): ["src"],
    ("postgres", "database", "ip"): ["src"],
    ("rtmp", "ip"): ["src"],
    ("raw", "ip"): ["src"],
    ("own:SNIFFER", "ip"): ["src"],
    ("tls", "sni"): ["req.ssl_sni,lower"],
    ("tls", "cookie:s", "ip"): ["src"],
}
NOTHING_STICKS = [
    *(("mqtt", "none"), ("rtmp", "none"), ("raw",), ("tls",), ("own:SNIFFER", "none")),
]
HIDDEN = {
    ("postgres",): "names it only after the server has answered",
    ("postgres", "user"): "names it only after the server has answered",
    ("rtmp",): "only after a handshake",
    ("raw", "client"): "nothing is known of such a connection",
    ("mqtt", "cookie:s"): "in MQTT there are client and user",
    ("own:SNIFFER",): "a Sniffer of your own",
    ("own:SNIFFER", "room"): "a Sniffer of your own",
    ("tls", "cookie:s"): "end TLS in HAProxy",
    ("tls", "sticky"): "end TLS in HAProxy",
}


@pytest.mark.parametrize("case", SEEN, ids=" ".join)
def test_what_it_sees_sticks(case):
    """Byte by byte, in the words of HAProxy."""
    text = config(*case)
    assert "    mode tcp\n" in text
    assert not {"http", "cookie maitred"} & set(text.split())
    for sample in SEEN[case]:
        assert f"    stick on {sample}" in text
    assert text.count("stick-table") == 1


@pytest.mark.parametrize("case", NOTHING_STICKS, ids=" ".join)
def test_without_a_name_nothing_sticks(case):
    """The machine with the fewest connections is as good as any."""
    text = config(*case)
    assert "    balance leastconn\n" in text
    assert "stick" not in text
    assert "inspect-delay" not in text


@pytest.mark.parametrize("case", HIDDEN, ids=" ".join)
def test_what_it_cannot_see_is_refused(case):
    """With why, and with what can be done."""
    with pytest.raises(UsageError, match=HIDDEN[case]) as raised:
        config(*case)
    assert "give --affinity ip to `maitred haproxy`" in str(raised.value)


@pytest.mark.parametrize("protocol", SNIFFERS)
def test_every_protocol_is_known(protocol):
    """One that is new has to say what HAProxy sees of it."""
    assert set(LANGUAGES[protocol].samples) <= {*SNIFFERS[protocol].fields, "none"}
    default = next(iter(LANGUAGES[protocol].samples))
    assert default == next(iter(SNIFFERS[protocol].fields), "none")


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
@pytest.mark.parametrize("case", [*SEEN, *NOTHING_STICKS], ids=" ".join)
@pytest.mark.parametrize("agent_port", [0, 9200])
def test_haproxy_accepts_it(tmp_path, case, agent_port):
    """All that is printed, without a warning."""
    file = tmp_path / "haproxy.cfg"
    peers = [Place("lb1", "127.0.0.1:10001")] if agent_port else []
    file.write_text(config(*case, peers=peers, agent_port=agent_port))
    done = subprocess.run(
        ["haproxy", "-L", "lb1", "-c", "-f", str(file)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


PORTS = {"mqtt": 1883, "postgres": 5432, "rtmp": 1935, "tls": 443, "http": 80}


@pytest.mark.parametrize("protocol", PORTS)
def test_clients_connect_where_they_usually_do(protocol):
    """Unless --bind says where."""
    affinity = () if protocol == "http" else ("ip",)
    assert f"bind :{PORTS[protocol]}\n" in config(protocol, *affinity, bind="")


def test_who_has_no_usual_port_has_to_be_told():
    """Nobody guesses."""
    for protocol in ("raw", "own:SNIFFER"):
        with pytest.raises(UsageError, match="without --bind: say where clients"):
            config(protocol, "ip", bind="")


SETTINGS = {
    'kind = "handler"\nprotocol = "mqtt"': CLIENT,
    'kind = "handler"\naffinity = "ip"': "stick on src",
    'kind = "socket"\nprotocol = "postgres"\naffinity = "ip"': "stick on src",
    'certfile = "a.pem"\naffinity = "sni"': "req.ssl_sni",
    'kind = "wsgi"\naffinity = "cookie:s"': "req.cook(s)",
    'kind = "handler"\nexec = true\naffinity = "cookie:s"': "req.cook(s)",
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_say_what_is_spoken(tmp_path, settings):
    """The kind of application and the protocol, as the service's own file has them."""
    file = tmp_path / "maitred.toml"
    file.write_text(f'target = "app:app"\n{settings}\n')
    machine = ["--machine", "a=10.0.0.1:8000", "--bind", ":7000"]
    done = CliRunner().invoke(haproxy, ["--config", str(file), *machine])
    assert done.exit_code == 0, done.output
    assert SETTINGS[settings] in done.output
    mode = "http" if "req.cook" in done.output else "tcp"
    assert f"    mode {mode}\n" in done.output


def test_the_command_line_says_it_too():
    """As it is given to maitred serve."""
    words = ["--machine", "a=10.0.0.1:8000", "--protocol", "mqtt"]
    done = CliRunner().invoke(haproxy, words)
    assert "bind :1883\n" in done.output
    words = ["--machine", "a=10.0.0.1:8000", "--certfile", "x", "--affinity", "sni"]
    assert "req.ssl_sni" in CliRunner().invoke(haproxy, words).output
