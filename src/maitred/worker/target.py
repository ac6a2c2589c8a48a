"""
Finding the application: ``module:attribute`` from a directory.

Invariant: what goes wrong while the application is imported is the application's to
explain, with its own traceback and without our frames.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from types import TracebackType
from typing import Any, Final

from maitred import logs
from maitred.errors import AppFailed

WSGI_PARAMETERS: Final = 2
ASGI: Final = ("scope", "receive", "send")
"What an application is called with."


def load(target: str, app_dir: str, *, factory: bool = False) -> Any:
    """
    Import the application.

    Args:
        target: ``module:attribute``; both may have dots.
        app_dir: Where its module is looked for first.
        factory: The attribute is a function that makes the application. One that
            takes no arguments can be nothing else, and is called in any case.

    Raises:
        AppFailed: It is not there, or importing or making it failed.
    """
    sys.path.insert(0, os.path.abspath(app_dir))
    name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(name)
    except BaseException as exc:
        why = f"cannot import {name!r} for target {target}: {_one_line(exc)}"
        raise AppFailed(why, _own_traceback(exc)) from exc
    app: Any = module
    for part in attribute.split("."):
        if not hasattr(app, part):
            raise AppFailed(
                f"target {target}: module {name!r} has no attribute {attribute!r}", ""
            )
        app = getattr(app, part)
    made = ""
    if callable(app) and (factory or _takes_nothing(app)):
        if not factory:
            text = "target %s makes the application: say --factory"
            logs.worker.warning(text, target)
        app, made = _made(app, target), "makes something that "
    if callable(app) and _takes_nothing(app):
        raise AppFailed(
            f"target {target} {made}is no ASGI application: it takes no arguments", ""
        )
    if not callable(app):
        raise AppFailed(
            f"target {target} {made}is no ASGI application but of type"
            f" {type(app).__name__}",
            "",
        )
    if _looks_like_wsgi(app):
        raise AppFailed(
            f"target {target} {made}takes (environ, start_response): it is a WSGI"
            " application; wrap it with a2wsgi.WSGIMiddleware to serve it here",
            "",
        )
    return app


def _made(factory: Any, target: str) -> Any:
    """
    Have *factory* make the application.

    Raises:
        AppFailed: It fails, or would leave, or is asynchronous.
    """
    try:
        app = factory()
    except BaseException as exc:
        why = f"target {target} does not make an application: {_one_line(exc)}"
        raise AppFailed(why, _own_traceback(exc)) from exc
    if inspect.iscoroutine(app):
        app.close()
        raise AppFailed(
            f"target {target} is asynchronous: nobody awaits what makes an"
            " application; what takes time belongs in its lifespan startup",
            "",
        )
    return app


def _takes_nothing(app: Any) -> bool:
    """Whether *app*, which can be called, can only be called without arguments."""
    try:
        signature = inspect.signature(app)
        signature.bind()
    except (TypeError, ValueError):
        return False
    with contextlib.suppress(TypeError):
        signature.bind(*ASGI)
        return False
    return True


def _looks_like_wsgi(app: Any) -> bool:
    if inspect.isclass(app):
        return False
    call = app if inspect.isfunction(app) else app.__call__
    if inspect.iscoroutinefunction(call):
        return False
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [
        p
        for p in parameters
        if p.default is p.empty
        and p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}
    ]
    return len(needed) == WSGI_PARAMETERS


def _one_line(exc: BaseException) -> str:
    # The last entry: what comes before it shows where a syntax error is.
    return " ".join(traceback.format_exception_only(exc)[-1].split())


def _own_traceback(exc: BaseException) -> str:
    """Format *exc* without our frames and those of the import machinery at its top."""
    frames: TracebackType | None = exc.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(exc), exc, frames))


def _is_machinery(filename: str) -> bool:
    return filename in {__file__, importlib.__file__} or filename.startswith(
        "<frozen importlib"
    )
