"""Things that are no ASGI application."""

number = 7


def wsgi(environ, start_response):
    """Serve WSGI."""
    start_response("200 OK", [])
    return []


class Wsgi:
    """WSGI as an object."""

    def __call__(self, environ, start_response):
        """Serve WSGI."""


wsgi_object = Wsgi()
