"""
The metrics, in one table: what each is called, what it means, where it is read. Pure.

All is read from one snapshot, the master's answer to ``status``. The collector and the
reference are made from METRICS.

Invariants: no label has anything that a client said. A counter never goes down while
the master lives, whoever of its workers dies; an upgrade of the master keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from maitred.routing.refusal import CAUSES

Snapshot = Mapping[str, Any]
Samples = Iterable[tuple[tuple[str, ...], Any]]
"For each combination of labels their values, and the number; None: not known."
Read = Callable[[Snapshot], Samples]


class Kind(StrEnum):
    """How a metric may be used; the names are those of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """
    One metric. A counter's name ends in ``_total``.

    The number of a histogram is a pair: ``[[bound, count up to it], ...]``, the last
    bound being infinite, and the sum.
    """

    name: str
    kind: Kind
    help: str
    read: Read
    labels: tuple[str, ...] = ()


STATES: Final = ("starting", "ready", "reloading", "stopping")
"Of the service."
WORKER_STATES: Final = ("empty", "starting", "ready", "draining", "stopping")
BY: Final = {"slot": ("slot",), "acceptor": ("acceptor",), "listener": ("listener",)}


def _field(name: str) -> Read:
    return lambda snapshot: [((), snapshot[name])]


def _count(name: str) -> Read:
    """Return a reader of a count of connections, dead acceptors' included."""
    return lambda snapshot: [
        ((), snapshot["connections"][name] + snapshot["departed"][name])
    ]


def _refused(snapshot: Snapshot) -> Samples:
    counts = [
        snapshot[of].get(by, {})  # an old master knows no refusals by workers
        for of in ("connections", "departed")
        for by in ("refused", "refused_by_workers")
    ]
    # All causes from the start, because a rise from nothing is not seen.
    for cause in sorted(CAUSES.keys() | set().union(*counts)):
        number = sum(count.get(cause, 0) for count in counts)
        status = CAUSES[cause].status if cause in CAUSES else 0
        yield (cause, str(status)), number


def _slot(name: str) -> Read:
    return lambda snapshot: [
        ((str(s["slot"]),), s.get(name)) for s in snapshot["slots"]
    ]


def _threads(name: str) -> Read:
    return lambda snapshot: [
        ((str(s["slot"]),), threads[name])
        for s in snapshot["slots"]
        if (threads := s.get("threads"))
    ]


def _total(name: str) -> Read:
    return lambda snapshot: [
        ((str(s["slot"]),), s["totals"][name]) for s in snapshot["slots"]
    ]


def _of_each(rows: str, label: str, name: str) -> Read:
    return lambda snapshot: [((str(r[label]),), r[name]) for r in snapshot[rows]]


def _worker_states(snapshot: Snapshot) -> Samples:
    for slot in snapshot["slots"]:
        for state in WORKER_STATES:
            yield (str(slot["slot"]), state), int(slot["state"] == state)


def _states(snapshot: Snapshot) -> Samples:
    return [((state,), int(snapshot["state"] == state)) for state in STATES]


