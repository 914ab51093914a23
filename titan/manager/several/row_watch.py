"""Watches over the row that was appended to a shared log and is not confirmed yet."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from titan.logs import LogLine

if TYPE_CHECKING:
    from titan.manager.several.shared_journal import SharedJournal

_log = logging.getLogger("titan.journal")

LOOK_SECONDS: Final = 0.5
# A row that is not confirmed holds up everybody. After the first it is told, after the second the
# connection is not believed in any more.
SLOW_SECONDS: Final = 5.0
ANSWER_SECONDS_MAX: Final = 30.0


async def watch_rows(journal: SharedJournal) -> None:
    """Until it is cancelled. A row may wait for ever, as behind a lock on the table, while the
    lease is renewed beside it."""
    is_told = False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        seconds = journal.waiting_seconds
        if seconds > ANSWER_SECONDS_MAX:
            _log.error(LogLine("the journal did not confirm a row", seconds=round(seconds, 1)))
            journal.cut()
        elif seconds > SLOW_SECONDS and not is_told:
            _log.warning(
                LogLine(
                    "the journal has not confirmed a row yet, and nobody is answered meanwhile",
                    seconds=round(seconds, 1),
                )
            )
        is_told = seconds > SLOW_SECONDS
