"""The progress of jobs on stderr, if that is a terminal. rich is imported only then."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from titan.cli.text import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress

# After other output it stays away for so long: a flood of it is not drawn over at every line.
_QUIET_SECONDS: Final = 0.2
_DRAW_SECONDS: Final = 0.25
# Of what is counted far more often than anybody could see.
_COUNT_SECONDS: Final = 0.1


class ProgressBar:
    """Tasks that have ended, of all. Does nothing where nobody looks."""

    def __init__(self, title: str, *, is_wanted: bool = True) -> None:
        self._bar: Progress | None = None
        self._is_hidden = False
        self._hidden_until = 0.0
        if not is_wanted or not is_terminal(sys.stderr):
            return
        from rich.console import Console  # noqa: PLC0415 - see above
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            # Refreshed when something changes, so that no thread writes between others' lines.
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=None, note="")
        self._bar.start()

    def show(self, *, ended: int, total: int, failed: int) -> None:
        """The counts as they are now."""
        if self._bar is not None:
            note = f"{failed} failed" if failed else ""
            self._bar.update(self._task, completed=ended, total=total, note=note)
            self._draw()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Out of the way while something else writes to the terminal, and a moment longer."""
        if self._bar is not None and not self._is_hidden:
            self._bar.stop()
            self._is_hidden = True
        yield
        self._hidden_until = time.monotonic() + _QUIET_SECONDS

    async def keep_current(self) -> None:
        """Lets its clock go on and shows it again after other output, until it is cancelled."""
        while self._bar is not None:
            self._draw()
            await asyncio.sleep(_DRAW_SECONDS)

    def close(self) -> None:
        """Removes it, and gives the terminal its cursor back."""
        if self._bar is not None and not self._is_hidden:
            self._bar.stop()
        self._bar = None

    def _draw(self) -> None:
        if self._bar is None or (self._is_hidden and time.monotonic() < self._hidden_until):
            return
        if self._is_hidden:
            self._is_hidden = False
            self._bar.start()
        self._bar.refresh()


@contextmanager
def count_on_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for what tells how far it is at every step; some times a second that is shown."""
    bar = ProgressBar(title)
    due = 0.0

    def show(done: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + _COUNT_SECONDS
            bar.show(ended=done, total=total, failed=0)

    try:
        yield show
    finally:
        bar.close()
