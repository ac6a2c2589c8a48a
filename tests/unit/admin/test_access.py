"""Who may read what the admin process tells."""

import pytest

from maitred.admin.access import is_loopback, refusal

LOCAL = {"host": "127.0.0.1:9900"}


@pytest.mark.parametrize("host", ["localhost", "a.localhost:80", "[::1]:9", "10.0.0.1"])
def test_this_machine_may_ask(host):
    """By any name that nobody else can give to another address."""
    assert refusal("127.0.0.1", {"host": host}, b"") is None
    assert refusal("::1", {"host": host}, b"secret") is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "a b", "[x"],
)
def test_other_names_are_refused(host):
    """A name that an attacker could make mean 127.0.0.1 is none of ours."""
    assert refusal("127.0.0.1", {"host": host}, b"")[0] == 421
    assert refusal("127.0.0.1", {"host": host}, b"", frozenset({host})) is None or (
        host in {"", "a b", "[x"}
    )


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1", "nonsense"])
def test_elsewhere_needs_the_token(client):
    """Nothing but the whole token will do; without one nothing does."""
    assert refusal(client, LOCAL, b"secret")[0] == 401
    for said in ("Bearer", "Bearer secre", "Bearer secrets", "secret", "Basic secret"):
        assert refusal(client, LOCAL | {"authorization": said}, b"secret")[0] == 401
    assert refusal(client, LOCAL | {"authorization": "Bearer "}, b"")[0] == 401
    for said in ("Bearer secret", "bearer  secret"):
        assert refusal(client, LOCAL | {"authorization": said}, b"secret") is None


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "via", "x-real-ip"])
def test_what_a_proxy_passes_on_is_from_elsewhere(name):
    """A proxy on this machine speaks for others."""
    assert refusal("127.0.0.1", LOCAL | {name: "x"}, b"secret")[0] == 401


def test_a_unix_socket_asks_nothing():
    """Whom its file lets in may ask."""
    assert refusal(None, {}, b"secret") is None


@pytest.mark.parametrize(
    ("address", "is_ours"),
    [
        *(("127.0.0.1", True), ("127.1.2.3", True), ("::1", True)),
        *(("::ffff:127.0.0.1", True), ("::1%lo", True), ("10.0.0.1", False)),
        *(("::ffff:10.0.0.1", False), ("", False), ("localhost", False)),
    ],
)
def test_loopback_is_known(address, is_ours):
    """In each of its spellings."""
    assert is_loopback(address) == is_ours
