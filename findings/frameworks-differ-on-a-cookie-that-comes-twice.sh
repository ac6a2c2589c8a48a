#!/usr/bin/env bash
# A browser sends "sid=one; sid=two" where a cookie was set for two paths or two domains.
# Werkzeug (Flask) takes the first; Starlette, Django, Tornado and aiohttp take the last.
# RFC 6265 section 5.4 has the more specific path first, section 4.2.2 says that servers
# should not rely on the order. Whoever routes by a cookie has to know what serves behind.
#
# Expected: one rule, or at least the same for all frameworks of one language.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
with_packages starlette==1.10.0 django==5.2.19 werkzeug==3.1.9 tornado==6.6.1 \
  aiohttp==3.14.5 <<'PYTHON'
import sys
from importlib.metadata import version

LINE = "sid=one; sid=two"


def by_starlette():
    from starlette.requests import Request

    headers = [(b"cookie", LINE.encode())]
    return Request({"type": "http", "headers": headers}).cookies["sid"]


def by_django():
    from django.http import parse_cookie

    return parse_cookie(LINE)["sid"]


def by_werkzeug():
    from werkzeug import Request

    return Request({"HTTP_COOKIE": LINE}).cookies["sid"]


def by_tornado():
    from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

    headers = HTTPHeaders({"Host": "x", "Cookie": LINE})
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    request = HTTPServerRequest(start_line=line, headers=headers)
    return request.cookies["sid"].value


def by_aiohttp():
    from aiohttp.test_utils import make_mocked_request

    return make_mocked_request("GET", "/", headers={"Cookie": LINE}).cookies["sid"]


found = {}
for read in (by_starlette, by_django, by_werkzeug, by_tornado, by_aiohttp):
    name = read.__name__.removeprefix("by_")
    found[name] = read()
    print(f"{name} {version(name)}: {LINE!r} is {found[name]!r}")
others = {name: value for name, value in found.items() if name != "werkzeug"}
sys.exit(not (found["werkzeug"] == "one" and set(others.values()) == {"two"}))
PYTHON
