"""
Request heads for the tests of routing: what clients sent, what others should not send.

REAL are recorded; each says from whom. GOOD and BAD are made by hand, each for one
rule; BAD says how the router answers and at which byte it knows.
"""

from maitred.routing import NoMatch

MCP_SESSION = b"2dda5da0d11a4d64b165fa25dcec8d59"
SSE_SESSION = b"b80e142e02b94954a33293457aa32287"
SOCKETIO_SESSION = b"4NLXBjRSAFpyw8a0AAAA"

STREAMLIT_TOKEN = b"09b17d11b79d5a6c72329789c64fab79"
SHINY_SESSION = b"0419248233190c094c119bc436d17e7a8e01207b1aa8898653ec424a547e700d"
BOKEH_SESSION = b"2VFShW2dVNnCsKbt5B0H7j63wGvWpoTNpTQKahBKnBNJ"

# What headless Chromium 156 says in every request; in every one for a WebSocket.
CHROMIUM = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like"
    b" Gecko) HeadlessChrome/156.0.0.0 Safari/537.36\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
)
CHROMIUM_WEBSOCKET = CHROMIUM + (
    b"Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: sozMpXVyOZodn1Wr4ecV6g==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
)

REAL = {
    # The official MCP SDK 2.3.0, its client, streamable HTTP.
    "mcp initialize": (
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:18201\r\n"
        b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        b"User-Agent: python-httpx2/2.16.2\r\n"
        b"accept: application/json, text/event-stream\r\n"
        b"content-type: application/json\r\nContent-Length: 152\r\n\r\n"
    ),
    "mcp call": (
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:18201\r\n"
        b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        b"User-Agent: python-httpx2/2.16.2\r\n"
        b"accept: application/json, text/event-stream\r\n"
        b"content-type: application/json\r\nmcp-session-id: %b\r\n"
        b"mcp-protocol-version: 2025-11-25\r\nContent-Length: 46\r\n\r\n" % MCP_SESSION
    ),
    "mcp delete": (
        b"DELETE /mcp HTTP/1.1\r\nHost: 127.0.0.1:18201\r\n"
        b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        b"User-Agent: python-httpx2/2.16.2\r\n"
        b"accept: application/json, text/event-stream\r\n"
        b"content-type: application/json\r\nmcp-session-id: %b\r\n"
        b"mcp-protocol-version: 2025-11-25\r\n\r\n" % MCP_SESSION
    ),
    # The same SDK, HTTP+SSE.
    "mcp-sse stream": (
        b"GET /sse HTTP/1.1\r\nHost: 127.0.0.1:18202\r\n"
        b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        b"User-Agent: python-httpx2/2.16.2\r\nAccept: text/event-stream\r\n"
        b"Cache-Control: no-store\r\n\r\n"
    ),
    "mcp-sse message": (
        b"POST /messages/?session_id=%b HTTP/1.1\r\nHost: 127.0.0.1:18202\r\n"
        b"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        b"User-Agent: python-httpx2/2.16.2\r\nContent-Length: 54\r\n"
        b"Content-Type: application/json\r\n\r\n" % SSE_SESSION
    ),
    # python-socketio 5.18.1, AsyncClient, polling.
    "socketio handshake": (
        b"GET /socket.io/?transport=polling&EIO=4&t=1795381548.8269305 HTTP/1.1\r\n"
        b"Host: 127.0.0.1:18203\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
        b"User-Agent: Python/3.11 aiohttp/3.14.5\r\n\r\n"
    ),
    "socketio poll": (
        b"GET /socket.io/?transport=polling&EIO=4&sid=%b&t=1795381548.8303678"
        b" HTTP/1.1\r\nHost: 127.0.0.1:18203\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip, deflate\r\n"
        b"User-Agent: Python/3.11 aiohttp/3.14.5\r\n\r\n" % SOCKETIO_SESSION
    ),
    "socketio send": (
        b"POST /socket.io/?transport=polling&EIO=4&sid=%b HTTP/1.1\r\n"
        b"Host: 127.0.0.1:18203\r\nContent-Type: text/plain\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.14.5\r\n"
        b"Content-Length: 4\r\n\r\n" % SOCKETIO_SESSION
    ),
    # Streamlit 1.67.0 and Chromium 156.
    "streamlit health": (
        b"GET /_stcore/health HTTP/1.1\r\nHost: 127.0.0.1:45329\r\n%b\r\n" % CHROMIUM
    ),
    "streamlit websocket": (
        b"GET /_stcore/stream HTTP/1.1\r\nHost: 127.0.0.1:45329\r\n%b"
        b"Cookie: _streamlit_xsrf=2|a5511b89|ace0669812cc41e5d7638c00631eb0f0|17"
        b"95385520\r\nSec-WebSocket-Protocol: streamlit, 2|a5511b89"
        b"|ace0669812cc41e5d7638c00"
        b"631eb0f0|1795385520\r\n\r\n" % CHROMIUM_WEBSOCKET
    ),
    "streamlit websocket again": (
        b"GET /_stcore/stream HTTP/1.1\r\nHost: 127.0.0.1:45329\r\n%b"
        b"Cookie: ajs_anonymous_id=961b8437-bc48-4554-b1b2-056ac21a6110; "
        b"_streamlit_xsrf=2|f64b071b|fffa7a0a41d65d77847990923004ac62|1795385520\r\n"
        b"Sec-WebSocket-Protocol: streamlit, 2|f64b071b|fffa7a0a41d65d7784799092"
        b"3004ac62|1795385520, b20abf70-0b17-4217-9d4f-3f0cca4f7619\r\n\r\n"
        % CHROMIUM_WEBSOCKET
    ),
    # Shiny for Python 1.8.0 and Chromium 156.
    "shiny websocket": (
        b"GET /websocket/ HTTP/1.1\r\nHost: 127.0.0.1:42423\r\n%b\r\n"
        % CHROMIUM_WEBSOCKET
    ),
    "shiny upload": (
        b"POST /session/%b/upload/b774df7299a79af224589d35?w= HTTP/1.1\r\n"
        b"Host: 127.0.0.1:42423\r\nContent-Length: 1\r\n%b\r\n"
        % (SHINY_SESSION, CHROMIUM)
    ),
    # Panel 1.9.4 and Chromium 156; the token's compressed payload is cut short.
    "panel page": b"GET /counter HTTP/1.1\r\nHost: 127.0.0.1:40763\r\n\r\n",
    "panel websocket": (
        b"GET /counter/ws HTTP/1.1\r\nHost: 127.0.0.1:40763\r\n%b"
        b"Sec-WebSocket-Protocol: bokeh, eyJzZXNzaW9uX2lkIjogIjJWRlNoVzJkVk5uQ3NLYnQ1"
        b"QjBIN2o2M3dHdldwb1ROcFRRS2FoQktuQk5KIiwgInNlc3Npb25fZXhwaXJ5IjogMTc5NTM4NTg0MSwgIl"
        b"9fYmtfX3psaWJfIjogImVOcGRVbDF2MmpBVV9TdVduOW91SnNrb2cifQ\r\n\r\n"
        % CHROMIUM_WEBSOCKET
    ),
}


