"""What a TLS client is told instead of an HTTP answer."""

import ssl

import pytest

from maitred.routing.refusal import CAUSES, alert


@pytest.mark.parametrize("cause", CAUSES)
def test_alert_is_understood(cause):
    """A client's TLS library takes it for a fatal alert, whatever the cause."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
        incoming, outgoing, server_hostname="a.example"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(alert(cause))
    text = {"no_protocol": "no application protocol", "bad_hello": "decode error"}
    with pytest.raises(ssl.SSLError, match=text.get(cause, "alert")):
        client.do_handshake()
