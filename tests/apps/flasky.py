"""Flask: a counter in the memory of the process, by the name in the path."""

import os

from flask import Flask

COUNTS: dict[str, int] = {}
app = Flask(__name__)


@app.get("/<name>")
def count(name):
    """Count one more."""
    COUNTS[name] = COUNTS.get(name, 0) + 1
    return {"count": COUNTS[name], "pid": os.getpid()}


@app.post("/<name>")
def hear(name):
    """Say how long the body is."""
    from flask import request

    return {"size": len(request.get_data()), "name": name}
