"""
Four applications whose users are told apart by a cookie, each in its framework's way.

Each counts the visits of a user in the memory of its process, and answers with the
count and its pid. The session's cookie changes with every answer where the framework
signs what it holds.
"""

import os
import uuid

import django
import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse as DjangoResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

COUNTS: dict[str, int] = {}


def counted(user):
    """Return what the answer says after one more visit of *user*."""
    COUNTS[user] = COUNTS.get(user, 0) + 1
    return {"count": COUNTS[user], "pid": os.getpid()}


async def visit_starlette(request):
    """Count in the session of Starlette's own middleware, and write to it."""
    user = request.session.setdefault("user", uuid.uuid4().hex)
    said = counted(user)
    request.session["visits"] = said["count"]
    return JSONResponse(said)


starlette = Starlette(
    routes=[Route("/", visit_starlette)],
    middleware=[Middleware(SessionMiddleware, secret_key="no secret")],
)


async def visit_by_own_cookie(request):
    """Count by a cookie that the application makes once."""
    user = request.cookies.get("cart") or uuid.uuid4().hex
    response = JSONResponse(counted(user))
    response.set_cookie("cart", user)
    return response


own = Starlette(routes=[Route("/", visit_by_own_cookie)])

flasky = flask.Flask(__name__)
flasky.secret_key = "no secret"


@flasky.get("/")
def visit_flask():
    """Count in Flask's session, and write to it."""
    user = flask.session.setdefault("user", uuid.uuid4().hex)
    said = counted(user)
    flask.session["visits"] = said["count"]
    return said


settings.configure(
    SECRET_KEY="no secret",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    # Sessions in the memory of the process, as Django's cache is by default.
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()


def visit_django(request):
    """Count in Django's session, which lives in this process too."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return DjangoResponse({"count": request.session["visits"], "pid": os.getpid()})


urlpatterns = [path("", visit_django)]
djangoed = get_wsgi_application()
