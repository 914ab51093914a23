"""What a new task host does about one that was killed: ends its tasks, keeps what it knew."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from titan.worker import processes
from titan.worker.host import cgroups
from titan.worker.host import journal as host_journal
from titan.worker.host.copies import is_writer_alive
from titan.worker.host.records import Recovered, recover
from titan.worker.output.paths import output_path
from titan.worker.output.targets import find_named, is_other_file

# Beyond it only processes in uninterruptible sleep are there.
END_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


def take_over(journal: Path, boot_id: str, output_directory: bytes, tag: str) -> Recovered | None:
    """What the host before this one left, after its processes have been ended.

    `tag` is in the names of its control groups. None when there was none. A journal that can't be
    read is put aside; that of a host which still runs elsewhere, of whose directory this one is a
    copy, is passed over. Raises OSError.
    """
    try:
        found = host_journal.read(journal)
    except host_journal.JournalError as error:
        # After a power loss it may be anything: it was never synced.
        aside = journal.with_name(f"{journal.name}.unreadable")
        _log.error("%s; put aside as %s", error, aside)
        journal.rename(aside)
        return None
    if found is None:
        return None
    header, entries = found
    recovered = recover(entry.record for entry in entries)._replace(starts=header.starts)
    if header.boot_id != boot_id:
        return recovered
    if is_writer_alive(header):
        _log.warning(
            "this directory is a copy of that of the task host with pid %d, which still runs: what "
            "stands in its journal is left to that one",
            header.pid,
        )
        return None
    marks = list(_marks(recovered, entries, output_directory))
    if marks:
        _log.warning("the host before this one died; ending its %d tasks", len(marks))
        for left in processes.end(marks, END_SECONDS):
            _log.error("process %d of a lost task does not end", left.pid)
    cgroups.remove_left(header.cgroups, tag)
    return recovered


def _leads_there(path: bytes) -> bool:
    """Whether it is a link, and to the file that the attempt had."""
    try:
        return bool(find_named(path)) and not is_other_file(path, os.stat(path))
    except OSError:
        return False


def _marks(
    recovered: Recovered, entries: Sequence[host_journal.Entry], output_directory: bytes
) -> Iterator[processes.Mark]:
    for unfinished in recovered.unfinished:
        key, intent, process = unfinished
        since_ticks = process.start_ticks if process else entries[intent].ticks
        pid = process.pid if process else 0
        output = output_path(output_directory, key, b"")
        links = [output + suffix for suffix in (b"out", b"err") if _leads_there(output + suffix)]
        # Without symbolic links, as the kernel shows the paths of open files.
        named = tuple(map(os.path.realpath, links))
        yield processes.Mark(key, since_ticks, pid, output, named)
