"""
Finding the application: ``module:attribute`` from a directory.

Invariant: what goes wrong while the application is imported is the application's to
explain, with its own traceback and without our frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from maitred import logs
from maitred.config import HTTP_KINDS
from maitred.errors import AppFailed

WSGI: Final = ("environ", "start_response")
ASGI: Final = ("scope", "receive", "send")
"What applications are called with."


def look_in(app_dir: str) -> None:
    """Put *app_dir* first where modules are looked for."""
    path = os.path.abspath(app_dir)
    if sys.path[:1] != [path]:
        sys.path.insert(0, path)


def load(
    target: str, app_dir: str, *, kind: str = "asgi", factory: bool = False
) -> Any:
    """
    Import the application, and return it.

    Args:
        target: ``module:attribute``; both may have dots.
        app_dir: Where its module is looked for first.
        kind: What it is (``config.KINDS``).
        factory: The attribute is a function that makes the application. One that
            takes no arguments can be nothing else, and is called in any case.

    Raises:
        AppFailed: It is not there, or importing or making it failed.
    """
    look_in(app_dir)
    name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(name)
    except BaseException as exc:
        # SystemExit too: whoever calls sys.exit() while it is imported has failed.
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
    # Not for other kinds, where a class without arguments is the application.
    makes = factory or (kind in HTTP_KINDS and _takes_nothing(app))
    if callable(app) and makes:
        if not factory:
            text = "target %s makes the application: say --factory"
            logs.worker.warning(text, target)
        app, made = _made(app, target), "makes something that "
    if wrong := CHECKS[kind](app):
        raise AppFailed(f"target {target} {made}{wrong}", "")
    return app


def _is_no_asgi(app: Any) -> str:
    """Return why *app* is no ASGI application; empty: it may be one."""
    if not callable(app):
        return f"is no ASGI application but of type {type(app).__name__}"
    if _takes_nothing(app):
        return "is no ASGI application: it takes no arguments"
    if _looks_like_wsgi(app):
        return (
            "takes (environ, start_response): it is a WSGI application; say --kind wsgi"
        )
    return ""


def _is_no_wsgi(app: Any) -> str:
    """Return why *app* is no WSGI application; empty: it may be one."""
    if not callable(app):
        return f"is no WSGI application but of type {type(app).__name__}"
    if _takes(app, *WSGI):
        return ""
    if _takes(app, *ASGI):
        return (
            "takes (scope, receive, send): it is an ASGI application; say --kind asgi"
        )
    return "is no WSGI application: it does not take (environ, start_response)"


def _is_no_coroutine(kind: str, *arguments: str) -> Callable[[Any], str]:
    """Return what checks whether something is an async function of *arguments*."""
    taken = ", ".join(arguments)

    def why(app: Any) -> str:
        """Return why *app* is none, nor a class of such; empty: it may be one."""
        is_class = inspect.isclass(app)
        if is_class and not _takes(app):
            return f"is a class that needs arguments: each connection has a {kind} made"
        call = app if inspect.isroutine(app) else getattr(app, "__call__", app)  # noqa: B004 - its code is wanted
        if not inspect.iscoroutinefunction(call):
            return f"is no {kind}: `async def {kind}({taken})`, or a class of such"
        if not _takes(call, *(["self"] if is_class else []), *arguments):
            return f"is no {kind}: it does not take ({taken})"
        return ""

    return why


def _is_no_protocol(app: Any) -> str:
    """Return why *app* makes no ``asyncio.Protocol``; empty: it may."""
    if not callable(app) or not _takes(app):
        return (
            "makes no protocol: a class, or a function without arguments, that gives an"
            " asyncio.Protocol is needed"
        )
    if inspect.isclass(app) and not issubclass(app, asyncio.BaseProtocol):
        return f"is class {app.__name__}, which is no asyncio.Protocol"
    return ""


def _is_no_function(app: Any) -> str:
    """Return why *app* cannot be called with a socket; empty: it may."""
    if not callable(app) or not _takes(app, "socket"):
        return "is no function of a socket: it does not take one argument"
    if inspect.iscoroutinefunction(app):
        return "is asynchronous: say --kind handler, or give a plain function"
    return ""


CHECKS: Final[Mapping[str, Callable[[Any], str]]] = {
    "asgi": _is_no_asgi,
    "wsgi": _is_no_wsgi,
    "websocket": _is_no_coroutine("websocket", "websocket"),
    "handler": _is_no_coroutine("handler", "reader", "writer"),
    "protocol": _is_no_protocol,
    "socket": _is_no_function,
}
"By kind, what says why something is no application of it."


def _made(factory: Any, target: str) -> Any:
    """
    Call *factory*, and return the application that it makes.

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
    """Return whether *app*, which can be called, takes no arguments at all."""
    try:
        signature = inspect.signature(app)
        signature.bind()
    except (TypeError, ValueError):
        return False
    with contextlib.suppress(TypeError):
        signature.bind(*ASGI)
        return False
    return True


def _takes(app: Any, *arguments: str) -> bool:
    """Return whether *app* can be called with so many arguments, as far as it says."""
    try:
        inspect.signature(app).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        # What is written in C may have no signature; it is tried.
        return True
    return True


def _looks_like_wsgi(app: Any) -> bool:
    """Return whether *app* needs two arguments, and is not async."""
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
    return len(needed) == len(WSGI)


def _one_line(exc: BaseException) -> str:
    # The last entry: what comes before it shows where a syntax error is.
    return " ".join(traceback.format_exception_only(exc)[-1].split())


def _own_traceback(exc: BaseException) -> str:
    """Return *exc* as text, without our frames and those of the import machinery."""
    frames: TracebackType | None = exc.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(exc), exc, frames))


def _is_machinery(filename: str) -> bool:
    return filename in {__file__, importlib.__file__} or filename.startswith(
        "<frozen importlib"
    )
