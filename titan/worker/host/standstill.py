"""Sees to it that suspended attempts stand still: looks until nothing of them moves.

The first signal reaches all there was; what was being started at that moment, outside of the
task's process group, was not there yet.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from typing import Final

from titan.model import AttemptKey

# Each look waits twice as long as the one before, five seconds in all: only what starts others
# faster than they can be found takes more than two.
LOOKS_MAX: Final = 10
FIRST_SECONDS: Final = 0.005

_log = logging.getLogger(__name__)


class Standstill:
    """The attempts of which something may still move. Whoever asks reads the clock."""

    def __init__(self, stop: Callable[[Collection[AttemptKey]], Collection[AttemptKey]]) -> None:
        """`stop` stops what moves of these attempts, and tells of which there was something."""
        self._stop = stop
        # How often each will be looked at.
        self._looks: dict[AttemptKey, int] = {}
        self._wait_seconds = FIRST_SECONDS
        self.next_look = math.inf
        """When `look` is due, on the clock of `now`; infinity: not at all."""

    def add(self, key: AttemptKey, now: float) -> None:
        """It was told to stop."""
        self._looks[key] = LOOKS_MAX
        self._wait_seconds = FIRST_SECONDS
        self.next_look = min(self.next_look, now + FIRST_SECONDS)

    def remove(self, key: AttemptKey) -> None:
        """It was told to go on, or has ended."""
        if self._looks.pop(key, None) and not self._looks:
            self.next_look = math.inf

    def look(self, now: float) -> None:
        """Stop what still moves. One walk over /proc for all."""
        moving = self._stop(self._looks.keys())
        for key, looks in list(self._looks.items()):
            if key in moving and looks > 1:
                self._looks[key] = looks - 1
                continue
            del self._looks[key]
            if key in moving:
                _log.warning("task %d.%d was suspended and does not stand still", *key[1:3])
        self.next_look = now + self._wait_seconds if self._looks else math.inf
        self._wait_seconds *= 2
