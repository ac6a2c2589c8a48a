"""
The master: a table of contents.

It owns the parts, carries out what the supervisor decides, reports back what happened,
and knows the order in which things begin and end. It never imports the application.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from maitred import logs, signal_effects
from maitred.acceptor.connection import FIELDS
from maitred.acceptor.counters import Counters
from maitred.acceptor.listeners import (
    Listener,
    accept_at_once,
    open_listeners,
    restored,
)
from maitred.acceptor.socket_activation import Inherited
from maitred.accounts import group_of
from maitred.config import NOWHERE, RELOADED, Settings, reread
from maitred.control import (
    COMMANDS,
    ControlServer,
    Lines,
    NoControl,
    Request,
    open_control,
)
from maitred.errors import (
    AppFailed,
    CommandFailed,
    ExitCode,
    SystemRefused,
    UpgradeRefused,
    UsageError,
)
from maitred.routing import FieldsRouter, Seal
from maitred.supervision import (
    Abort,
    Action,
    AllReady,
    Drain,
    Exited,
    Finish,
    Hung,
    Kill,
    Order,
    Promote,
    ReloadFailed,
    Report,
    SaidReady,
    Spawn,
    Stop,
    Supervisor,
    Tick,
    Times,
    WorkerState,
    Worn,
)
from maitred.upgrade.key_pages import KeyPages
from maitred.upgrade.serialize import flatten, refill
from maitred.upgrade.snapshot import FORMAT, Past, Table
from maitred.wire import messages

from .agent import Agent, Capacity, open_agent
from .attaching import Attaching
from .attendant import Attendant, inherited_from, load_token, open_admin
from .deputies import Deputies
from .desk import Desk, router_of
from .draining import Drains, interrupted
from .elders import Elders
from .errands import Came
from .events import Events, What
from .following import PATIENCE, Roll, followed, watch_reload
from .notify import Notifier, Phase
from .orphans import Orphans
from .overview import Overview
from .parent import Parent
from .processes import how_it_ended
from .program import checked_router, command_of
from .reloading import Reloads
from .scaling import scaled, watch_scale
from .secret import load_keys
from .starting import refused_for_good
from .steering import Steering
from .stopping import watch_end
from .upgrading import Upgrades
from .usage import usage
from .watching import Watch
from .wear import Wear
from .workers import Worker

LAST_WORDS: Final = 1.0
"Seconds that connections still being peeked at have to say something when we stop."
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Master:
    """Runs one service until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        past: Past | None = None,
        read: Callable[[], Settings] | None = None,
    ) -> None:
        """
        Acquire what can be refused: listeners and control socket.

        Args:
            settings: What the operator wants.
            past: What a predecessor in this process has left; None: there was none.
            read: Reads the settings again, at a reload; None: they stay.

        Raises:
            UsageError: A bind, an affinity, a certificate or the key file cannot be
                read.
            SystemRefused: Something is taken or forbidden. Nothing is left open.
        """
        self._past = past
        self._read = read
        # The settings as the operator gave them, without changes by commands.
        self._said = settings
        if past is not None:  # how many slots there are was decided at the start
            settings = replace(
                settings,
                workers=past.state["master"]["workers"],
                drain=past.state["master"]["drain"],
                log_level=past.state["master"].get("log_level", settings.log_level),
            )
        self._settings = settings
        self._keys: dict[str, bytes] = (
            load_keys(settings.sticky_key_file, settings.user)
            if past is None
            else past.state["master"]["keys"]
        )
        seal = Seal(self._keys, settings.slots)
        self._router = checked_router(settings, seal)
        if past is None:
            self._acquire()
        else:
            self._inherit(past)
        self._supervisor = Supervisor(
            settings.workers,
            Times(
                # Who starts others' workers, and when, is not known.
                ready=math.inf if settings.attach else settings.ready_timeout,
                drain=settings.drain_timeout,
                grace=settings.grace_period,
            ),
            random.Random(),
            surge=None if settings.surge == "all" else int(settings.surge),
        )
        self._reloads = Reloads()
        self._workers: dict[int, Worker] = {}
        self._started = time.monotonic()
        self._version = version(
            "maitred"
        )  # a file, and there may be none to spare later
        # Generations that serve, when the deputies are up too.
        self._ready: list[int] = []
        self._serving = False
        self._stopping = False
        self._draining = False
        self._failure: tuple[str, str] | None = None
        # Why the system refused a worker of the first start for good.
        self._refused: SystemRefused | None = None
        self._evidence = ""  # traceback or stack of the worker whose end is reported
        self._tick: asyncio.TimerHandle | None = None
        # Whether `maitred machine drain` sends new sessions to other machines.
        self._is_out = False
        # Upgrades so far.
        self._upgrades = 0
        self._events = Events()
        # About to be upgraded. Nothing is started, because it would inherit blocked
        # signals.
        self._leaving = False
        self._put_off: list[Spawn] = []

    def _acquire(self) -> None:
        settings = self._settings
        # What is wrong with the settings is said before anything listens.
        wanted = settings.control_group
        group = group_of("--control-group", wanted) if wanted else None
        token = load_token(settings.admin_token_file, settings.user)
        inherited = Inherited.from_environment(os.environ)
        self._listeners = open_listeners(
            settings.bind,
            settings.backlog,
            uds_mode=int(settings.uds_permissions, 8),
            proxy=settings.proxy_protocol == "required",
            inherited=inherited,
        )
        self._attaching: Attaching | None = None
        self._admin: tuple[list[Listener], bytes] = [], b""
        self._agent_listeners: list[Listener] = []
        try:
            self._admin = open_admin(settings, inherited), token
            self._agent_listeners = open_agent(settings.agent, inherited)
            if settings.attach:
                self._attaching = Attaching(
                    settings.attach,
                    window=settings.window,
                    ready_timeout=settings.ready_timeout,
                )
            self._unwanted = list(inherited.close_rest())
            self._control: ControlServer | NoControl = open_control(
                settings.control, self._answer, group=group, user=settings.user
            )
        except BaseException:
            for listener in (
                *self._listeners,
                *self._admin[0],
                *self._agent_listeners,
            ):
                listener.close()
            if self._attaching is not None:
                self._attaching.close()
            raise
        scheme = "https://" if settings.certfile else "http://"
        if isinstance(self._router, FieldsRouter):
            scheme = "tcp://"
            if not self._router.limit:
                accept_at_once(self._listeners)
        for listener in self._listeners:
            listener.name = listener.name.replace("http://", scheme, 1)

    def _inherit(self, past: Past) -> None:
        self._unwanted = []
        self._attaching = None
        self._agent_listeners = []
        control = past.state["control"]
        self._listeners = [restored(each, past) for each in past.state["listeners"]]
        self._admin = inherited_from(past)
        self._control = NoControl()
        if control["path"] != NOWHERE:
            ours = past.take(control["sock"]), control["inode"]
            self._control = ControlServer(control["path"], self._answer, ours)

    @property
    def _affinities(self) -> list[str]:
        """What sessions are named by: as --affinity says, or the protocol's default."""
        said = self._settings.affinity
        return list(said or (each.name for each in self._router.affinities))

    @property
    def _names(self) -> list[str]:
        """Where we listen; none while stopping."""
        return [] if self._stopping else [each.name for each in self._listeners]

    async def run(self) -> ExitCode:
        """
        Serve until stopped.

        Raises:
            AppFailed: The application could not be started.
            SystemRefused: The system refuses what a worker needs.
        """
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[Finish] = self._loop.create_future()
        self._stop_asked: asyncio.Future[None] = self._loop.create_future()
        self._build()
        if self._past is not None:
            self._restore(self._past)
        self._answer_agents()
        if self._attaching is not None:
            self._attaching.serve(self._on_attached, self._next_vacancy)
        self._control.serve()
        self._meet()
        signal_effects.hear(
            self._loop,
            {
                **dict.fromkeys(STOPS, self._on_stop_signal),
                signal.SIGHUP: self._on_hup,
                signal.SIGUSR1: self._reopen_logs,
                signal.SIGUSR2: self._attempts.begin,
                signal.SIGTTIN: partial(self._scale_by, 1),
                signal.SIGTTOU: partial(self._scale_by, -1),
            },
        )
        self._orphans = Orphans()
        # A keeper and a predecessor block them until now, so that none comes before it
        # is expected.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        try:
            if self._past is None:
                self._deputies.start()
                self._do(self._supervisor.start(self._loop.time()))
            else:
                self._go_on(self._past)
            self._attendant.start()
            finish = await self._finished
            await self._control.finish()
            await self._deputies.leave()
            await self._attendant.leave()
        finally:
            self._close()
        if finish.hopeless and self._failure is not None:
            raise AppFailed(*self._failure)
        if finish.hopeless and self._refused is not None:
            raise self._refused
        return ExitCode.CUT if finish.cut else ExitCode.OK

    def _answer_agents(self) -> None:
        """Answer agent checks from now on."""
        # Opened anew after an upgrade, because HAProxy does not mind that nobody
        # answered for a moment.
        if self._past is not None:
            try:
                self._agent_listeners = open_agent(self._settings.agent)
            except SystemRefused as exc:
                logs.master.warning("the agent check is not answered: %s", exc)
        self._ability = Capacity()
        self._agent = Agent(self._agent_listeners, self._capacity)

    def _capacity(self) -> bytes:
        """Return the line that answers an agent check."""
        if self._stopping or self._is_out:
            return b"drain\n"
        if not self._serving:
            return b"down #starting\n"
        now, workers = self._loop.time(), self._settings.workers
        return self._ability.say(
            self._desk.placement.slots,
            workers,
            now,
            serves=sum(self._serves(slot, now) for slot in range(workers)),
        )

    def _serves(self, slot: int, now: float) -> bool:
        """Return whether number *slot* is filled by a worker that does not crash."""
        number = self._supervisor.current(slot)
        is_ready = number is not None and (
            self._supervisor.state(number) is WorkerState.READY
        )
        return is_ready and not self._supervisor.failures(slot, now).in_a_row

    def _machine(self, state: str) -> dict[str, Any]:
        """Set what the agent check answers from now on to *state*."""
        if not self._settings.agent:
            raise CommandFailed(
                "there is no --agent: HAProxy would not hear of it; start with one, or"
                " use HAProxy's own `set server`"
            )
        self._is_out = state == "drain"
        text = "new sessions go to other machines" if self._is_out else "ready again"
        logs.master.info("machine: %s", text)
        self._events.note(What.DRAIN, f"machine: {text}")
        return {"state": state, "agent": self._settings.agent}

    def _meet(self) -> None:
        """Connect to the process that started us: a keeper, a service manager."""
        self._parent = Parent(os.environ)
        self._parent.watch(self._loop, self._on_keeper_gone)
        self._notifier = Notifier(os.environ, main=not self._parent.exists)
        for name in self._unwanted:
            self._notifier.forget(name)
        for listener in (*self._listeners, *self._attendant.listeners):
            if not listener.kept:
                self._notifier.store(listener)

    def _build(self) -> None:
        """Build the parts and connect them."""
        settings, past = self._settings, self._past
        self._hash_key: bytes = (
            os.urandom(16) if past is None else past.state["master"]["hash_key"]
        )
        self._desk = Desk(
            settings,
            self._router,
            self._listeners,
            hash_key=self._hash_key,
            on_ready=self._on_ready,
        )
        self._counters = self._desk.counters
        self._dispatcher = self._desk.dispatcher
        self._dispatcher.on_settled = self._on_settled
        self._deputies = Deputies(
            lambda: self._settings,
            self._desk,
            self._listeners,
            self._workers,
            hash_key=self._hash_key,
            keys=lambda: self._keys,
            on_news=self._on_deputies,
        )
        self._attendant = Attendant(
            settings,
            *self._admin,
            may_start=lambda: not self._leaving,
        )
        self._elders = Elders(
            self._dispatcher,
            self._desk.keys,
            workers=settings.workers,
            alone=settings.drain != "sessions",
            countable=all(a.slot is None for a in self._router.affinities),
            grace=settings.grace_period,
            tell=self._reloads.tell,
        )
        self._watch = Watch(
            self._workers,
            self._desk.placement.slots,
            hang_timeout=settings.hang_timeout,
            filling=self._dispatcher.filling,
            settle=self._dispatcher.settle,
            on_hung=self._on_hung,
        )
        self._wear = Wear(
            self._workers,
            most=settings.max_requests,
            jitter=settings.max_requests_jitter,
            rng=random.Random(),
            on_worn=self._on_worn,
        )
        self._steering = Steering(
            self._desk,
            self._deputies,
            lambda: self._settings,
            affinities=lambda: self._router.affinities,
            place=self._elders.current,
            now=self._loop.time,
        )
        self._overview = Overview(
            lambda: self._settings,
            self._desk,
            self._supervisor,
            self._workers,
            self._elders,
        )
        self._drains = Drains(self._desk, self._deputies, lambda: self._settings)
        self._key_pages = KeyPages(self._desk.keys)
        self._attempts = Upgrades(
            self._snapshot,
            self._key_pages,
            check=self._check_upgrade,
            seconds=settings.upgrade_timeout,
            given_up=self._stop_asked,
            settle_down=self._settle_down,
            serve_on=self._serve_on,
        )
        self._commands: dict[str, Callable[..., Mapping[str, Any] | Lines]] = {
            "status": self._answer_status,
            "whereis": self._steering.whereis,
            "keys": self._steering.keys,
            "move": self._steering.move,
            "scale": self._scale,
            "drain": self._drain,
            "undrain": self._undrain,
            "machine": self._machine,
            "log-level": self._log_level,
            "reload": self._reload_and_tell,
            "upgrade": self._attempts.watch,
            "stop": self._stop_and_tell,
        }

    def _close(self) -> None:
        for worker in list(self._workers.values()):  # only when we end by an exception
            worker.process.kill()
            worker.process.reap()
            self._deputies.detach(worker)
        self._deputies.close()
        self._attendant.close()
        self._agent.close()
        if self._attaching is not None:
            self._attaching.close()
        self._watch.close()
        self._wear.close()
        self._desk.close()
        self._control.close()
        self._notifier.close()
        self._parent.close()
        self._orphans.close()
        if self._tick is not None:
            self._tick.cancel()

    # Carrying out what the supervisor decides

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(number, slot, generation):
                    self._spawn(number, slot, generation)
                case Report(text, problem):
                    (logs.master.warning if problem else logs.master.info)("%s", text)
                    if problem:
                        self._events.note(What.CRASH, text)
                    self._reloads.tell(text)
                case AllReady(generation):
                    self._ready.append(generation)
                    self._on_deputies()
                case ReloadFailed(generation, why):
                    logs.master.warning("reload failed: %s", why)
                    self._events.note(What.RELOAD_FAILED, f"reload failed: {why}")
                    self._reloads.failed(generation, why, self._evidence)
                case Finish():
                    self._finished.set_result(action)
                case _ if self._attaching and self._attaching.give_up(action.worker):
                    self._loop.call_soon(
                        self._report_exit, Exited(action.worker, "nobody attached")
                    )
                case _ if action.worker in self._workers:  # it may just have ended
                    self._tell(self._workers[action.worker], action)
        self._elders.abandon_empty()
        self._schedule()
        self._tell_manager()

    def _tell_manager(self, *, again: bool = False) -> None:
        """Send the phase of the service, if it is new or to be sent *again*."""
        supervisor, workers = self._supervisor, self._settings.workers
        if self._stopping:
            self._notifier.become(Phase.STOPPING, "draining")
        elif not self._serving:
            return
        elif supervisor.reloading:
            self._notifier.become(Phase.RELOADING, "reloading", again=again)
        else:
            text = f"{workers} workers of generation {supervisor.generation} ready"
            self._notifier.become(Phase.READY, text, again=again)

    def _tell(self, worker: Worker, action: Order) -> None:
        match action:
            case Promote():
                self._deputies.promote(worker)
                self._elders.succeeded(worker)
            case Drain(_, timeout):
                if self._settings.drain == "sessions" and not self._stopping:
                    self._elders.keep(worker, timeout)
                else:
                    # While we stop nobody is there to give anything to.
                    drain = messages.Drain(int(timeout * 1000), int(not self._stopping))
                    self._deputies.dismiss(worker, drain)
            case Stop():
                text = "worker %d of slot %d is asked to leave (TERM)"
                logs.master.info(text, worker.id, worker.slot)
                self._deputies.dismiss(worker, messages.Quit())
                worker.process.stop()
            case Abort(_, why):
                text = f"worker {worker.id} of slot {worker.slot} is aborted: {why}"
                logs.master.warning("%s", text)
                self._events.note(What.HANG, text)
                self._deputies.dismiss(worker, messages.Quit())
                worker.process.abort()
            case Kill(_, why):
                # A first start that fails is told in one sentence, at the end.
                if self._serving or not (self._failure or self._refused):
                    text = "worker %d of slot %d is killed: %s"
                    logs.master.info(text, worker.id, worker.slot, why)
                worker.process.kill()

    def _schedule(self) -> None:
        """Schedule the next tick for when the supervisor has to be asked again."""
        if self._tick is not None:
            self._tick.cancel()
        at = self._supervisor.wakeup()
        self._tick = None if at is None else self._loop.call_at(at, self._on_tick)

    def _spawn(self, number: int, slot: int, generation: int) -> None:
        if self._leaving:
            self._put_off.append(Spawn(number, slot, generation))
            return
        if self._attaching is not None:
            place = self._elders.place(slot, generation)
            self._attaching.want(number, place, generation)
            return
        try:
            sealed = any(a.slot is not None for a in self._router.affinities)
            worker = Worker.start(
                number,
                self._elders.place(slot, generation),
                generation,
                command_of(self._settings),
                self._keys if sealed else None,
                # What a worker of another language would do is not known.
                () if self._settings.exec else signal_effects.HELD,
                directory=self._settings.chdir,
            )
        except (SystemRefused, OSError) as exc:
            self._loop.call_soon(self._report_exit, self._not_started(number, exc))
            return
        self._watch_over(worker)

    def _not_started(self, number: int, exc: SystemRefused | OSError) -> Exited:
        """Return how worker *number* ended, which the system did not let begin."""
        refused = refused_for_good(exc)
        self._refused = self._refused or refused
        why = f"could not be started ({refused or exc})"
        return Exited(number, why, hopeless=refused is not None)

    def _watch_over(self, worker: Worker) -> None:
        """Register *worker*, and watch for its end."""
        self._workers[worker.id] = worker
        self._deputies.attach(worker)
        self._loop.add_reader(worker.process.pidfd, self._on_exit, worker)

    def _next_vacancy(self) -> float | None:
        """Return the seconds until the next try for an empty slot; None: none waits."""
        now = self._loop.time()
        slots = range(self._settings.workers)
        tries = [self._supervisor.failures(slot, now).next_try for slot in slots]
        return min((max(at - now, 0.0) for at in tries if at is not None), default=None)

    def _on_attached(self, worker: Worker) -> None:
        self._watch_over(worker)
        self._dispatcher.hear(worker)  # it may have said READY already

    def _announce(self, generation: int) -> None:
        what = What.RELOAD if self._serving else What.START
        self._events.note(what, f"generation {generation} serves")
        self._serving = True
        self._parent.say_ready()
        settings = self._settings
        logs.master.info(
            "listening on %s: %d workers of generation %d ready,"
            " affinity %s, policy %s",
            ", ".join(self._names),
            settings.workers,
            generation,
            " ".join(self._affinities) or "none",
            settings.policy,
        )

    # Reporting to the supervisor what happened

    def _on_ready(self, worker: Worker) -> None:
        if worker.id in self._workers:
            text = (
                f"worker of slot {worker.slot}, generation {worker.generation}: ready"
            )
            self._reloads.tell(text)
            self._do(self._supervisor.handle(SaidReady(worker.id), self._loop.time()))

    def _on_exit(self, worker: Worker) -> None:
        self._loop.remove_reader(worker.process.pidfd)
        costs = usage(worker.process.pid)  # until it is reaped
        code = worker.process.reap()
        del self._workers[worker.id]
        self._elders.forget(worker)
        self._counters.refused_by_workers.update(worker.account.refused)
        self._deputies.departed.dropped += worker.account.dropped
        # One that was asked to leave is nobody's current worker any more.
        is_unasked = not self._stopping and self._is_current(worker)
        did = {
            "requests": worker.account.requests,
            "deaths": 1,
            "restarts": int(is_unasked),
        }
        cpu = 0.0 if costs is None else costs.cpu
        self._dispatcher.done.note(worker.slot, {**did, "cpu": cpu})
        # Before its successor is known: what it was handed waits for that one.
        self._deputies.detach(worker)
        if worker.process.stack:
            text = "worker %d of slot %d was here when it ended:\n%s"
            stack = worker.process.stack.rstrip("\n")
            logs.master.warning(text, worker.id, worker.slot, stack)
        if worker.failure is not None:
            self._tell_failure(*worker.failure)
        self._evidence = worker.failure[1] if worker.failure else worker.process.stack
        why = worker.failure[0] if worker.failure else how_it_ended(code)
        if self._attaching is not None:
            self._attaching.forget(worker)
            why = worker.failure[0] if worker.failure else "has left"
        ended = Exited(
            worker.id,
            why,
            hopeless=worker.failure is not None,
            cut=bool(worker.cut) or code < 0,
        )
        if worker.process.refused is not None:
            ended = self._not_started(worker.id, worker.process.refused)
        self._report_exit(ended)
        self._evidence = ""

    def _is_current(self, worker: Worker) -> bool:
        """Return whether *worker* fills its slot, as the supervisor sees it."""
        slots = range(self._supervisor.slots)
        return any(self._supervisor.current(slot) == worker.id for slot in slots)

    def _on_hung(self, worker: Worker, silent: float) -> None:
        self._do(self._supervisor.handle(Hung(worker.id, silent), self._loop.time()))

    def _on_worn(self, worker: Worker) -> None:
        worn = Worn(worker.id, worker.account.requests)
        self._do(self._supervisor.handle(worn, self._loop.time()))

    def _tell_failure(self, why: str, traceback: str) -> None:
        """Print the application's own traceback, once for all workers that had it."""
        if self._failure != (why, traceback):
            self._failure = (why, traceback)
            if traceback:
                logs.say(traceback.rstrip("\n") + "\n")

    def _report_exit(self, event: Exited) -> None:
        self._do(self._supervisor.handle(event, self._loop.time()))

    def _on_tick(self) -> None:
        self._do(self._supervisor.handle(Tick(), self._loop.time()))

    def _on_settled(self) -> None:
        """Update what depends on the dispatcher; called at the end of its settle."""
        if not self._stopping:
            self._desk.acceptor.update()
        elif (
            not self._draining and self._desk.is_at_rest and self._deputies.are_resting
        ):
            self._drain_all()

    def _on_deputies(self) -> None:
        """Continue what waited for the deputies; called when one of them changes."""
        if self._stopping:
            self._on_settled()
        elif self._ready and (self._serving or self._deputies.are_up):
            ready, self._ready = self._ready, []
            for generation in ready:
                self._announce(generation)
                self._reloads.serves(generation)
            self._tell_manager()

    def _on_hup(self) -> None:
        try:
            self._reload()
        except UsageError as exc:
            logs.master.warning("nothing is reloaded: %s", exc)

    def _reload(self) -> list[Action]:
        """
        Start a reload, or record that another is to follow.

        Raises:
            UsageError: The settings cannot be read again; nothing is reloaded.
        """
        self._read_again()
        self._failure = None
        self._renew_keys()
        self._attendant.renew_token()
        again = self._supervisor.reloading
        self._events.note(What.RELOAD, "a reload was asked for")
        actions = self._supervisor.reload(self._loop.time())
        self._do(actions)
        if again:  # who asked waits for an answer that is younger than the question
            self._tell_manager(again=True)
        return actions

    def _read_again(self) -> None:
        """Read the settings again; what a reload may change holds from now on."""
        if self._read is None:
            return
        before = self._said
        self._said, others = reread(before, self._read())
        new = {
            name: getattr(self._said, name)
            for name in RELOADED
            if getattr(self._said, name) != getattr(before, name)
        }
        self._settings = replace(self._settings, **new)
        if "log_level" in new:
            self._deputies.ask("log_level", level=self._said.log_level)
        if others:
            names = ", ".join(name.replace("_", "-") for name in others)
            logs.master.warning("a reload does not change %s: restart for that", names)

    def _renew_keys(self) -> None:
        """Read the key file again, for this process and for workers started later."""
        settings = self._settings
        if not settings.sticky_key_file:
            return
        try:
            self._keys = load_keys(settings.sticky_key_file)
        except UsageError as exc:
            logs.master.warning("the keys stay as they were: %s", exc)
            return
        seal = Seal(self._keys, settings.slots)
        self._router.affinities = router_of(settings, seal).affinities
        self._deputies.renew_keys(self._keys)

    def _on_stop_signal(self) -> None:
        if self._stopping:
            logs.master.info("stopping now")
            self._draining = True
            self._do(self._supervisor.stop_now())
            return
        self._reloads.give_up("the service is stopping")
        logs.master.info(
            "stopping: draining %d workers; a second signal stops now",
            len(self._workers),
        )
        self._stopping = True
        self._events.note(What.STOP, f"stopping: draining {len(self._workers)} workers")
        self._tell_manager()
        self._stop_asked.set_result(None)
        self._loop.call_later(LAST_WORDS, self._drain_all)
        self._deputies.shut()

    def _on_keeper_gone(self) -> None:
        if not self._stopping:
            logs.master.warning("the keeper is gone: making room for the next one")
            self._on_stop_signal()

    def _drain_all(self) -> None:
        if self._draining:
            return
        self._draining = True
        self._elders.close()
        # From now on no worker takes what another gives back.
        self._deputies.turn_away()
        self._do(self._supervisor.stop(self._loop.time()))

    # The upgrade, whose steps are in succession.py

    async def _settle_down(self) -> None:
        """Stop starting anything: a successor may take over at any moment."""
        await self._control.fall_silent()
        self._leaving = True

    def _serve_on(self) -> None:
        """Undo ``_settle_down``: there is no successor after all."""
        self._leaving = False
        self._control.serve()
        put_off, self._put_off = self._put_off, []
        self._do(put_off)

    def _check_upgrade(self) -> None:
        """
        Check that there may be a successor.

        Raises:
            UpgradeRefused: There may be none.
        """
        if self._stopping:
            raise UpgradeRefused("the service is stopping")
        if self._settings.acceptors > 1:
            raise UpgradeRefused(
                f"--acceptors {self._settings.acceptors}: several processes cannot be"
                " exchanged at once; restart the service instead"
            )
        if self._attaching is not None:
            raise UpgradeRefused(
                "--attach: workers that others started cannot be passed on; restart the"
                " service instead"
            )

    def _snapshot(self) -> dict[str, Any]:
        """
        Return all that a successor has to know, as plain data.

        Raises:
            UpgradeRefused: There may be no successor.
        """
        self._check_upgrade()
        table = Table()
        return {
            "format": FORMAT,
            "protocol": messages.VERSION,
            "version": self._version,
            "left": self._loop.time(),
            "fields": FIELDS,
            "master": {
                "keys": self._keys,
                "hash_key": self._hash_key,
                "started": self._started,
                "serving": self._serving,
                "failure": self._failure,
                "upgrades": self._upgrades,
                "workers": self._settings.workers,
                "drain": self._settings.drain,
                "is_out": self._is_out,
                "log_level": self._settings.log_level,
                "accepted": [each.accepted for each in self._listeners],
                "elders": self._elders.state(),
                "sets": self._elders.sets(),
            },
            "settings": flatten(self._said),
            "listeners": [each.state(table) for each in self._listeners],
            "control": self._control.state(table.own),
            "admin": self._attendant.state(table),
            **self._events.state(),
            "done": self._dispatcher.done.state(),
            "supervisor": flatten(self._supervisor, without=Supervisor.SETTINGS),
            "counters": flatten(self._counters),
            "key_pages": self._key_pages.state(table),
            "workers": [each.state(table) for each in self._workers.values()],
            "dispatcher": self._dispatcher.state(table),
            "peeker": self._desk.peeker.state(table),
            "refusals": self._desk.refusals.state(table),
            "sources": self._desk.sources.state(),
            "descriptors": table.rows,
        }

    def _restore(self, past: Past) -> None:
        """Restore the predecessor's state. Nothing is read, sent or started here."""
        state = past.state
        master = state["master"]
        self._started = master["started"]
        self._serving = master["serving"]
        self._failure = master["failure"] and tuple(master["failure"])
        self._upgrades = master["upgrades"] + 1
        self._is_out = master.get("is_out", False)
        refill(self._supervisor, state["supervisor"])
        refill(self._counters, state["counters"])
        if "admin" in state:  # of a version that had all these
            self._attendant.restore(state["admin"], past)
            self._events.restore(state)
            self._dispatcher.done.add(state["done"])
        counts = master.get("accepted", ())
        for each, count in zip(self._listeners, counts, strict=False):
            each.accepted = count
        self._key_pages.restore(state, past)
        for each in state["workers"]:
            worker = Worker.restored(each, past)
            self._workers[worker.id] = worker
            self._loop.add_reader(worker.process.pidfd, self._on_exit, worker)
        self._dispatcher.restore(state["dispatcher"], past, self._workers)
        self._elders.restore(master["elders"], master.get("sets", ()), self._workers)
        self._desk.peeker.restore(state["peeker"], past)
        self._desk.refusals.restore(state["refusals"], past)
        self._desk.sources.restore(state.get("sources", ()), past)
        self._patient = [
            (past.take(place), command)
            for place, command in state["control"]["patient"]
        ]
        past.check()
        if past.rehearsal:
            past.leave()

    def _go_on(self, past: Past) -> None:
        """Start to serve, after ``_restore``."""
        self._deputies.ask("log_level", level=self._settings.log_level)
        held = len(self._desk.peeker) + self._dispatcher.owned
        away = self._loop.time() - past.state["left"]
        logs.master.info(
            "upgraded from %s to %s: away for %.0f ms, %d connections held",
            past.state["version"],
            self._version,
            away * 1000,
            held,
        )
        text = f"upgraded from {past.state['version']} to {self._version}"
        self._events.note(What.UPGRADE, text)
        answer = {
            "from": past.state["version"],
            "to": self._version,
            "away": round(away, 3),
            "held": held,
            "upgrades": self._upgrades,
        }
        for fd, command in self._patient:
            told: Mapping[str, Any] | Lines = interrupted()
            if command == "reload":
                told = self._wait_on()
            elif command == "upgrade":
                told = answer
            self._control.resume(fd, command, told)
        # Messages between parts that were scheduled when the predecessor left are lost
        # with its loop, so what they would have caused is done here.
        for spawn in self._supervisor.spawned():
            worker = self._workers.get(spawn.worker)
            if worker is None:
                self._spawn(*astuple(spawn))
            elif (
                worker.phase is not messages.Phase.STARTING
                and self._supervisor.state(worker.id) is WorkerState.STARTING
            ):
                self._on_ready(worker)
        self._dispatcher.settle()
        self._schedule()
        self._key_pages.unpack()
        self._past = None

    def _wait_on(self) -> Mapping[str, Any] | Lines:
        """Return the answer to a reload that our predecessor was asked for."""
        awaited = self._supervisor.next_reload
        if awaited <= self._supervisor.generation:
            return {"generation": self._supervisor.generation}
        lines = self._reloads.watch(awaited)
        if not self._supervisor.reloading:
            why = "it ended while the master was upgraded, and the log says how"
            self._reloads.failed(awaited, why, "")
        return lines

    # Commands of an operator

    def _answer(self, request: Request) -> Mapping[str, Any] | Lines:
        answer = self._commands[request.command](**request.arguments)
        if COMMANDS[request.command].lasting and not isinstance(answer, Mapping):
            return followed(answer, self._roll())
        return answer

    def _roll(self) -> Roll:
        return Roll(self._supervisor, self._workers, self._desk.placement.slots)

    def _scale(self, workers: int) -> Lines:
        """Change the number of workers; return the lines until that is done."""
        before, keys = self._resize(workers)
        return watch_scale(
            before,
            keys,
            supervisor=self._supervisor,
            workers=self._workers,
            counted=self._counted,
            now=self._loop.time,
        )

    def _scale_by(self, step: int) -> None:
        """Add *step* workers, and leave one at least, as TTIN or TTOU asked."""
        workers = self._settings.workers + step
        if not workers:
            logs.master.info("TTOU: the last worker stays")
            return
        try:
            self._resize(workers)
        except (CommandFailed, UsageError) as exc:
            logs.master.warning("%s: %s", "TTIN" if step > 0 else "TTOU", exc)

    def _resize(self, workers: int) -> tuple[int, Awaitable[Mapping[int, Came | None]]]:
        """
        Change the number of workers.

        Returns:
            How many there were, and what becomes of the keys in each acceptor.

        Raises:
            UsageError: There cannot be so many here.
            CommandFailed: Not now.
        """
        sealed = any(a.slot is not None for a in self._router.affinities)
        settings = scaled(self._settings, workers, sealed=sealed)
        if self._stopping or not self._serving or self._supervisor.reloading:
            why = "stopping" if self._stopping else "starting or reloading"
            raise CommandFailed(f"not scaled to {workers}: the service is {why}")
        before, self._settings = self._settings.workers, settings
        logs.master.info("scaling from %d to %d workers", before, workers)
        self._events.note(What.SCALE, f"scaling from {before} to {workers} workers")
        keys = self._deputies.ask("resize", workers=workers)
        self._do(self._supervisor.resize(workers, self._loop.time()))
        self._dispatcher.settle()
        return before, keys

    def _drain(self, slot: int) -> Lines:
        lines = self._drains.drain(slot)
        self._events.note(What.DRAIN, f"slot {slot} is drained")
        return lines

    def _undrain(self, slot: int) -> dict[str, Any]:
        answer = self._drains.undrain(slot)
        self._events.note(What.DRAIN, f"slot {slot} is no longer drained")
        return answer

    def _reopen_logs(self) -> None:
        """Open the log file anew, in all processes of ours."""
        if not self._settings.log_file:
            return
        logs.reopen()
        self._deputies.reopen_logs()
        self._attendant.reopen_log()
        if not self._settings.exec:
            for worker in self._workers.values():
                worker.process.reopen_log()

    def _log_level(self, level: str) -> dict[str, Any]:
        """Set the log level here, in deputies, and in workers started from now on."""
        before = self._settings.log_level
        self._settings = replace(self._settings, log_level=level)
        self._deputies.ask("log_level", level=level)
        return {"level": level, "before": before}

    def _stop_and_tell(self) -> Lines:
        """Stop, unless we do already; return the lines for the asker."""
        roll = self._roll()
        if not self._stopping:
            self._on_stop_signal()
        return watch_end(self._finished, self._workers, roll, self._counted)

    def _answer_status(self) -> Mapping[str, Any] | Lines:
        if self._settings.acceptors > 1:
            return self._status_of_all()
        return self._status([])

    def _reload_and_tell(self) -> Lines:
        """Reload; return the lines for the asker, until the outcome is known."""
        if why := self._supervisor.obstacle:
            raise CommandFailed(f"nothing is reloaded: {why}")
        roll = self._roll()
        try:
            actions = self._reload()
        except UsageError as exc:
            raise CommandFailed(f"nothing is reloaded: {exc}") from exc
        reports = [a.text for a in actions if isinstance(a, Report)] or [
            "a reload is under way; another follows when its old workers have left"
        ]
        return watch_reload(
            self._reloads.watch(self._supervisor.next_reload, *reports),
            roll,
            self._counted,
            # Who keeps its sessions stays for longer than anybody wants to wait.
            patience=PATIENCE if self._settings.drain == "connections" else 0.0,
        )

    async def _counted(self) -> Counters:
        """Return the sum of what all acceptors have counted, dead ones as well."""
        counters = Counters()
        counters.add(self._deputies.departed.counters.statistics())
        for report in (self._desk.report(), *await self._deputies.reports()):
            counters.add(report["connections"])
        return counters

    async def _status_of_all(self) -> Lines:
        """Yield the status in one line, when all acceptors have reported."""
        yield {"ok": True, **self._status(await self._deputies.reports())}

    def _status(self, others: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the status of this acceptor and of all *others*."""
        return self._overview.status(
            {
                "version": self._version,
                "name": self._settings.name,
                "pid": os.getpid(),
                "state": self._state,
                "uptime": round(time.monotonic() - self._started, 1),
                "upgrades": self._upgrades,
                "listening": self._names,
                "admin": [each.name for each in self._attendant.listeners],
                "affinity": self._affinities,
                **self._events.state(),
            },
            others,
            self._deputies.departed,
        )

    @property
    def _state(self) -> str:
        """What the service is doing, in one word."""
        if self._stopping:
            return "stopping"
        if not self._serving:
            return "starting"
        return "reloading" if self._supervisor.reloading else "ready"
