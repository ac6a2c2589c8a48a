"""Django in one file: a counter in the memory of the process, by the path's name."""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(
    SECRET_KEY="no secret", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DEBUG=False
)
django.setup()
COUNTS: dict[str, int] = {}


def count(request, name):
    """Count one more."""
    COUNTS[name] = COUNTS.get(name, 0) + 1
    return JsonResponse({"count": COUNTS[name], "pid": os.getpid()})


urlpatterns = [path("<name>", count)]
app = get_wsgi_application()
