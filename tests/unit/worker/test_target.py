"""Finding the application: every sentence, and whose frames a traceback shows."""

import sys
import textwrap

import pytest

from maitred.errors import AppFailed
from maitred.worker import target


@pytest.fixture
def app_dir(tmp_path, monkeypatch):
    """A directory to put applications in; what is imported from it is forgotten."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(app_dir):
    """Write an application's module."""

    def write(name, source):
        path = app_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))

    return write


def failure(what, app_dir):
    """Load *what* and give its failure."""
    with pytest.raises(AppFailed) as failed:
        target.load(what, str(app_dir))
    return failed.value


ASGI = "async def app(scope, receive, send): ..."


def test_function_is_found(app_dir, write):
    """The application comes from the directory that was named."""
    write("plain.py", ASGI)
    assert target.load("plain:app", str(app_dir)).__name__ == "app"


def test_dots_lead_deeper(app_dir, write):
    """Modules and attributes may both be deep."""
    write("parts/__init__.py", "")
    write("parts/web.py", f"{ASGI}\nclass site:\n    main = staticmethod(app)")
    assert target.load("parts.web:site.main", str(app_dir)).__name__ == "app"


def test_directory_comes_first(app_dir, write):
    """What is in the directory wins over what is installed under the same name."""
    write("calendar_of_mine.py", ASGI)
    target.load("calendar_of_mine:app", str(app_dir))
    assert sys.path[0] == str(app_dir)


@pytest.mark.parametrize(
    "source",
    [
        "def app(scope, receive, send): ...",
        "def app(scope): ...",  # ASGI 2
        "def app(*args): ...",
        "class app:\n def __init__(self, scope): ...",
        "class app:\n def __init__(self, environ, start_response): ...",
        "class A:\n async def __call__(self, scope, receive, send): ...\napp = A()",
        "class A:\n async def __call__(self, one, two): ...\napp = A()",
        "import functools\nasync def f(a, b, c, d): ...\napp = functools.partial(f, 1)",
    ],
)
def test_callables_of_other_shapes_are_the_servers_business(app_dir, write, source):
    """Only what is WSGI for certain is refused here."""
    write("shape.py", source)
    assert callable(target.load("shape:app", str(app_dir)))


def test_callable_without_a_signature_is_the_servers_business(app_dir, write):
    """What cannot be looked into is not guessed about."""
    write("odd.py", "class A:\n __signature__ = 1\n def __call__(self): ...\napp = A()")
    assert callable(target.load("odd:app", str(app_dir)))


@pytest.mark.parametrize(
    "source",
    [
        "def app(environ, start_response): ...",
        "def app(environ, start_response, extra=None): ...",
        "class A:\n def __call__(self, environ, start_response): ...\napp = A()",
        "class A:\n def wsgi(self, environ, start_response): ...\napp = A().wsgi",
    ],
)
def test_wsgi_is_refused_with_a_way_out(app_dir, write, source):
    """Two parameters, and no coroutine: the operator learns what to do."""
    write("flasky.py", source)
    failed = failure("flasky:app", app_dir)
    assert failed.why == (
        "target flasky:app takes (environ, start_response): it is a WSGI application;"
        " say --kind wsgi"
    )
    assert failed.traceback == ""


def test_missing_module_is_said(app_dir):
    """No traceback is needed to understand that a module is not there."""
    failed = failure("nowhere_at_all:app", app_dir)
    assert failed.why == (
        "cannot import 'nowhere_at_all' for target nowhere_at_all:app:"
        " ModuleNotFoundError: No module named 'nowhere_at_all'"
    )
    assert failed.traceback == (
        "ModuleNotFoundError: No module named 'nowhere_at_all'\n"
    )


def test_missing_attribute_is_said(app_dir, write):
    """Module and attribute are named."""
    write("almost.py", "class site: ...")
    assert failure("almost:ap", app_dir).why == (
        "target almost:ap: module 'almost' has no attribute 'ap'"
    )
    assert failure("almost:site.main", app_dir).why == (
        "target almost:site.main: module 'almost' has no attribute 'site.main'"
    )


def test_what_cannot_be_called_is_said(app_dir, write):
    """A number is no application."""
    write("number.py", "app = 42")
    assert failure("number:app", app_dir).why == (
        "target number:app is no ASGI application but of type int"
    )


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "import not_installed",
            "ModuleNotFoundError: No module named 'not_installed'",
        ),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("class E(BaseException): ...\nraise E('mine')", "broken.E: mine"),
    ],
)
def test_module_that_fails_says_why(app_dir, write, source, line):
    """Whatever the application raises while it is imported becomes one sentence."""
    write("broken.py", source)
    failed = failure("broken:app", app_dir)
    assert failed.why == f"cannot import 'broken' for target broken:app: {line}"
    assert failed.traceback.splitlines()[-1] == line


def test_traceback_is_the_applications_own(app_dir, write):
    """Neither our frames nor those of the import machinery stand above its own."""
    write("outer.py", "import inner")
    write("inner.py", "def work():\n    raise ValueError('deep')\n\nwork()")
    lines = failure("outer:app", app_dir).traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{app_dir}/outer.py", line 1, in <module>'
    assert f'  File "{app_dir}/inner.py", line 2, in work' in lines
    assert target.__file__ not in "\n".join(lines)
    assert lines[-1] == "ValueError: deep"