def request(
    line: bytes = b"GET / HTTP/1.1", *headers: bytes, host: bytes | None = b"a"
) -> bytes:
    """Return a head of a request *line* and *headers*; *host* None: it has no Host."""
    lines = [line, *([] if host is None else [b"Host: " + host]), *headers]
    return b"".join(each + b"\r\n" for each in lines) + b"\r\n"


GOOD = {
    "shortest": request(),
    "1.0 without host": request(b"GET / HTTP/1.0", host=None),
    "1.0 with host": request(b"GET / HTTP/1.0"),
    "method is any token": request(b"PROP-FIND!#$%&'*+.^_`|~ / HTTP/1.1"),
    "longest method": request(b"M" * 32 + b" / HTTP/1.1"),
    "every character of a target": request(
        b"GET /!\"$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~ HTTP/1.1"
    ),
    "asterisk": request(b"OPTIONS * HTTP/1.1"),
    "asterisk in 1.0": request(b"OPTIONS * HTTP/1.0", host=None),
    "absolute form": request(b"GET http://a/p?q=1 HTTP/1.1"),
    "absolute form, any case": request(
        b"GET HtTpS://EXAMPLE.org/ HTTP/1.1", host=b"example.ORG"
    ),
    "absolute form, port": request(b"GET http://a:81/ HTTP/1.1", host=b"a:81"),
    "absolute form, two slashes": request(b"GET http://a//b HTTP/1.1"),
    "network path": request(b"GET //b/c HTTP/1.1"),
    "question marks": request(b"GET /?a?b? HTTP/1.1"),
    "host, port": request(host=b"example.org:8080"),
    "host, empty port": request(host=b"example.org:"),
    "host, empty": request(host=b""),
    "host, address with a zone": request(host=b"[fe80::1%eth0]:8000"),
    "host, address with a zone as in a URI": request(host=b"[fe80::1%25eth0]"),
    "host, v6": request(host=b"[::1]:80"),
    "host, v6 without port": request(host=b"[2001:db8::1]"),
    "host, trailing dot": request(host=b"example.org."),
    "host, spaces around": request(host=b" \t a \t "),
    "empty value": request(b"GET / HTTP/1.1", b"X:"),
    "tab, high bytes": request(b"GET / HTTP/1.1", b"X: a\tb\x80\xff"),
    "value with colon": request(b"GET / HTTP/1.1", b"X: a: b"),
    "repeated header": request(b"GET / HTTP/1.1", b"X: 1", b"x: 2"),
    "length": request(b"POST / HTTP/1.1", b"Content-Length: 0"),
    "longest length": request(b"POST / HTTP/1.1", b"Content-Length: " + b"9" * 19),
    "chunked": request(b"POST / HTTP/1.1", b"Transfer-Encoding: Chunked"),
    "websocket": request(
        b"GET /ws HTTP/1.1",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ),
    **REAL,
}

