"""
Which slot owns which key. Pure.

Each key stands in the table with its place: a place is of one slot, and holds either
what that slot's application made or what clients made. To forget everything in a place
is to give the place up, whatever stands in it; the entries are taken out later, a few
at a time. So no end of a worker and no reload takes longer than another.

Invariants: never more than ``limit`` keys nor more than ``most_bytes`` bytes of them;
the least recently used goes first. A key that was not used for its time to live is
gone, whether or not it was purged yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final, NamedTuple

from .pages import GONE, Entry, Page, written

ENTRY: Final = 256
"Bytes that a key takes in the table, beside those of its name."
HONEST: Final = 512
"Bytes for each key, where nothing else is said: the longest name is about 160 bytes."
LOOKS: Final = 8
"Keys that are looked at for each new one, while some are to be taken out."
EXACT: Final = 4096
"Keys up to which those that have expired are told from the others at each count."
PAGE: Final = 8192
"Keys in a page: to write it or to unpack it takes some 20 ms."
OLDEST: Final = 1024
"Keys that are known to be the least recently used, so that one is found at once."


class Owned(NamedTuple):
    """The owner of a key, how long it lives after each use, its end, and its maker."""

    slot: int
    ttl: float
    expires: float
    claimed: bool


@dataclass(slots=True)
class Home:
    """A place, and how many keys and bytes stand there."""

    place: int
    slot: int
    claimed: bool
    count: int = 0
    size: int = 0


class Contents(NamedTuple):
    """
    The contents of a table as masters wrote them down until pages came.

    The keys as text, the least recently used first, and the fields of ``Owned``.
    """

    keys: list[str]
    slots: list[int]
    ttls: list[float]
    expires: list[float]
    claimed: list[bool]


class KeyTable:
    """A bounded map from key to slot, in order of use."""

    def __init__(
        self, slots: int, *, limit: int, ttl: float, most_bytes: int = 0
    ) -> None:
        """
        Start with an empty table.

        Args:
            slots: Number of slots.
            limit: Number of keys kept at most.
            ttl: Seconds a key lives after its last use, unless ``own`` says otherwise.
            most_bytes: Bytes that all keys take at most; 0: HONEST for each of *limit*.
        """
        # In order of use. Exact tuples of numbers, which the garbage collector leaves
        # alone: it would stop the service to look at a million of anything else.
        self._owned: dict[bytes, Entry] = {}
        self._limit = limit
        self.ttl = ttl
        self.most_bytes = most_bytes or HONEST * limit
        self._homes: dict[int, Home] = {}
        # The places of each slot: what clients made, what its application made.
        self._places: list[list[Home]] = []
        self._next_place = 1
        self.resize(slots)
        self._count = 0
        self._size = 0
        # Keys that had to go although they were alive, since the start.
        self.evicted = 0
        # Keys in the table whose place was given up.
        self._debris = 0
        self._walk: list[bytes] = []
        # The least recently used, with their entries; those used since are others.
        self._oldest: deque[tuple[bytes, Entry]] = deque()
        self._lost: list[tuple[bytes, int]] = []
        # Keys that changed since the pages were begun; None: none were begun.
        self._changed: set[bytes] | None = None
        # What a predecessor left: pages not unpacked yet, the oldest last; what was
        # unpacked; and keys of those pages that were looked up since.
        self._pages: list[Page] = []
        self._unpacked: dict[bytes, Entry] = {}
        self._recalled: set[bytes] = set()
        # Places that there were when it was left; what stands elsewhere was gone then.
        self._known: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Number of bytes that all keys take, ENTRY for each included."""
        return self._size

    def resize(self, slots: int) -> None:
        """Add empty slots until there are *slots*; with fewer, change nothing."""
        for slot in range(len(self._places), slots):
            self._places.append([self._settle(slot, c) for c in (False, True)])

    def _settle(self, slot: int, claimed: bool) -> Home:
        """Add an empty place of *slot* and return it."""
        home = Home(self._next_place, slot, claimed)
        self._homes[home.place] = home
        self._next_place += 1
        return home

    def counts(self, first: int) -> tuple[int, int]:
        """Count the unclaimed and the claimed keys of slots from *first* on."""
        made, claimed = zip((0, 0), *self._numbers()[first:], strict=True)
        return sum(made), sum(claimed)

    def _numbers(self) -> list[tuple[int, int]]:
        return [(made.count, claimed.count) for made, claimed in self._places]

    def claimed_by(self, slot: int) -> int:
        """Return the number of keys that the worker of *slot* has claimed."""
        return self._places[slot][True].count

    def use(self, key: bytes, now: float) -> int | None:
        """Return the slot that owns *key*, and renew it; None if no slot owns it."""
        entry = self._owned.pop(key, None)
        if entry is None and self._pages:
            entry = self._recall(key)
        if entry is None:
            return None
        place, expires, ttl = entry
        home = self._homes.get(place)
        if home is None or expires <= now:
            self._drop(key, entry)
            return None
        self._owned[key] = (place, now + ttl, ttl)
        if self._changed is not None:
            self._changed.add(key)
        return home.slot

    def _recall(self, key: bytes) -> Entry | None:
        """Remove *key* from a predecessor's pages; return its entry, if it has one."""
        # Once only, because from then on the table itself has the key, or it is gone.
        if key in self._recalled:
            return None
        found = next(filter(None, (page.find(key) for page in self._pages)), None)
        older = self._unpacked.pop(key, None)
        if found is None:
            return older
        self._recalled.add(key)
        return found if found[0] in self._known else None

    def _drop(self, key: bytes, entry: Entry) -> Home | None:
        """
        Subtract *key*, which the caller has removed from the table, from the counts.

        Return its place; None if that was given up, and with it the count.
        """
        if self._changed is not None:
            self._changed.add(key)
        home = self._homes.get(entry[0])
        if home is None:
            self._debris -= 1
            return None
        size = ENTRY + len(key)
        home.count -= 1
        home.size -= size
        self._count -= 1
        self._size -= size
        return home

    def find(self, key: bytes, now: float) -> Owned | None:
        """Return the owner of *key*, without renewing it; None if no slot owns it."""
        entry = self._owned.get(key)
        if entry is None and self._pages:
            entry = self._recall(key)
            if entry is not None:
                self._owned[key] = entry
        return None if entry is None else self._alive(entry, now)

    def _alive(self, entry: Entry, now: float) -> Owned | None:
        place, expires, ttl = entry
        home = self._homes.get(place)
        if home is None or expires <= now:
            return None
        return Owned(home.slot, ttl, expires, home.claimed)

    def alive(self, now: float) -> Iterator[tuple[bytes, Owned]]:
        """
        Yield every key that is alive, and its owner, the last used first.

        Keys may come and go between two steps: yielded are those that were there at the
        first step and still are when it is their turn.
        """
        # Not the items: a hundred thousand new tuples keep the garbage collector busy.
        for key in reversed([*self._owned]):
            owned = self.find(key, now)
            if owned is not None:
                yield key, owned

    def own(
        self,
        key: bytes,
        slot: int,
        now: float,
        ttl: float | None = None,
        *,
        claimed: bool = False,
    ) -> None:
        """
        Make *slot* the owner of *key*; a former owner is in ``take_lost`` then.

        Args:
            key: The key.
            slot: Its owner from now on, whoever owned it before.
            now: The time in seconds.
            ttl: Seconds the key lives after its last use; None: the table's own.
            claimed: Whether the application in the slot's worker made the key.
        """
        previous = self._take(key)
        if previous is not None and previous.slot != slot:
            self._lost.append((key, previous.slot))
        home = self._places[slot][claimed]
        size = ENTRY + len(key)
        home.count += 1
        home.size += size
        self._count += 1
        self._size += size
        ttl = self.ttl if ttl is None else ttl
        self._owned[key] = (home.place, now + ttl, ttl)
        if self._changed is not None:
            self._changed.add(key)
        self._make_room(now)

    def _take(self, key: bytes) -> Home | None:
        """Remove *key*; return its place, if it was in one."""
        entry = self._owned.pop(key, None)
        if entry is None and self._pages:
            entry = self._recall(key)
        return None if entry is None else self._drop(key, entry)

    def _make_room(self, now: float) -> None:
        """Remove keys that have ended, and the oldest ones above a limit."""
        # Not before all pages are unpacked, because the oldest keys are in these.
        if self._pages:
            return
        while (oldest := self._find_oldest()) is not None:
            key, entry = oldest
            is_over = entry[0] not in self._homes or entry[1] <= now
            if not (
                is_over or self._count > self._limit or self._size > self.most_bytes
            ):
                break
            self.evicted += not is_over
            del self._owned[key]
            self._lose(key, entry)
        # A few at a time, so that no end of a worker costs more than another.
        if self._debris:
            self.sweep(now, LOOKS)

    def _lose(self, key: bytes, entry: Entry) -> None:
        home = self._drop(key, entry)
        if home is not None:
            self._lost.append((key, home.slot))

    def _find_oldest(self) -> tuple[bytes, Entry] | None:
        """Return the least recently used key and its entry, if there is one."""
        while self._owned:
            while self._oldest:
                key, entry = self._oldest[0]
                # The same object, because a key that was used has a new entry since.
                if self._owned.get(key) is entry:
                    return key, entry
                self._oldest.popleft()
            self._oldest.extend(islice(self._owned.items(), OLDEST))
        return None

    def sweep(self, now: float, count: int) -> None:
        """Check *count* keys, and remove those that are expired or of no place."""
        if not self._walk:
            self._walk = [*self._owned]
        for _ in range(min(count, len(self._walk))):
            key = self._walk.pop()
            entry = self._owned.get(key)
            if entry is not None and (entry[0] not in self._homes or entry[1] <= now):
                del self._owned[key]
                self._lose(key, entry)

    def take_lost(self) -> list[tuple[bytes, int]]:
        """
        Return the keys that slots have lost, each with its slot, once.

        A key is lost when it expires, is evicted or gets another owner, and not when it
        is released.
        """
        lost, self._lost = self._lost, []
        return lost

    def release(self, key: bytes, slot: int | None = None) -> None:
        """Remove *key*; where *slot* is given, only if *slot* owns it."""
        if slot is not None:
            # At a time when nothing had expired, because an expired key is to go too.
            owned = self.find(key, -1.0)
            if owned is None or owned.slot != slot:
                return
        self._take(key)

    def count(self, slot: int, now: float) -> int:
        """
        Count the keys of *slot* that are alive.

        In a table of more than EXACT keys, expired ones count until they are swept.
        """
        if len(self._owned) <= EXACT and not self._pages:
            places = {home.place for home in self._places[slot]}
            return sum(
                place in places and expires > now
                for place, expires, _ in self._owned.values()
            )
        return sum(home.count for home in self._places[slot])

    def release_all(self, slot: int) -> None:
        """Remove every key of *slot*, at once, however many there are."""
        self._give_up(self._places[slot][False])
        self._give_up(self._places[slot][True])

    def take_all(self, slot: int) -> list[bytes]:
        """Remove every key of *slot* and return them; this walks the whole table."""
        # All pages, because keys that are still in them are not in the table.
        while self.unpack():
            pass
        places = {home.place for home in self._places[slot] if home.count}
        keys = [k for k, entry in self._owned.items() if entry[0] in places]
        self.release_all(slot)
        return keys

    def release_claimed(self, slot: int) -> None:
        """Remove every key that the worker of *slot* has claimed, at once."""
        self._give_up(self._places[slot][True])

    def _give_up(self, home: Home) -> None:
        """
        Remove place *home* with all its keys; its slot gets an empty one instead.

        The entries stay in the table, as debris, until ``sweep`` finds them.
        """
        if home.count:
            del self._homes[home.place]
            self._places[home.slot][home.claimed] = self._settle(
                home.slot, home.claimed
            )
            self._debris += home.count
            self._count -= home.count
            self._size -= home.size

    # What a successor is told. It takes as long as there are keys, but never in one go.

    @property
    def is_unpacking(self) -> bool:
        """Whether a predecessor's pages are not all unpacked yet."""
        return bool(self._pages)

    def pages(self) -> Iterator[bytes]:
        """
        Yield every key in pages, the least recently used first.

        Keys may come and go between two pages. Those that do are recorded for
        ``page_of_changes``, until ``end_pages``.
        """
        while self.unpack():
            pass
        self._changed = set()
        names = [*self._owned]
        for start in range(0, len(names), PAGE):
            found = (
                (name, self._owned.get(name, GONE))
                for name in islice(names, start, start + PAGE)
            )
            yield written([each for each in found if each[1][0] in self._homes])

    def page_of_changes(self, *, last: bool = True) -> bytes:
        """
        Return a page of what has changed since ``pages`` began, to be read after them.

        Args:
            last: Whether no other such page follows, with what changes from now on.
        """
        changed = self._changed or set()
        # A key that is used goes to the end, so those that changed all stand there.
        kept = list(takewhile(changed.__contains__, reversed(self._owned)))
        gone = changed.difference(kept)
        if not last:
            self._changed = set()
        entries = [(key, self._owned[key]) for key in reversed(kept)]
        return written([*((key, GONE) for key in gone), *entries])

    def end_pages(self) -> None:
        """Stop recording what changes."""
        self._changed = None

    def state(self) -> list[list[int]]:
        """Return all places for ``restore``: number, slot, claimed, keys and bytes."""
        return [
            [home.place, home.slot, home.claimed, home.count, home.size]
            for homes in self._places
            for home in homes
        ]

    def restore(self, state: Sequence[Sequence[int]], pages: Sequence[Page]) -> None:
        """
        Take over another table's keys; this one has to be empty.

        All keys can be used at once; ``unpack`` moves them out of the pages later.

        Args:
            state: The other table's places, as ``state`` returned them.
            pages: The other table's pages, in the order they were written in.
        """
        homes = [Home(p, slot, bool(c), *counts) for p, slot, c, *counts in state]
        self._homes = {home.place: home for home in homes}
        self._known = frozenset(self._homes)
        self._next_place = max(self._homes) + 1
        slots, self._places = len(self._places), []
        for made, claimed in zip(homes[::2], homes[1::2], strict=True):
            self._places.append([made, claimed])
        self.resize(slots)
        self._count = sum(home.count for home in homes)
        self._size = sum(home.size for home in homes)
        self._pages = [*reversed(pages)]

    def unpack(self) -> bool:
        """Unpack the oldest page that is left; return False if there was none."""
        if not self._pages:
            return False
        for key, entry in self._pages.pop().items():
            if key in self._recalled:
                continue
            self._unpacked.pop(key, None)
            if entry[0] in self._known:
                self._unpacked[key] = entry
        if not self._pages:
            # Last, because whatever was used since ``restore`` is younger.
            self._unpacked.update(self._owned)
            self._owned, self._unpacked = self._unpacked, {}
            self._recalled.clear()
            self._oldest.clear()
        return True

    def fill(self, contents: Contents) -> None:
        """Add the *contents* of another table, written before there were pages."""
        texts, slots, ttls, expires, claims = contents
        for row in zip(texts, slots, ttls, expires, claims, strict=True):
            text, slot, ttl, until, claimed = row
            # As it was when it was used last.
            self.own(text.encode("latin-1"), slot, until - ttl, ttl, claimed=claimed)
