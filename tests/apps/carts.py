"""
Carts in the memory of a process, named by a cookie: with Starlette, and with Flask.

    GET /begin      makes a cart; its name is base64 with padding, which is sent quoted
    GET /add        puts something in; 404 where there is no such cart
    GET /rooms/N    counts the requests of room N
"""

import base64
import os
from collections import Counter

from flask import Flask, jsonify
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

CARTS: Counter[str] = Counter()
ROOMS: Counter[str] = Counter()


def made() -> str:
    """Make a cart."""
    name = base64.b64encode(os.urandom(10)).decode()
    CARTS[name] = 1
    return name


def added(name: str | None) -> tuple[dict[str, object], int]:
    """Put something into cart *name*."""
    if not name or name not in CARTS:
        return {"error": "no such cart", "pid": os.getpid()}, 404
    CARTS[name] += 1
    return {"count": CARTS[name], "pid": os.getpid()}, 200


async def begin(_request):
    """Make a cart."""
    response = JSONResponse({"pid": os.getpid()})
    response.set_cookie("cart", made())
    return response


async def add(request):
    """Put something in."""
    return JSONResponse(*added(request.cookies.get("cart")))


async def room(request):
    """Count."""
    name = request.path_params["name"]
    ROOMS[name] += 1
    return JSONResponse({"room": name, "count": ROOMS[name], "pid": os.getpid()})


app = Starlette(
    routes=[Route("/begin", begin), Route("/add", add), Route("/rooms/{name}", room)]
)

wsgi = Flask(__name__)


@wsgi.get("/begin")
def flask_begin():
    """Make a cart."""
    response = jsonify(pid=os.getpid())
    response.set_cookie("cart", made())
    return response


@wsgi.get("/add")
def flask_add():
    """Put something in."""
    return added(flask_request.cookies.get("cart"))


@wsgi.get("/header")
def flask_header():
    """Count by a header."""
    name = flask_request.headers.get("X-Session", "")
    ROOMS[name] += 1
    return {"room": name, "count": ROOMS[name], "pid": os.getpid()}