BAD_REQUEST = NoMatch(400, "bad_request")
BAD_HOST = NoMatch(400, "bad_host")
BAD_VERSION = NoMatch(505, "bad_version")
TLS = NoMatch(400, "tls")

# Each: the bytes up to and including the one that decides, and what they decide.
BAD = {
    "tls": (b"\x16", TLS),
    "tls 1.3 hello": (b"\x16\x03\x01\x02\x00\x01", TLS),
    "binary": (b"\0", BAD_REQUEST),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r", BAD_REQUEST),
    "bare CR first": (b"\rG", BAD_REQUEST),
    "bare LF first": (b"\n", BAD_REQUEST),
    "bare LF after an empty line": (b"\r\n\n", BAD_REQUEST),
    "two empty lines": (b"\r\n\r", BAD_REQUEST),
    "space after an empty line": (b"\r\n ", BAD_REQUEST),
    "tls after an empty line": (b"\r\n\x16", TLS),
    "space first": (b" ", BAD_REQUEST),
    "no token": (b"GE(", BAD_REQUEST),
    "method too long": (b"M" * 33, BAD_REQUEST),
    "h2 preface": (b"PRI * HTTP/2.0\r\n", BAD_VERSION),
    "version 2": (b"GET / HTTP/2\r\n", BAD_VERSION),
    "version 1.2": (b"GET / HTTP/1.2\r\n", BAD_VERSION),
    "version 0.9": (b"GET / HTTP/0.9\r\n", BAD_VERSION),
    "no version": (b"GET /\r\n", BAD_REQUEST),
    "version in lower case": (b"GET / http/1.1\r\n", BAD_REQUEST),
    "version of three digits": (b"GET / HTTP/1.10\r\n", BAD_REQUEST),
    "two spaces": (b"GET  / HTTP/1.1\r\n", BAD_REQUEST),
    "space in target": (b"GET /a b HTTP/1.1\r\n", BAD_REQUEST),
    "space at end": (b"GET / HTTP/1.1 \r\n", BAD_REQUEST),
    "fragment": (b"GET /a#b HTTP/1.1\r\n", BAD_REQUEST),
    "control in target": (b"GET /\x7f HTTP/1.1\r\n", BAD_REQUEST),
    "high byte in target": (b"GET /\xe4 HTTP/1.1\r\n", BAD_REQUEST),
    "relative target": (b"GET a HTTP/1.1\r\n", BAD_REQUEST),
    "authority form": (b"GET a:80 HTTP/1.1\r\n", BAD_REQUEST),
    "connect": (b"CONNECT a:80 HTTP/1.1\r\n", BAD_REQUEST),
    "connect to a path": (b"CONNECT / HTTP/1.1\r\n", BAD_REQUEST),
    "other scheme": (b"GET ftp://a/ HTTP/1.1\r\n", BAD_REQUEST),
    "bare LF": (b"GET / HTTP/1.1\n", BAD_REQUEST),
    "bare LF in headers": (b"GET / HTTP/1.1\r\nHost: a\n", BAD_REQUEST),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: a\rb", BAD_REQUEST),
    "CR CR LF": (b"GET / HTTP/1.1\r\nHost: a\r\r", BAD_REQUEST),
    "NUL": (b"GET / HTTP/1.1\r\nHost: \0", BAD_REQUEST),
    "NUL in target": (b"GET /\0", BAD_REQUEST),
    "control in value": (request(b"GET / HTTP/1.1", b"X: \x08"), BAD_REQUEST),
    "no colon": (request(b"GET / HTTP/1.1", b"X"), BAD_REQUEST),
    "no name": (request(b"GET / HTTP/1.1", b": x"), BAD_REQUEST),
    "space before colon": (request(b"GET / HTTP/1.1", b"X : y"), BAD_REQUEST),
    "space in name": (request(b"GET / HTTP/1.1", b"X y: z"), BAD_REQUEST),
    "folded": (request(b"GET / HTTP/1.1", b"X: y", b" z"), BAD_REQUEST),
    "folded first": (request(b"GET / HTTP/1.1", b" Host: a", host=None), BAD_REQUEST),
    "asterisk for GET": (request(b"GET * HTTP/1.1"), BAD_REQUEST),
    "two lengths": (
        request(b"POST / HTTP/1.1", b"Content-Length: 1", b"Content-Length: 1"),
        BAD_REQUEST,
    ),
    "list of lengths": (
        request(b"POST / HTTP/1.1", b"Content-Length: 1, 1"),
        BAD_REQUEST,
    ),
    "signed length": (request(b"POST / HTTP/1.1", b"Content-Length: +1"), BAD_REQUEST),
    "hex length": (request(b"POST / HTTP/1.1", b"Content-Length: 0x1"), BAD_REQUEST),
    "empty length": (request(b"POST / HTTP/1.1", b"Content-Length:"), BAD_REQUEST),
    "length too long": (
        request(b"POST / HTTP/1.1", b"Content-Length: " + b"1" * 20),
        BAD_REQUEST,
    ),
    "length and encoding": (
        request(
            b"POST / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked"
        ),
        BAD_REQUEST,
    ),
    "two encodings": (
        request(
            b"POST / HTTP/1.1",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked",
        ),
        BAD_REQUEST,
    ),
    "other encoding": (
        request(b"POST / HTTP/1.1", b"Transfer-Encoding: gzip, chunked"),
        BAD_REQUEST,
    ),
    "obscured encoding": (
        request(b"POST / HTTP/1.1", b"Transfer-Encoding: xchunked"),
        BAD_REQUEST,
    ),
    "encoding in 1.0": (
        request(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"),
        BAD_REQUEST,
    ),
    "no host": (request(host=None), BAD_HOST),
    "two hosts": (request(b"GET / HTTP/1.1", b"host: a"), BAD_HOST),
    "two hosts in 1.0": (request(b"GET / HTTP/1.0", b"HOST: b"), BAD_HOST),
    "empty host with another": (
        request(b"GET / HTTP/1.1", b"Host: a", host=b""),
        BAD_HOST,
    ),
    "empty host twice": (request(b"GET / HTTP/1.1", b"Host:", host=b""), BAD_HOST),
    "empty host with a port": (request(host=b":80"), BAD_HOST),
    "empty host in absolute form": (
        request(b"GET http:///x HTTP/1.1", host=b""),
        BAD_HOST,
    ),
    "empty zone": (request(host=b"[fe80::1%]"), BAD_HOST),
    "zone without an address": (request(host=b"[%eth0]"), BAD_HOST),
    "zone outside": (request(host=b"[fe80::1]%eth0"), BAD_HOST),
    "zone with a slash": (request(host=b"[fe80::1%a/b]"), BAD_HOST),
    "list of hosts": (request(host=b"a, b"), BAD_HOST),
    "space in host": (request(host=b"a b"), BAD_HOST),
    "user in host": (request(host=b"u@a"), BAD_HOST),
    "path in host": (request(host=b"a/b"), BAD_HOST),
    "port is no number": (request(host=b"a:b"), BAD_HOST),
    "port too long": (request(host=b"a:123456"), BAD_HOST),
    "port alone": (request(host=b":80"), BAD_HOST),
    "bare v6": (request(host=b"::1"), BAD_HOST),
    "high byte in host": (request(host=b"\xe4"), BAD_HOST),
    "absolute form, other host": (request(b"GET http://b/ HTTP/1.1"), BAD_HOST),
    "absolute form, other port": (request(b"GET http://a:80/ HTTP/1.1"), BAD_HOST),
    "absolute form, user": (request(b"GET http://u@a/ HTTP/1.1"), BAD_HOST),
    "absolute form, no path": (request(b"GET http://a HTTP/1.1"), BAD_HOST),
    "absolute form, query for a path": (request(b"GET http://a?b HTTP/1.1"), BAD_HOST),
    "absolute form, no host header": (
        request(b"GET http://a/ HTTP/1.0", host=None),
        BAD_HOST,
    ),
}
