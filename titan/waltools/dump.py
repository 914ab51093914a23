"""The log for people: events as objects of plain values, in order; all, or those that are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import wal
from titan import events as ev
from titan.queries.plain import plain_event
from titan.snapshots import SnapshotUnusable, load_snapshot
from titan.waltools.journal_files import JournalFiles
from titan.waltools.places import Places, find_places
from titan.waltools.selection import EVERYTHING, Picker, Selection
from wal.directory import find_segments
from wal.filesystem import OS_FILE_SYSTEM


def dump_events(
    directory: Path,
    selection: Selection = EVERYTHING,
    *,
    wait: Callable[[], bool] | None = None,
) -> Iterator[dict[str, object]]:
    """Every durable event that is selected: lsn, time in Unix seconds, event, its fields by name.

    Takes a data directory or its folder `wal`; reads a live one too. With `wait`, which is
    called whenever there is no more for now, it goes on until that returns False. Raises
    wal.WalError, OSError, and EventError for a record that this version cannot read.
    """
    if selection.limit == 0:
        return
    places = find_places(directory)
    picker = Picker(selection)
    count = 0
    if selection.worker is not None:
        _note_what_came_before(places, picker)
    for lsn, payload in _records(places.log, selection, wait):
        if not picker.may_hold(payload):
            continue
        time_us, events = ev.decode_record(payload)
        if selection.ends_before(lsn, time_us):
            return
        for event in picker.pick(lsn, time_us, events):
            yield {
                "lsn": lsn,
                "time": time_us / 1e6,
                "event": type(event).__name__,
                **plain_event(event),
            }
            count += 1
            if count == selection.limit:
                return


def dump_journal(
    files: JournalFiles,
    selection: Selection = EVERYTHING,
    *,
    wait: Callable[[], bool] | None = None,
) -> Iterator[dict[str, object]]:
    """The same of a journal in a database, of which only what may be selected is fetched.

    Raises as `dump_events`, JournalUnavailable, JournalRefused.
    """
    files.fetch_range(
        from_lsn=selection.from_lsn,
        since_us=selection.since_us,
        with_what_came_before=selection.worker is not None,
    )

    def wait_for_more() -> bool:
        return files.fetch_more() or (wait is not None and wait())

    return dump_events(files.places.root, selection, wait=wait_for_more)


def _note_what_came_before(places: Places, picker: Picker) -> None:
    """Which workers there were at the oldest snapshot, if the log has lost its beginning."""
    firsts = _find_segments(places.log)
    if not firsts or firsts[0] == 1:
        return
    for lsn in wal.find_snapshots(places.snapshots):
        if lsn >= firsts[0] - 1:
            with suppress(SnapshotUnusable):
                state = load_snapshot(places.root, lsn).state
                for worker in state.workers.values():
                    keys = [(*key, each.attempt) for key, each in worker.attempts.items()]
                    picker.note_held(worker.number, worker.name, keys)
                return


def _records(
    directory: Path, selection: Selection, wait: Callable[[], bool] | None
) -> Iterator[wal.Record]:
    with wal.Reader(directory, from_lsn=_first_lsn(directory, selection)) as reader:
        while True:
            for record in reader:
                yield record
                if selection.to_lsn is not None and record.lsn >= selection.to_lsn:
                    return
            if wait is None or not wait():
                return


def _first_lsn(directory: Path, selection: Selection) -> int:
    """Where to begin: no earlier than it must be, nor than there are records."""
    firsts = _find_segments(directory)
    if not firsts:
        return 1  # The reader says that there is no log.
    if selection.worker is not None:
        return firsts[0]  # What a worker is called and holds, earlier records tell.
    lsn = max(selection.from_lsn, firsts[0])
    if selection.since_us is None:
        return lsn
    # Times never decrease: the last segment that begins before it holds the place.
    later = [first for first in firsts if first > lsn]
    while later:
        middle = len(later) // 2
        if _first_time_us(directory, later[middle]) < selection.since_us:
            lsn, later = later[middle], later[middle + 1 :]
        else:
            later = later[:middle]
    return lsn


def _find_segments(directory: Path) -> list[int]:
    try:
        return find_segments(OS_FILE_SYSTEM, str(directory))
    except FileNotFoundError:
        return []


def _first_time_us(directory: Path, first_lsn: int) -> int:
    """When the first record of a segment was made; a segment without any is never too early."""
    with wal.Reader(directory, from_lsn=first_lsn) as reader:
        records = reader.read(1)
    return ev.decode_record(records[0].payload)[0] if records else 1 << 63
