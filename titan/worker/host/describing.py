"""Tells the agent what the task host has: all of it in pages, or of some keys."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from titan.model import AttemptKey, HeldState
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.messages import Description
from titan.worker.protocol import Describe, Described

# An answer becomes a message of gRPC, which takes 16 MiB; a command may have one.
ANSWER_BYTES_MAX: Final = 8 << 20


def described(book: Bookkeeping, question: Describe) -> Described:
    """The answer. O(all) where all was asked for, else O(keys)."""
    keys: Iterable[AttemptKey] = question.keys
    if not question.keys:
        after = question.after
        wanted = (key for key in book.known_keys() if after is None or key > after)
        # One more tells whether there is more.
        keys = heapq.nsmallest(question.limit + 1, wanted)
    found: list[Description] = []
    size_bytes = 0
    for key in keys:
        description = describe(book, key)
        if description is None:
            continue
        size_bytes += description.size_bytes
        if len(found) == question.limit or (found and size_bytes > ANSWER_BYTES_MAX):
            return Described(question.number, tuple(found), is_cut=True)
        found.append(description)
    return Described(question.number, tuple(found), is_cut=False)


def describe(book: Bookkeeping, key: AttemptKey) -> Description | None:
    """What is known of the attempt, None when nothing is."""
    attempt = book.find(key)
    if attempt is not None:
        launch, process = attempt.launch, attempt.process
        state = HeldState.RUNNING if attempt.start_us else HeldState.QUEUED
        pid, ticks = (process.pid, process.start_ticks) if process else (0, 0)
        return Description(key, state, launch.command, launch.cwd, pid, ticks, attempt.start_us)
    end = book.find_end(key)
    if end is None:
        return None
    record = book.direct.find(key)
    command, cwd = (record.command, record.cwd) if record else ((), b"")
    return Description(key, HeldState.ENDED, command, cwd, start_us=end.start_us, end=end)