def test_cause_of_a_failure_is_shown(app_dir, write):
    """An error that was raised from another one is told with it."""
    write(
        "chained.py",
        """
        try:
            {}["secret"]
        except KeyError as exc:
            raise RuntimeError("not configured") from exc
        """,
    )
    text = failure("chained:app", app_dir).traceback
    assert "KeyError: 'secret'" in text
    assert text.endswith("RuntimeError: not configured\n")


FACTORIES = f"""\
{ASGI}
def makes(): return app
def nothing(): return None
def leaves(): raise SystemExit("no licence")
def stops(): raise KeyboardInterrupt
def wants(more): return app
def twice(): return makes
def wsgi(): return lambda environ, start_response: None
async def waits(): return app
class Fails:
    def __init__(self): raise ValueError("no room")
"""


@pytest.mark.parametrize("factory", [True, False])
def test_function_makes_the_application(app_dir, write, factory):
    """What takes no arguments can be nothing else, whether that was said or not."""
    write("factories.py", FACTORIES)
    app = target.load("factories:makes", str(app_dir), factory=factory)
    assert app.__name__ == "app"


@pytest.mark.parametrize("factory", [True, False])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", "makes something that is no ASGI application but of type NoneType"),
        ("leaves", "does not make an application: SystemExit: no licence"),
        ("stops", "does not make an application: KeyboardInterrupt"),
        ("twice", "makes something that is no ASGI application: it takes no arguments"),
        ("wsgi", "makes something that takes (environ, start_response): it is a WSGI"),
        ("waits", "is asynchronous: nobody awaits what makes an application"),
        ("Fails", "does not make an application: ValueError: no room"),
    ],
)
def test_function_that_makes_no_application_is_said(
    app_dir, write, name, sentence, factory
):
    """However it fails: a worker that only left would be started again for ever."""
    write("factories.py", FACTORIES)
    with pytest.raises(AppFailed) as failed:
        target.load(f"factories:{name}", str(app_dir), factory=factory)
    assert str(failed.value).startswith(f"target factories:{name} {sentence}")


def test_function_that_wants_arguments_makes_nothing(app_dir, write):
    """Nobody would know which."""
    write("factories.py", FACTORIES)
    with pytest.raises(AppFailed, match="missing 1 required positional argument"):
        target.load("factories:wants", str(app_dir), factory=True)


KINDS_SOURCE = """
import asyncio
def wsgi(environ, start_response): ...
async def asgi(scope, receive, send): ...
async def handler(reader, writer): ...
async def websocket(ws): ...
def function(sock): ...
class Protocol(asyncio.Protocol): ...
class Plain: ...
class Handler:
    async def __call__(self, reader, writer): ...
class Needs:
    def __init__(self, what): ...
    async def __call__(self, reader, writer): ...
def make_handler(): return handler
def make_protocol(): return Protocol()
number = 7
"""

FIT = [
    ("wsgi", "wsgi"), ("asgi", "asgi"), ("handler", "handler"), ("handler", "Handler"),
    ("websocket", "websocket"), ("socket", "function"), ("protocol", "Protocol"),
    ("protocol", "make_protocol"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), FIT)
def test_what_fits_its_kind_is_loaded(app_dir, write, kind, name):
    """As it is: nothing is called before there is a connection."""
    write("kindly.py", KINDS_SOURCE)
    app = target.load(f"kindly:{name}", str(app_dir), kind=kind)
    assert app.__name__ == name


def test_factory_makes_any_kind(app_dir, write):
    """If that is said; else nobody could tell it from the thing itself."""
    write("kindly.py", KINDS_SOURCE)
    app = target.load("kindly:make_handler", str(app_dir), kind="handler", factory=True)
    assert app.__name__ == "handler"


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("wsgi", "asgi", "takes (scope, receive, send): it is an ASGI application"),
        ("wsgi", "number", "is no WSGI application but of type int"),
        ("wsgi", "function", "does not take (environ, start_response)"),
        ("handler", "function", "is no handler: `async def handler(reader, writer)`"),
        ("handler", "websocket", "is no handler: it does not take (reader, writer)"),
        ("handler", "Needs", "is a class that needs arguments"),
        ("handler", "number", "is no handler: `async def"),
        ("websocket", "handler", "is no websocket: it does not take (websocket)"),
        ("protocol", "function", "makes no protocol"),
        ("protocol", "Plain", "is class Plain, which is no asyncio.Protocol"),
        ("socket", "websocket", "is asynchronous: say --kind handler"),
        ("socket", "wsgi", "is no function of a socket"),
    ],
)
def test_what_does_not_fit_its_kind_is_said(app_dir, write, kind, name, sentence):
    """One sentence, without a traceback."""
    write("kindly.py", KINDS_SOURCE)
    with pytest.raises(AppFailed) as failed:
        target.load(f"kindly:{name}", str(app_dir), kind=kind)
    assert sentence in failed.value.why
    assert failed.value.traceback == ""
