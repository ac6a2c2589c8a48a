"""
Users in the memory of a process, whose cookie is signed anew with every answer.

As with Starlette's SessionMiddleware and Flask's sessions: the cookie carries the
user's name, and is another one each time.
"""

import itertools
import os
from collections import Counter

from flask import Flask
from flask import session as flask_session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

VISITS: Counter[str] = Counter()
NUMBERS = itertools.count()


def visit(session):
    """Count a visit of the user in *session*, who is made if there is none."""
    user = session.setdefault("user", os.urandom(8).hex())
    session["number"] = next(NUMBERS)
    VISITS[user] += 1
    return {"user": user, "count": VISITS[user], "pid": os.getpid()}


async def index(request):
    """Visit."""
    return JSONResponse(visit(request.session))


app = Starlette(
    routes=[Route("/", index)],
    middleware=[Middleware(SessionMiddleware, secret_key="secret")],
)

wsgi = Flask(__name__)
wsgi.secret_key = "secret"


@wsgi.get("/")
def flask_index():
    """Visit."""
    return visit(flask_session)
