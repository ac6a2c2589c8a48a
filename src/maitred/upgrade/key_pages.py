"""
The key table on its way from one program to the next, without a pause.

    before the rehearsal    every key is written down, a page at a time, between clients
    in the snapshot         what has changed since then, the last page
    after the takeover      the pages are mapped, and asked for each key that is needed;
                            they are unpacked a page at a time, between clients

Pages stand in an anonymous file of their own (memfd), not in the snapshot.

Invariant: what is written in one go is a page, and what changed while the others were
written. No part of an upgrade takes longer because there are more keys.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Mapping
from typing import Any, Final

from maitred.errors import UpgradeRefused, UsageError
from maitred.placement import Contents, KeyTable, Page

from .snapshot import Past, Table

REST: Final = 1.0
"Seconds left to clients for each second that is spent on pages."


class KeyPages:
    """Writes the pages of a key table, and unpacks those of a predecessor."""

    def __init__(self, keys: KeyTable) -> None:
        """Start without pages; *keys* is the table. Needs a running loop."""
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        # Where each page is: its start and its size.
        self._rows: list[tuple[int, int]] = []
        self._unpacking: asyncio.Task[None] | None = None

    async def write(self) -> None:
        """
        Write every key; clients are served between two pages.

        Raises:
            UpgradeRefused: The system refuses the memory.
        """
        self.drop()
        if self._unpacking is not None:
            await self._unpacking
        try:
            self._fd = os.memfd_create("maitred-keys", os.MFD_CLOEXEC)
            began = self._loop.time()
            for page in self._keys.pages():
                self._rows.append(self._append(page))
                began = await self._rest(began)
        except OSError as exc:
            raise UpgradeRefused(
                f"the key table could not be written ({exc.strerror})"
            ) from exc

    async def _rest(self, began: float) -> float:
        """Sleep for as long as was spent since *began*; return the time after that."""
        await asyncio.sleep((self._loop.time() - began) * REST)
        return self._loop.time()

    def _append(self, page: bytes) -> tuple[int, int]:
        """
        Write *page* behind the others; return its start and its size.

        Raises:
            OSError: The system refuses the memory.
        """
        start = sum(self._rows[-1]) if self._rows else 0
        with open(self._fd, "r+b", buffering=0, closefd=False) as file:
            file.seek(start)
            file.truncate()
            if file.write(page) != len(page):
                raise OSError(0, "the file was not written whole")
        return start, len(page)

    def catch_up(self) -> None:
        """
        Write what has changed, so that less is left for the snapshot.

        Raises:
            UpgradeRefused: The system will not have it.
        """
        try:
            self._rows.append(self._append(self._keys.page_of_changes(last=False)))
        except OSError as exc:
            raise UpgradeRefused(
                f"the key table could not be written ({exc.strerror})"
            ) from exc

    def state(self, table: Table) -> dict[str, Any]:
        """
        Write what has changed; return where all pages are. Called after ``write``.

        Raises:
            UpgradeRefused: The system will not have it.
        """
        try:
            last = self._append(self._keys.page_of_changes())
        except OSError as exc:
            raise UpgradeRefused(
                f"the key table could not be written ({exc.strerror})"
            ) from exc
        return {
            "file": table.own(self._fd),
            "pages": [*self._rows, last],
            "places": self._keys.state(),
        }

    def drop(self) -> None:
        """Close the pages, because there is no successor."""
        self._keys.end_pages()
        self._rows.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def restore(self, state: Mapping[str, Any], past: Past) -> None:
        """
        Restore the keys that a predecessor left; ``unpack`` is still to be called.

        Raises:
            UsageError: They cannot be read.
        """
        if "key_table" in state:  # of a version that wrote them into the snapshot
            self._keys.fill(Contents(*state["key_table"]))
            return
        pages = state["key_pages"]
        fd = past.take(pages["file"])
        try:
            size = os.fstat(fd).st_size
            with memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ)) as all_:
                found = [Page(all_[at : at + length]) for at, length in pages["pages"]]
            self._keys.restore(pages["places"], found)
            while past.rehearsal and self._keys.unpack():
                pass
        except (OSError, ValueError) as exc:
            raise UsageError(f"the keys of the running master: {exc}") from exc
        finally:
            os.close(fd)

    def unpack(self) -> None:
        """Schedule what was restored to be unpacked, between clients."""
        if self._keys.is_unpacking:
            self._unpacking = self._loop.create_task(self._unpack())

    async def _unpack(self) -> None:
        began = self._loop.time()
        while self._keys.unpack():
            began = await self._rest(began)
        self._unpacking = None
