"""
The screen of ``maitred top``: a table, two lines of history, and what was done.

The master is asked in threads, and answers come as messages, so that the screen never
waits. The threads are daemons: who quits does not wait for them.

Invariant: nothing is changed without a yes, and by nobody whom the master would refuse.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, RichLog, Sparkline, Static

from maitred.control import ask
from maitred.errors import MaitredError

from .answers import RENDER
from .happened import Happened
from .rates import COLUMNS, HISTORY, Rates, Row, cells, header, titles
from .units import short

NAMES: Final = list(COLUMNS)
SHOWN: Final = 60
"Values in a line of history."
HELP: Final = """\
[b]up, down[/b]     select a worker
[b]left, right[/b]  sort by another column; [b]s[/b] sorts by the next one,
             [b]S[/b] turns the order
[b]d[/b]            drain the slot, or undrain it
[b]r[/b]            reload: a new generation of workers
[b]+, -[/b]         one worker more, or less
[b]p[/b]            pause, and go on
[b]q[/b]            quit

HOP-IN and HOP-OUT count connections that came from another
worker, or left for one; LAG is how late the event loop is.

Any key closes this."""


class Looked(Message):
    """An answer of the master to ``status``."""

    def __init__(self, status: dict[str, Any], when: float) -> None:
        """Carry *status*, which came at *when*."""
        super().__init__()
        self.status, self.when = status, when


class Gone(Message):
    """No master answers; *sentence* tells why."""

    def __init__(self, sentence: str) -> None:
        """Carry *sentence*."""
        super().__init__()
        self.sentence = sentence


class Said(Message):
    """A command of the operator has got on."""

    def __init__(self, text: str) -> None:
        """Carry *text*."""
        super().__init__()
        self.text = text


class Question(ModalScreen[bool]):
    """Asks before a command is sent."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "dismiss(True)", "Yes"),
        Binding("n,escape,q", "dismiss(False)", "No"),
    ]

    def __init__(self, text: str) -> None:
        """Ask *text*."""
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Show the question."""
        yield Static(f"{self._text}\n\n[b]y[/b] yes   [b]n[/b] no", classes="box")


class Help(ModalScreen[None]):
    """Shows what the keys do."""

    def compose(self) -> ComposeResult:
        """Show the text."""
        yield Static(HELP, classes="box")

    def on_key(self) -> None:
        """Close the help."""
        self.dismiss()


class Top(App[None]):
    """Shows a running service, and lets an operator steer it."""

    CSS = """
    #head { height: 2; background: $primary-background; padding: 0 1; }
    #head.gone { background: $error; }
    .line { height: 1; }
    .label { width: 20; padding: 0 1; }
    Sparkline { width: 1fr; height: 1; }
    DataTable { height: 1fr; }
    #log { height: 4; border-top: solid $primary; scrollbar-size: 0 0; }
    Question, Help { align: center middle; }
    .box { width: auto; max-width: 76; height: auto; padding: 1 2;
           background: $surface; border: thick $primary; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "sort(1)", "Sort"),
        Binding("right", "sort(1)", "", show=False, priority=True),
        Binding("left", "sort(-1)", "", show=False, priority=True),
        Binding("S", "turn", "", show=False),
        Binding("d", "drain", "Drain"),
        Binding("r", "reload", "Reload"),
        Binding("plus", "scale(1)", "More", key_display="+"),
        Binding("minus", "scale(-1)", "Fewer", key_display="-"),
        Binding("p", "pause", "Pause"),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]

    def __init__(self, control: str, rates: Rates, interval: float) -> None:
        """
        Start with *rates*, and ask again every *interval* seconds.

        Args:
            control: The path of the control socket.
            rates: With one answer of the master at least.
            interval: Seconds.
        """
        super().__init__()
        self._control = control
        self._rates = rates
        self._interval = interval
        self._happened = Happened()
        self._paused = False
        self._gone = False
        # The name of a column, and whether its greatest value stands first.
        self.sorted_by, self._downwards = "slot", False
        self._over = threading.Event()

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="head", markup=False)
        with Vertical():
            for name in ("requests", "connections"):
                with Horizontal(classes="line"):
                    yield Static(id=f"{name}-label", classes="label")
                    yield Sparkline([0.0] * SHOWN, id=name, summary_function=max)
            yield DataTable(cursor_type="row", cell_padding=0, id="workers")
            yield RichLog(id="log", wrap=True, max_lines=HISTORY)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show what is known, and start to ask the master."""
        table = self.query_one(DataTable)
        for name, title in zip(NAMES, titles(), strict=True):
            table.add_column(title, width=COLUMNS[name].width, key=name)
        table.focus()
        assert self._rates.status is not None
        self._note_events(self._rates.status)
        self._show()
        _in_background(self._look)

    def on_unmount(self) -> None:
        """Stop asking."""
        self._over.set()

    # Asking the master

    def _look(self) -> None:
        """Ask the master again and again; runs in a thread."""
        while not self._over.wait(self._interval):
            if self._paused:
                continue
            try:
                status = ask(self._control, "status")
            except MaitredError as exc:
                self.post_message(Gone(str(exc)))
            else:
                self.post_message(Looked(status, time.monotonic()))

    def on_looked(self, message: Looked) -> None:
        """Show an answer of the master."""
        if self._is_closing:
            return
        if self._gone:
            self._gone = False
            self.query_one("#head").remove_class("gone")
            self._note("the master answers again")
        if not self._paused:
            self._note_events(message.status)
            self._rates.look(message.status, message.when)
            self._show()

    def on_gone(self, message: Gone) -> None:
        """Show, once, that the master does not answer; the last rows stay."""
        if self._is_closing:
            return
        if not self._gone:
            self._note(message.sentence)
        self._gone = True
        head = self.query_one("#head", Static)
        head.add_class("gone")
        head.update(f"{message.sentence}\ntrying again every {self._interval:g} s")

    def on_said(self, message: Said) -> None:
        """Show how a command of the operator gets on."""
        if not self._is_closing:
            self._note(message.text)

    @property
    def _is_closing(self) -> bool:
        """Whether the screen is taken down already; a thread may not know it yet."""
        return not self.query("#head")

    def _note(self, text: str) -> None:
        self._write(f"{time.strftime('%H:%M:%S')} {text}")

    def _note_events(self, status: dict[str, Any]) -> None:
        """Show new events of the service, whoever caused them."""
        for line in self._happened.news(status):
            self._write(line)

    def _write(self, line: str) -> None:
        self.query_one(RichLog).write(Text(line))

    def _show(self) -> None:
        first, second = header(self._rates)
        paused = "  PAUSED" if self._paused else ""
        self.query_one("#head", Static).update(f"{first}{paused}\n{second}")
        for name, title in (("requests", "req/s"), ("connections", "connections")):
            values = list(getattr(self._rates, name))[-SHOWN:]
            self.query_one(f"#{name}", Sparkline).data = [
                *[0.0] * (SHOWN - len(values)),
                *values,
            ]
            now = short(values[-1]) if values else "-"
            self.query_one(f"#{name}-label", Static).update(f"{title:12}{now:>6}")
        self._fill()

    def _fill(self) -> None:
        """Write the rows, and leave the cursor on the worker where it was."""
        table = self.query_one(DataTable)
        selected = self._selected()
        at = NAMES.index(self.sorted_by)

        def rank(row: Row) -> tuple[bool, Any]:
            """Sort what is not known below all else."""
            return row[at] is not None, row[at] or 0

        rows = sorted(self._rates.rows, key=rank, reverse=self._downwards)
        table.clear()
        for row in rows:
            table.add_row(*cells(row), key=_key(row))
        keys = [_key(row) for row in rows]
        if selected is not None and _key(selected) in keys:
            table.move_cursor(row=keys.index(_key(selected)))
        for name, title in zip(NAMES, titles(), strict=True):
            style = "reverse" if name == self.sorted_by else ""
            table.columns[name].label = Text(title, style)  # type: ignore[index]

    def _selected(self) -> Row | None:
        table = self.query_one(DataTable)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return self._row_of.get(key)

    @property
    def _row_of(self) -> dict[str | None, Row]:
        return {_key(row): row for row in self._rates.rows}

    # Actions of keys

    def action_sort(self, step: int) -> None:
        """Sort by the next column, or the one before."""
        self.sorted_by = NAMES[(NAMES.index(self.sorted_by) + step) % len(NAMES)]
        # What is many, slow or big is what one looks for.
        self._downwards = self.sorted_by not in {"slot", "pid", "state"}
        self._fill()

    def action_turn(self) -> None:
        """Sort the other way round."""
        self._downwards = not self._downwards
        self._fill()

    def action_pause(self) -> None:
        """Pause, or go on."""
        self._paused = not self._paused
        self._show()

    def action_help(self) -> None:
        """Show what the keys do."""
        self.push_screen(Help())

    def action_reload(self) -> None:
        """Reload, after a question."""
        self._ask("Reload: start a new generation of workers?", "reload")

    def action_drain(self) -> None:
        """Drain the selected slot, or undrain it, after a question."""
        row = self._selected()
        if row is None:
            return
        if row.state == "drained":
            text = f"Undrain slot {row.slot}: give it again what is new?"
            self._ask(text, "undrain", slot=row.slot)
        else:
            text = f"Drain slot {row.slot}: give it nothing new?"
            self._ask(text, "drain", slot=row.slot)

    def action_scale(self, step: int) -> None:
        """Add or remove a worker, after a question."""
        assert self._rates.status is not None
        workers = len(self._rates.status["slots"]) + step
        self._ask(f"Scale to {workers} workers?", "scale", workers=workers)

    def _ask(self, text: str, command: str, **arguments: Any) -> None:
        if not is_operator(self._control):
            self._note(
                f"{command} is for operators, the master's own user and root; you may"
                " look"
            )
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._begin(command, arguments)

        self.push_screen(Question(text), answered)

    def _begin(self, command: str, arguments: dict[str, Any]) -> None:
        """Send a command, and show how it gets on; in a thread."""

        def say(text: str) -> None:
            self.post_message(Said(text))

        def progress(line: dict[str, Any]) -> None:
            """Show the sentences; how each worker is stands in the table."""
            if "progress" in line:
                say(line["progress"])

        def work() -> None:
            try:
                answer = ask(self._control, command, progress, **arguments)
            except MaitredError as exc:
                say(str(exc))
            else:
                say(RENDER[command](answer))

        _in_background(work)


def is_operator(control: str) -> bool:
    """Return whether the master takes our user for an operator."""
    try:
        return os.geteuid() in {0, os.stat(control).st_uid}
    except OSError:
        return True  # it is gone, and will say so itself


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _key(row: Row) -> str:
    return f"{row.slot}-{row.pid}"
