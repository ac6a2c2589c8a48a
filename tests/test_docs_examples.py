"""
What the documentation shows, done: its programs are served and its commands run.

A page is read from top to bottom. Its blocks mean:

    ```python title="app.py"    a file
    ```console                  lines with ``$`` are commands, the others what they say;
                                ``^C`` stops the server
    ```log                      lines that the server logs from here on
    ```text and others          not checked

Ports, pids, names of sessions and times differ from run to run. A page may show any;
what is the same on the page must be the same in the run. So a page that shows one pid
twice claims, and this test checks, that the same process answered twice.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from driver import DEADLINE, Maitred, wait_until

ROOT = Path(__file__).parents[1]
# Their pages need the frameworks themselves, which script/test-frameworks installs.
FRAMEWORKS = {path.name for path in (ROOT / "frameworks").iterdir() if path.is_dir()}
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if page.stem not in FRAMEWORKS
    and "$ maitred serve" in page.read_text(encoding="utf-8")
)
BLOCK = re.compile(r'(?ms)^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$')
# Means the same wherever it stands on the page; and what does not.
NAME = r"[0-9a-f]{32}|(?<!\d)\d{4,6}(?!\d)"
VARIABLE = re.compile(rf"{NAME}|slot \d+|draining \d+ workers|\d+\.\d+ s")
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", re.MULTILINE)
PORT = "8000"
CURL_WITH_VALUE = {
    "-X": "method",
    "-H": "header",
    "-d": "body",
    "-b": "cookies",
    "-c": "jar",
}


class Page:
    """A page that is being followed, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        """Begin with nothing served and nothing known."""
        self.directory = directory
        self.server: Maitred | None = None
        self.servers = 0
        self.logged = 0  # characters of the server's log that were shown
        self.meaning: dict[str, str] = {}  # what stands on the page: what it is here

    def follow(self, text: str) -> None:
        """Do everything that *text* shows."""
        for language, title, content in BLOCK.findall(text):
            if title:
                (self.directory / title).write_text(content, encoding="utf-8")
            elif language == "console":
                for command, expected in dialogue(content):
                    self.run(command, expected)
            elif language == "log":
                self.expect_log(content)

    def run(self, command: str, expected: str) -> None:
        """Run *command*, and compare what it says with *expected*."""
        words = shlex.split(self.here(command))
        match words:
            case ["maitred", "serve", target, *options]:
                self.serve(target, options)
                self.expect_log(expected)
            case ["^C"]:
                self.end(signal.SIGINT)
                self.expect_log(expected)
            case ["curl", *arguments]:
                self.compare(curl(arguments, self.directory), expected)
            case ["kill", number, pid]:
                subprocess.run(["kill", number, pid], check=True)
            case ["python", program, *arguments]:
                self.compare(self.python(program, arguments), expected)
            case _:
                pytest.fail(f"this test does not know how to run: {command}")

    def python(self, program: str, arguments: list[str]) -> str:
        """Run *program*, a file of the page; give what it prints."""
        answer = subprocess.run(
            [sys.executable, self.ported(program), *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def serve(self, target: str, options: list[str]) -> None:
        """Start the real command, on a free port."""
        self.end(signal.SIGTERM)
        self.servers += 1
        place = self.directory / str(self.servers)
        place.mkdir()
        workers = 4
        if "--workers" in options:
            at = options.index("--workers")
            workers = int(options[at + 1])
            del options[at : at + 2]
        self.server = Maitred(
            target,
            *options,
            "--drain-timeout",
            "3",
            tmp_path=place,
            workers=workers,
            cwd=self.directory,
        ).ready()
        self.meaning[PORT] = str(self.server.port)
        self.logged = 0

    def end(self, number: int) -> None:
        """Stop the server, if there is one, and see that nothing is left."""
        if self.server is not None and self.server.process.poll() is None:
            assert self.server.stop(number) == 0, self.server.log
            # The page itself shows what went wrong on purpose.
            self.server.expect_log(r"was ended by SIGKILL")
            # The MCP SDK answers once more where its stream is ended (HTTP+SSE).
            self.server.expect_log("Exception in ASGI|Traceback|Expected ASGI message")
            self.server.expect_log("returned without completing response")
            self.server.check()

    def expect_log(self, expected: str) -> None:
        """Wait until the server has logged every line of *expected*, in this order."""
        server = self.server
        assert server is not None
        for line in filter(None, map(str.strip, expected.splitlines())):
            pattern = self.pattern(TIME.sub("", line))
            found = wait_until(
                f"{line!r} in\n{server.log}",
                lambda pattern=pattern: pattern.search(server.log, self.logged),
            )
            self.learn(line, found[0])
            self.logged = found.end()

    def compare(self, said: str, expected: str) -> None:
        """Hold what a command *said* against what the page shows."""
        assert not expected or self.pattern(expected.strip()).fullmatch(said.strip()), (
            f"the page shows\n{expected}\nand the command said\n{said}"
        )
        self.learn(expected, said)

    def pattern(self, shown: str) -> re.Pattern[str]:
        """Make a pattern of what is *shown*: what varies may, unless it is known."""
        pieces = []
        end = 0
        for found in VARIABLE.finditer(shown):
            pieces.append(re.escape(shown[end : found.start()]))
            known = self.meaning.get(found[0])
            pieces.append(re.escape(known) if known else f"(?:{kind(found[0])})")
            end = found.end()
        return re.compile("".join([*pieces, re.escape(shown[end:])]))

    def learn(self, shown: str, said: str) -> None:
        """Remember what each variable piece on the page is in this run."""
        pieces = VARIABLE.findall(TIME.sub("", shown))
        for piece, real in zip(pieces, VARIABLE.findall(said), strict=False):
            if re.fullmatch(NAME, piece):
                assert self.meaning.setdefault(piece, real) == real

    def here(self, text: str) -> str:
        """Say *text*, from the page, with the values of this run."""
        return VARIABLE.sub(lambda found: self.meaning.get(found[0], found[0]), text)

    def ported(self, program: str) -> str:
        """Give a copy of *program* that knows the port of this run."""
        text = (self.directory / program).read_text(encoding="utf-8")
        copy = self.directory / f"here_{program}"
        text = text.replace(f":{PORT}", f":{self.meaning[PORT]}")
        copy.write_text(text, encoding="utf-8")
        return copy.name


def dialogue(content: str) -> list[tuple[str, str]]:
    """Give each command of a console block with what it says."""
    parts: list[tuple[str, str]] = []
    for line in content.replace("\\\n", "").splitlines(keepends=True):
        if line.startswith("$ ") or line == "^C\n":
            parts.append((line.removeprefix("$ ").strip(), ""))
        else:
            command, said = parts.pop()
            parts.append((command, said + line))
    return parts


def kind(piece: str) -> str:
    """Give a pattern of what may stand where *piece* stands."""
    if re.fullmatch("[0-9a-f]{32}", piece):
        return "[0-9a-f]{32}"
    return re.sub(r"\d+", lambda _: r"\d+", re.escape(piece).replace(r"\.", "."))


def curl(arguments: list[str], directory: Path) -> str:
    """Do what curl does with the few options that the documentation uses."""
    method, headers, body, url = "GET", {}, None, ""
    cookies: dict[str, str] = {}
    jar = None
    words = iter(arguments)
    for word in words:
        match CURL_WITH_VALUE.get(word):
            case "method":
                method = next(words)
            case "header":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "body":
                body = next(words)
            case "cookies":
                cookies = json.loads((directory / next(words)).read_text())
            case "jar":
                jar = directory / next(words)
            case None:
                assert not word.startswith("-"), f"curl {word}"
                url = word
    if body is not None and method == "GET":
        method = "POST"
    with httpx.Client(cookies=cookies, timeout=DEADLINE) as client:
        said = client.request(method, url, headers=headers, content=body).text
        if jar is not None:
            kept = {cookie.name: cookie.value for cookie in client.cookies.jar}
            jar.write_text(json.dumps(kept))
    return said


@pytest.mark.integration
@pytest.mark.parametrize("name", PAGES)
def test_page_is_true(name: str, tmp_path: Path):
    """Whoever follows a page sees what the page shows."""
    page = Page(tmp_path)
    try:
        page.follow((ROOT / name).read_text(encoding="utf-8"))
        page.end(signal.SIGTERM)
    finally:
        if page.server is not None:
            page.server.kill_all()


def test_pages_are_found():
    """There is something to follow, the first steps among it."""
    assert {"README.md", "docs/tutorial/first-service.md"} <= set(PAGES)
