"""Certificates: whose names they have, and what makes files unusable."""

import ssl

import pytest
import trustme
from cryptography import x509

from maitred.certificates import choice, names_of, server_context
from maitred.errors import UsageError


@pytest.fixture(scope="module")
def ca():
    """Who signs."""
    return trustme.CA()


@pytest.fixture(scope="module")
def files(ca, tmp_path_factory):
    """Make the two files of a certificate for some names."""
    directory = tmp_path_factory.mktemp("certificates")

    def make(name, *hosts, **details):
        issued = ca.issue_cert(*hosts, **details)
        cert, key = directory / f"{name}.pem", directory / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return str(cert), str(key)

    return make


def shown(context, ca, name):
    """Say which names stand in the certificate that a client asking for *name* gets."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    ca.configure_trust(trusting)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    names = client.getpeercert().get("subjectAltName", ())
    return {value for _, value in names}, server.sni


@pytest.mark.parametrize(
    "hosts",
    [
        ["a.example"],
        ["A.Example", "*.b.example", "xn--bcher-kva.example"],
        [f"host-{number}.example" for number in range(200)],
        ["192.0.2.1", "a.example", "2001:db8::1"],
        ["192.0.2.1"],
    ],
)
def test_names_are_those_of_the_certificate(ca, hosts):
    """DNS names in lower case; addresses are no names."""
    pem = ca.issue_cert(*hosts).cert_chain_pems[0].bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value.get_values_for_type(x509.DNSName)
    found = names_of(ssl.PEM_cert_to_DER_cert(pem.decode()))
    assert [name.decode() for name in found] == [name.lower() for name in names]


def test_certificate_of_an_authority_may_have_no_names(ca):
    """Without a subjectAltName there is none."""
    der = ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode())
    assert names_of(der) == []


def test_certificate_is_chosen_by_the_name_asked_for(ca, files):
    """Exact before wildcard; for strangers, or of two with one name, the first."""
    pairs = [
        files("one", "a.example", "shared.example"),
        files("two", "*.a.example", "shared.example", "only.two.example"),
        files("three", "x.a.example"),
    ]
    context = server_context(*zip(*pairs, strict=True))
    one = {"a.example", "shared.example"}
    two = {"*.a.example", "shared.example", "only.two.example"}
    assert shown(context, ca, "a.example") == (one, b"a.example")
    assert shown(context, ca, "Y.A.Example") == (two, b"y.a.example")
    assert shown(context, ca, "x.a.example") == ({"x.a.example"}, b"x.a.example")
    assert shown(context, ca, "shared.example") == (one, b"shared.example")
    assert shown(context, ca, "z.y.a.example") == (one, b"z.y.a.example")
    assert shown(context, ca, None) == (one, b"")


def test_wildcard_stands_for_one_label():
    """It stands for the first, neither for none nor for several."""
    by_name = {b"*.a.b": "wild", b"x.a.b": "exact", b"*": "no"}
    assert choice(by_name, b"y.a.b") == "wild"
    assert choice(by_name, b"x.a.b") == "exact"
    assert choice(by_name, b"a.b") is None
    assert choice(by_name, b"y.x.a.b") is None
    assert choice(by_name, b"localhost") is None


@pytest.mark.parametrize("broken", ["missing", "directory", "text", "other"])
def test_unusable_file_is_named(files, tmp_path, broken):
    """Whatever is wrong, the sentence says with which file."""
    good, key = files("good", "a.example")
    other = {
        "missing": str(tmp_path / "missing"),
        "directory": str(tmp_path),
        "text": str(tmp_path / "text"),
        "other": files("other", "a.example")[1],
    }[broken]
    if broken == "text":
        (tmp_path / "text").write_text("hello")
    with pytest.raises(UsageError) as refused:
        server_context([good], [other])
    assert other in str(refused.value)
    if broken != "other":
        with pytest.raises(UsageError) as refused:
            server_context([other], [key])
        assert other in str(refused.value)


def test_later_certificate_without_a_name_is_refused(files):
    """Nobody would ever be shown it."""
    named, nameless = files("named", "a.example"), files("address", "192.0.2.1")
    server_context(*zip(nameless, named, strict=True))
    with pytest.raises(UsageError, match="has no DNS name"):
        server_context(*zip(named, nameless, strict=True))
