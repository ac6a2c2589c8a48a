"""
WSGI answers without an end, and long ones: in Flask, in Django, and by hand.

    /events     server-sent events, for ever
    /camera     parts of a picture, for ever
    /written    the same by the callable that start_response gives
    /poll       waits up to ``?for=`` seconds before it answers, as a long poll does
    /ended      how many of the endless answers were closed by now
    /short      an answer shorter than its head says; /long: longer, by many chunks
    /upload     the length of the body
    /           ok
"""

import itertools
import os
import threading
import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from flask import Flask, Response, request

ENDED = []
LOCK = threading.Lock()


def events(form=b"data: %d\n\n"):
    """Say something ever again; note when we are closed."""
    try:
        for number in itertools.count():
            yield form % number
            time.sleep(0.05)
    finally:
        with LOCK:
            ENDED.append(form)


def frames():
    """Send large pieces as fast as they are taken."""
    yield from events(b"--frame\r\n\r\n" + b"x" * 200_000 + b"%d\r\n")


flasky = Flask(__name__)


@flasky.get("/")
def index():
    """Answer at once."""
    return "ok"


@flasky.get("/events")
def flask_events():
    """Stream."""
    return Response(events(), mimetype="text/event-stream")


@flasky.get("/camera")
def flask_camera():
    """Stream much."""
    return Response(frames(), mimetype="multipart/x-mixed-replace; boundary=frame")


@flasky.get("/poll")
def flask_poll():
    """Wait."""
    time.sleep(float(request.args["for"]))
    return "polled"


@flasky.get("/ended")
def flask_ended():
    """Say how many have ended, and in which process."""
    return {"ended": len(ENDED), "pid": os.getpid()}


@flasky.post("/upload")
def flask_upload():
    """Read the body."""
    return str(len(request.get_data()))


if not settings.configured:
    settings.configure(
        SECRET_KEY="no secret",
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        LOGGING_CONFIG=None,
    )
    django.setup()


def django_wait(asked):
    """Wait."""
    time.sleep(float(asked.GET["for"]))
    return HttpResponse("polled")


urlpatterns = [
    path("", lambda asked: HttpResponse("ok")),
    path("events", lambda asked: StreamingHttpResponse(events())),
    path("camera", lambda asked: StreamingHttpResponse(frames())),
    path("poll", django_wait),
    path("ended", lambda asked: JsonResponse({"ended": len(ENDED)})),
    path("upload", lambda asked: HttpResponse(str(len(asked.body)))),
]
djangoed = get_wsgi_application()


def by_hand(environ, start_response):
    """Serve by hand."""
    where = environ["PATH_INFO"]
    length = {"/short": "1000000", "/long": "1"}.get(where)
    headers = [("content-length", length)] if length else []
    write = start_response("200 OK", headers)
    if where == "/written":
        for chunk in events():
            write(chunk)
    if where in ("/events", "/long"):
        return events()
    if where == "/ended":
        return [b'{"ended": %d}' % len(ENDED)]
    return [b"ok"]
