"""
How frameworks read a request: what they say of a cookie, a parameter, a path, a header.

Each reader is the framework's own code, called with a request in the form in which the
framework gets it: an ASGI scope as uvicorn makes it, a WSGI environment as a2wsgi makes
it of that, or text. A reader gives text; None where the framework finds nothing, or
answers with an error of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.cookies
import io
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, Final

import django.conf
import tornado.httputil
import tornado.routing
import tornado.web
import werkzeug.exceptions
from a2wsgi.asgi_typing import HTTPScope
from a2wsgi.wsgi import Body, build_environ
from aiohttp import hdrs, web
from aiohttp.test_utils import make_mocked_request
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.urls import path as django_path
from django.urls.exceptions import Resolver404
from django.urls.resolvers import RegexPattern, URLResolver
from multidict import CIMultiDict
from starlette.requests import Request
from starlette.routing import Match, Route
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request as WerkzeugRequest
from yarl import URL

Header = tuple[bytes, bytes]

if not django.conf.settings.configured:
    django.conf.settings.configure(ALLOWED_HOSTS=["*"])


class Spelled:
    """One request, in the forms in which frameworks get it."""

    def __init__(self, target: bytes = b"/", headers: Sequence[Header] = ()) -> None:
        """Spell a GET of *target* with *headers*, names as sent."""
        self.target = target
        self.headers = [(name, value.strip(b" \t")) for name, value in headers]
        raw_path, _, query = target.partition(b"?")
        text = raw_path.decode("ascii")
        self.scope: Any = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "root_path": "",
            # As uvicorn's httptools_impl.py does.
            "path": urllib.parse.unquote(text) if "%" in text else text,
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(name.lower(), value) for name, value in self.headers],
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 5),
        }

    @property
    def starlette(self) -> Request:
        """Return what Starlette and FastAPI get."""
        return Request(self.scope)

    @property
    def environ(self) -> Any:
        """Return what WSGI applications get."""
        scope: HTTPScope = self.scope
        body: Body = None  # type: ignore[assignment]
        return build_environ(scope, body)

    @property
    def django_asgi(self) -> HttpRequest:
        """Return what Django gets as an ASGI application."""
        return ASGIRequest(self.scope, None)

    @property
    def django_wsgi(self) -> HttpRequest:
        """Return what Django gets as a WSGI application."""
        return WSGIRequest({**self.environ, "wsgi.input": io.BytesIO()})

    @property
    def werkzeug(self) -> WerkzeugRequest:
        """Return what Flask gets."""
        return WerkzeugRequest(self.environ)

    @property
    def tornado(self) -> tornado.httputil.HTTPServerRequest:
        """Return what Tornado gets."""
        headers = tornado.httputil.HTTPHeaders({"Host": "a"})
        for name, value in self.headers:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        target = self.target.decode()
        line = tornado.httputil.RequestStartLine("GET", target, "HTTP/1.1")
        return tornado.httputil.HTTPServerRequest(
            start_line=line, headers=headers, connection=FakeTornado()
        )

    @property
    def aiohttp(self) -> web.Request:
        """Return what aiohttp gets."""
        pairs = [
            (name.decode("latin-1"), value.decode("utf-8", "replace"))
            for name, value in self.headers
        ]
        request = make_mocked_request(hdrs.METH_GET, "/", CIMultiDict(pairs))
        # As its http_parser.py does.
        path, _, query = self.target.decode("ascii").partition("?")
        url = URL.build(path=path, query_string=query, encoded=True)
        return request.clone(rel_url=url)

    def header_text(self, name: bytes, sep: str) -> str:
        """Return the values of *name*, joined."""
        values = [v for n, v in self.headers if n.lower() == name]
        return sep.join(value.decode("latin-1") for value in values)


class FakeTornado:
    """A connection of which Tornado asks its context."""

    context = None
    no_keep_alive = False

    def set_close_callback(self, _callback: object) -> None:
        """Ignore the callback: this connection is never closed."""


def or_none(read: Callable[[], str | None], *errors: type[Exception]) -> str | None:
    """Return what *read* returns; None where the framework refuses the request."""
    try:
        return read()
    except errors:
        return None


def morsel(request: Spelled, name: str) -> str | None:
    """Read a cookie as http.cookies does, one line after another."""
    jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
    for line in request.header_text(b"cookie", "\n").split("\n"):
        with contextlib.suppress(http.cookies.CookieError):
            jar.load(line)
    return jar[name].value if name in jar else None


Reader = Callable[[Spelled, str], str | None]

COOKIES: Final[dict[str, Reader]] = {
    "starlette": lambda r, name: r.starlette.cookies.get(name),
    "django asgi": lambda r, name: r.django_asgi.COOKIES.get(name),
    "django wsgi": lambda r, name: r.django_wsgi.COOKIES.get(name),
    "werkzeug": lambda r, name: or_none(
        lambda: r.werkzeug.cookies.get(name), UnicodeError
    ),
    "tornado": lambda r, name: tornado.httputil.parse_cookie(
        r.header_text(b"cookie", "; ")
    ).get(name),
    "aiohttp": lambda r, name: r.aiohttp.cookies.get(name),
    "http.cookies": morsel,
}
"What reads a cookie, once each."

QUERIES: Final[dict[str, Reader]] = {
    "starlette": lambda r, name: r.starlette.query_params.get(name),
    "django asgi": lambda r, name: r.django_asgi.GET.get(name),
    "django wsgi": lambda r, name: r.django_wsgi.GET.get(name),
    "werkzeug": lambda r, name: r.werkzeug.args.get(name),
    "tornado": lambda r, name: or_none(
        lambda: tornado.web.RequestHandler.get_query_argument(
            TornadoHandler(r.tornado), name, None
        ),
        tornado.web.HTTPError,
    ),
    "aiohttp": lambda r, name: r.aiohttp.query.get(name),
    "urllib, last": lambda r, name: dict(
        urllib.parse.parse_qsl(r.scope["query_string"].decode())
    ).get(name),
    "urllib, first": lambda r, name: urllib.parse.parse_qs(
        r.scope["query_string"].decode()
    ).get(name, [None])[0],
}
"What reads a query parameter."


class TornadoHandler(tornado.web.RequestHandler):
    """A handler without an application, of which arguments are asked."""

    def __init__(self, request: tornado.httputil.HTTPServerRequest) -> None:
        """Start with the *request* alone."""
        self.request = request
        self.path_args: list[str] = []


HEADERS: Final[dict[str, Reader]] = {
    "starlette": lambda r, name: r.starlette.headers.get(name),
    "django asgi": lambda r, name: r.django_asgi.headers.get(name),
    "django wsgi": lambda r, name: r.django_wsgi.headers.get(name),
    "werkzeug": lambda r, name: r.werkzeug.headers.get(name),
    "tornado": lambda r, name: r.tornado.headers.get(name),
    "aiohttp": lambda r, name: r.aiohttp.headers.get(name),
}
"What reads a header."


async def nothing(_request: web.Request) -> web.Response:
    """Answer with nothing."""
    return web.Response()


# Paths: what stands for NAME in /rooms/NAME, which is the second segment.

STARLETTE: Final = Route("/rooms/{name}", lambda _: None)
WERKZEUG: Final = Map([Rule("/rooms/<name>", endpoint="rooms")])
DJANGO: Final = URLResolver(
    RegexPattern(r"^/"), [django_path("rooms/<str:name>", lambda _: None)]
)
TORNADO: Final = tornado.routing.PathMatches(r"/rooms/([^/]+)")
AIOHTTP: Final = web.UrlDispatcher()
AIOHTTP.add_get("/rooms/{name}", nothing)


def starlette_path(request: Spelled) -> str | None:
    """Route as Starlette does."""
    match, scope = STARLETTE.matches(request.scope)
    return scope["path_params"]["name"] if match is Match.FULL else None


def django_wsgi_path(request: Spelled) -> str | None:
    """Route as Django does."""
    path = request.django_wsgi.path_info
    return or_none(lambda: DJANGO.resolve(path).kwargs["name"], Resolver404)


def django_asgi_path(request: Spelled) -> str | None:
    """Route as Django does, as an ASGI application."""
    path = request.django_asgi.path_info
    return or_none(lambda: DJANGO.resolve(path).kwargs["name"], Resolver404)


def werkzeug_path(request: Spelled) -> str | None:
    """Route as Flask does; a redirect is no reading."""
    adapter = WERKZEUG.bind_to_environ(request.environ)
    return or_none(
        lambda: adapter.match()[1]["name"], werkzeug.exceptions.HTTPException
    )


def tornado_path(request: Spelled) -> str | None:
    """Route as Tornado does."""
    found = TORNADO.match(request.tornado)
    # As its decode_argument does: what is no UTF-8 is answered with 400.
    value = found["path_args"][0] if found else b""
    return or_none(value.decode, UnicodeError)


def aiohttp_path(request: Spelled) -> str | None:
    """Route as aiohttp does."""
    found = asyncio.run(AIOHTTP.resolve(request.aiohttp))
    return None if found.http_exception else found["name"]


PATHS: Final[dict[str, Callable[[Spelled], str | None]]] = {
    "starlette": starlette_path,
    "django asgi": django_asgi_path,
    "django wsgi": django_wsgi_path,
    "werkzeug": werkzeug_path,
    "tornado": tornado_path,
    "aiohttp": aiohttp_path,
}
"What reads a path."
