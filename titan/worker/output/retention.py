"""Removes the output of ended tasks that is too old, or too much.

The agent's side of it: `output_shelf.py` decides, `output_files.py` has the disk, and works in
a thread. What is held (it waits, runs, or its end is not acknowledged) is never touched, and
without a task host, when nobody knows what is held, nothing is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from titan import units
from titan.model import AttemptKey
from titan.worker.output import files as output_files
from titan.worker.output.removals import Removals
from titan.worker.output.shelf import Entry, Limits, Name, Shelf

# What ended within it is dealt with together.
GATHER_SECONDS: Final = 1.0
# Ages are looked at so often.
LOOK_SECONDS: Final = 60.0
# In the thread at once: about a tenth of a second.
BATCH_ATTEMPTS: Final = 1_000
# A disk that can't be read or written is tried again after it.
FAILED_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Whoever knows which attempts are held."""

    def held_names(self) -> AbstractSet[Name] | None:
        """Job, index and attempt of all that is held; None: that is not known now."""
        ...


class OutputRetention:
    """The output below one directory. `run` does the work; the rest only takes note."""

    def __init__(self, directory: Path, limits: Limits, keeper: Keeper) -> None:
        """Reads what was removed before. Nothing happens before `run`."""
        self._directory = os.fsencode(directory)
        self._keeper = keeper
        self._shelf = Shelf(limits)
        self._removals = Removals(directory.with_name("removals"))
        # Ended and not looked at yet, with the time of the end in seconds.
        self._ended: dict[Name, int] = {}
        self._wants_look = True
        self._woken = asyncio.Event()

    def ended(self, key: AttemptKey, end_us: int) -> None:
        """It has ended and is held no more."""
        self._ended[key[1:]] = (end_us or time.time_ns() // 1000) // 1_000_000
        self._woken.set()

    def look_again(self) -> None:
        """There may be output of attempts whose ends nobody told: a host died."""
        self._wants_look = True
        self._woken.set()

    def find_sentence(self, key: AttemptKey, end_us: int) -> str:
        """What became of the output of an attempt that ended then; empty: nothing known."""
        removal = self._removals.find(end_us // 1_000_000) if end_us else None
        if removal is None:
            return ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(removal.at_s))
        return f"it was removed on {when} by {removal.option}"

    async def run(self) -> None:
        """For ever. A disk that fails is reported and tried again."""
        while True:
            try:
                await self._turn()
            except OSError as error:
                _log.warning("output that is too old or too much was not removed: %s", error)
                # What of it is there still is found again.
                self._wants_look = True
                await asyncio.sleep(FAILED_SECONDS)
            else:
                await self._wait()

    async def _turn(self) -> None:
        held = self._keeper.held_names()
        if self._wants_look and held is not None:
            await self._look_through(held)
        while self._ended:
            batch = dict(islice(self._ended.items(), BATCH_ATTEMPTS))
            for name in batch:
                del self._ended[name]
            for entry in await asyncio.to_thread(self._measure, batch):
                self._shelf.add(entry)
        while await self._remove_some():
            pass
        await asyncio.to_thread(self._removals.store)
        if self._shelf.wants_look(time.time()):
            self.look_again()

    async def _look_through(self, held_before: AbstractSet[Name]) -> None:
        """Begin anew with what is there. It goes on meanwhile, and each attempt counts once."""
        self._wants_look = False
        found = await asyncio.to_thread(output_files.look_through, self._directory)
        # What was held at the beginning or is now has not ended, or is among those that have.
        held = held_before | (self._keeper.held_names() or set())
        ended = await asyncio.to_thread(self._measure, self._take_ended())
        self._shelf.fill(found, ended, held)
        size = units.format_size(self._shelf.size_bytes)
        _log.info("output of ended tasks: %s in %d files", size, self._shelf.files)

    def _take_ended(self) -> dict[Name, int]:
        taken, self._ended = self._ended, {}
        return taken

    def _measure(self, ended: dict[Name, int]) -> list[Entry]:
        return output_files.measure(self._directory, ended)

    async def _remove_some(self) -> bool:
        """Whether there may be more to remove."""
        held = self._keeper.held_names()
        if held is None:
            return False
        now_s = time.time()
        due = self._shelf.take_due(now_s, BATCH_ATTEMPTS)
        if not due:
            return False
        # What is held comes again when it ends.
        entries = [entry for entry, _ in due if entry.name not in held]
        removed = await asyncio.to_thread(output_files.remove, self._directory, entries)
        if removed:
            self._removals.note(removed[-1].end_s, int(now_s), due[-1][1])
        return True

    async def _wait(self) -> None:
        seconds = LOOK_SECONDS
        due = self._shelf.next_due_s()
        if due is not None:
            seconds = min(seconds, max(due - time.time(), GATHER_SECONDS))
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
                self._woken.clear()
                await asyncio.sleep(GATHER_SECONDS)
        except TimeoutError:
            pass