def _time(stage: str) -> Read:
    def read(snapshot: Snapshot) -> Samples:
        times = snapshot["times"]
        counts, total = times[stage]["counts"], 0
        buckets = []
        for bound, count in zip([*times["bounds"], "+Inf"], counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        yield (), (buckets, times[stage]["sum"])

    return read


C, G, H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS: Final = (
    Metric(
        "maitred_build_info",
        G,
        "Always 1; the version is a label.",
        lambda snapshot: [((snapshot["version"],), 1)],
        ("version",),
    ),
    Metric(
        "maitred_start_time_seconds",
        G,
        "When the master started, since 1970; upgrades do not count.",
        lambda snapshot: [((), round(snapshot["time"] - snapshot["uptime"], 1))],
    ),
    Metric(
        "maitred_state",
        G,
        "1 for what the service is doing, 0 for everything else.",
        _states,
        ("state",),
    ),
    Metric(
        "maitred_generation",
        G,
        "The last generation that filled every slot; a reload raises it.",
        _field("generation"),
    ),
    Metric(
        "maitred_events_total",
        C,
        "Reloads, crashes and what else changed the service, by kind.",
        lambda snapshot: [((k,), n) for k, n in snapshot["event_counts"].items()],
        ("kind",),
    ),
    # The way of a connection.
    Metric(
        "maitred_connections_accepted_total",
        C,
        "Connections taken off the backlog.",
        _count("accepted"),
    ),
    Metric(
        "maitred_connections_handed_over_total",
        C,
        "Connections sent to a worker, a second time included.",
        _count("handed_over"),
    ),
    Metric(
        "maitred_connections_taken_total",
        C,
        "Connections that a worker has read from, after a return too.",
        _count("taken"),
    ),
    Metric(
        "maitred_connections_returned_total",
        C,
        "Connections given back by a worker, for the next request belongs to another.",
        _count("returned"),
    ),
    Metric(
        "maitred_connections_redispatched_total",
        C,
        "Connections placed again, because the first worker died or refused.",
        _count("redispatched"),
    ),
    Metric(
        "maitred_connections_orphaned_total",
        C,
        "Connections that had been taken by a worker that died.",
        _count("orphaned"),
    ),
    Metric(
        "maitred_connections_lost_total",
        C,
        "Connections that ended because a worker died with them.",
        _count("lost"),
    ),
    Metric(
        "maitred_connections_client_left_total",
        C,
        "Connections whose client had left before anything could be decided.",
        _count("client_left"),
    ),
    Metric(
        "maitred_connections_silent_total",
        C,
        "Connections closed at the head timeout without a word of the client.",
        _count("silent"),
    ),
    Metric(
        "maitred_connections_refused_total",
        C,
        "Connections and requests that maitred answered itself, in the master or in a"
        " worker, by cause and status; 0: closed without an answer.",
        _refused,
        ("cause", "code"),
    ),
    Metric(
        "maitred_connections_passed_total",
        C,
        "Connections that one acceptor passed to another, the home of their key.",
        _count("passed"),
    ),
    Metric(
        "maitred_worker_out_of_descriptors_total",
        C,
        "Connections refused by a worker that was at its limit of open files.",
        _count("no_descriptor"),
    ),
    Metric(
        "maitred_accept_pauses_total",
        C,
        "Pauses in accepting, because descriptors or memory ran out.",
        _count("accept_pauses"),
    ),
    Metric(
        "maitred_claims_total",
        C,
        "Names of sessions that workers have claimed.",
        _count("claims"),
    ),
    Metric(
        "maitred_connections_peeking",
        G,
        "Connections whose first bytes have not come yet.",
        _field("peeking"),
    ),
    Metric(
        "maitred_connections_waiting",
        G,
        "Connections that are decided and wait for room in a worker.",
        _field("waiting"),
    ),
    Metric(
        "maitred_peek_seconds",
        H,
        "From accepting a connection until its client had sent enough to place it,"
        " where that was not there at once.",
        _time("peek"),
    ),
    Metric(
        "maitred_hand_over_seconds",
        H,
        "From a connection that can be placed to handing it over, a wait for room"
        " included.",
        _time("hand_over"),
    ),
    Metric(
        "maitred_take_seconds",
        H,
        "From handing a connection over to hearing that its worker has read from it.",
        _time("take"),
    ),
    # What the master has.
    Metric("maitred_keys", G, "Sessions in the key table.", _field("keys")),
    Metric("maitred_keys_limit", G, "How many there may be.", _field("max_keys")),
    Metric(
        "maitred_key_bytes", G, "Bytes that these sessions take.", _field("key_bytes")
    ),
    Metric(
        "maitred_key_bytes_limit",
        G,
        "How many bytes they may take.",
        _field("max_key_bytes"),
    ),
    Metric(
        "maitred_keys_evicted_total",
        C,
        "Sessions that were forgotten because there were too many, the least recently"
        " used first.",
        _field("evicted_keys"),
    ),
    Metric(
        "maitred_log_lines_dropped_total",
        C,
        "Lines of the master's log that could not be written.",
        _field("dropped_log_lines"),
    ),
    Metric(
        "maitred_listener_accepted_total",
        C,
        "Connections taken off the backlog, by the address as --bind has it.",
        _of_each("listeners", "name", "accepted"),
        BY["listener"],
    ),
    Metric(
        "maitred_acceptor_resident_memory_bytes",
        G,
        "Memory of each acceptor; number 0 is the master.",
        _of_each("acceptors", "number", "memory"),
        BY["acceptor"],
    ),
    Metric(
        "maitred_acceptor_cpu_seconds",
        G,
        "Seconds that each acceptor has computed since its process started.",
        _of_each("acceptors", "number", "cpu"),
        BY["acceptor"],
    ),
    # The workers, by slot: a slot survives the worker that fills it.
    Metric(
        "maitred_worker_state",
        G,
        "1 for the state of the slot's worker, 0 for all others.",
        _worker_states,
        ("slot", "state"),
    ),
    Metric(
        "maitred_worker_generation",
        G,
        "The generation of the slot's worker.",
        _slot("generation"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_uptime_seconds",
        G,
        "Seconds since the process of the slot's worker started.",
        _slot("uptime"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_early_deaths",
        G,
        "Workers in a row that died before they were ready for a second.",
        _slot("early_deaths"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_connections",
        G,
        "Connections that the worker serves, by its own account.",
        _slot("open"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_connections_in_flight",
        G,
        "Connections handed over and not yet taken.",
        _slot("in_flight"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_connections_queued",
        G,
        "Connections that wait for this slot and no other.",
        _slot("queued"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_claimed_keys",
        G,
        "Sessions that the worker's application made and that live there.",
        _slot("claimed_keys"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_requests_total",
        C,
        "Requests answered in this slot, by all workers that have filled it.",
        _total("requests"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_handed_over_total",
        C,
        "Connections handed over to this slot.",
        _total("handed_over"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_hops_in_total",
        C,
        "Connections this slot took that another worker had given back.",
        _total("hops_in"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_hops_out_total",
        C,
        "Connections this slot gave back.",
        _total("hops_out"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_deaths_total",
        C,
        "Workers of this slot that have ended, those that were asked to included.",
        _total("deaths"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_restarts_total",
        C,
        "Workers of this slot that ended without having been asked to.",
        _total("restarts"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_cpu_seconds_total",
        C,
        "Seconds that workers of this slot have computed.",
        _total("cpu"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_event_loop_lag_seconds",
        G,
        "By how much the worker's event loop was late when it was last due.",
        _slot("lag"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_threads",
        G,
        "Threads the worker may serve in; only kinds wsgi and socket have any.",
        _threads("most"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_threads_busy",
        G,
        "How many of its threads are busy.",
        _threads("busy"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_threads_waiting",
        G,
        "Requests or connections that wait for one of its threads.",
        _threads("waiting"),
        BY["slot"],
    ),
    Metric(
        "maitred_worker_resident_memory_bytes",
        G,
        "Memory of the worker, what it shares with others included.",
        _slot("memory"),
        BY["slot"],
    ),
)
