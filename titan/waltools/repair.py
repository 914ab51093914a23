"""Repairs a manager's data directory: what of it is kept, what that loses, and doing it.

Which bytes stay is judged and done by `wal.repair`. Here is what the records mean: which
jobs go with them, whether a snapshot holds the right state, and the last record of every
repair, a start with a new epoch: job ids that are given out from then on can never be
taken for those that went.

A repair that was stopped is done again: a file in the directory says that one is under
way, and where it puts things, until its last record is durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import wal
from titan import events as ev
from titan.errors import Refused, TitanError
from titan.journal.mark import NAME, read_mark
from titan.manager.directory import write_description
from titan.waltools.examine import Examination, Progress, examine
from titan.waltools.places import DESCRIPTION, LOCK, MANIFEST, Places
from titan.waltools.proposal import Loss, Proposal
from titan.waltools.start import StartOf, append_start
from wal import FileSystem, Record
from wal.directory import find_segments
from wal.filesystem import OS_FILE_SYSTEM, read_all, replace_file
from wal.inspect import inspect_log
from wal.repair import Anchor, NoStart, Plan, execute_plan, make_plan
from wal.report import SegmentReport
from wal.salvage import salvage

MARKER: Final = "repair-unfinished"
_MARKER_BYTES_MAX: Final = 256


class RepairRefused(Refused):
    """Not now: somebody uses the directory. The text says who."""


class NotRepairable(TitanError):
    """Nothing that a repair could do would help; the text says why and what to do."""


@dataclass(slots=True, kw_only=True)
class Done:
    """What a repair did."""

    aside: Path
    lsn: int
    """Of the record that it appended."""
    epoch: int
    warnings: list[str] = field(default_factory=list)


class Repair:
    """One repair of one directory, or a look at what it would do, from lock to release."""

    def __init__(
        self,
        places: Places,
        *,
        file_system: FileSystem = OS_FILE_SYSTEM,
        segment_bytes: int | None = None,
        progress: Progress = lambda _: None,
        is_look: bool = False,
    ) -> None:
        """Takes the lock of the directory; for a look only if there is one, and makes no file.

        Raises RepairRefused, OSError.
        """
        self._places = places
        self._file_system = file_system
        self._segment_bytes = segment_bytes or wal.SEGMENT_BYTES
        self._progress = progress
        self._lock: wal.Lock | None = None
        self._log_lock: wal.Lock | None = None
        try:
            self._take_locks(is_look=is_look)
        except BaseException:
            self.close()
            raise

    def propose(self) -> Proposal:
        """Looks at everything and says what would be done; changes nothing.

        Raises NotRepairable, MarkUnreadable, wal.WalError, OSError.
        """
        places = self._places
        mark = read_mark(places.root)
        if mark is not None:
            raise NotRepairable(
                f"{places.root} has a copy of the journal in {mark.journal}: a manager that starts "
                "on it with --journal fetches anew what is damaged. Nothing was changed. If that "
                f"database is lost, remove {places.root / NAME} before a repair"
            )
        found = examine(places, file_system=self._file_system, progress=self._progress)
        try:
            plan = make_plan(found.log, list(_anchors(found)), file_system=self._file_system)
        except NoStart as error:
            raise NotRepairable(
                f"{error}; nothing was changed. `titan wal restore` takes up a backup; to begin "
                f"anew instead, move {places.root} away"
            ) from error
        for fault in found.replay_faults:
            if plan.first_lsn <= fault.lsn <= plan.last_lsn:
                raise NotRepairable(
                    f"{fault.why}; the bytes there are as they were written, so this is nothing "
                    "that a repair can mend: use the version of Titan that wrote them, or report it"
                )
        lost, lost_history = self._read_losses(found, plan)
        return Proposal(
            places=places,
            found=found,
            plan=plan,
            lost=lost,
            lost_history=lost_history,
            unfinished=self._read_marker(),
            is_undescribed=self._is_undescribed(),
        )

    def carry_out(
        self, proposal: Proposal, *, now_us: int, aside_name: str, epoch: int, version: str
    ) -> Done:
        """Does it, and appends the start that ends it. Not in a look. The lock is let go of.

        Raises NotRepairable, NotStarted, wal.WalError, OSError.
        """
        assert self._lock is not None
        file_system, places = self._file_system, self._places
        aside_name = proposal.unfinished or self._free_name(aside_name)
        marker = [f"{aside_name}\n".encode()]
        replace_file(file_system, str(places.root), MARKER, f"{MARKER}.tmp", marker)
        aside = places.root / aside_name
        execute_plan(proposal.plan, str(aside), file_system=file_system)
        # What is left is judged anew, as if by somebody else, before anything is added to it.
        found = examine(places, file_system=file_system, progress=self._progress)
        if not found.is_sound or found.state is None:
            raise NotRepairable(
                f"{places.root} is not sound after the repair; everything that was moved is in "
                f"{aside}. Please report this"
            )
        lock, self._lock = self._lock, None

        def finish() -> None:
            if proposal.is_undescribed:
                assert found.state is not None
                write_description(places.root, found.state.cluster_id)
            file_system.unlink(str(places.root / MARKER))
            file_system.fsync_directory(str(places.root))

        started = append_start(
            found,
            StartOf(now_us, epoch, version),
            lock=lock,
            after=proposal.plan.start,
            finish=finish,
            file_system=file_system,
            segment_bytes=self._segment_bytes,
        )
        return Done(aside=aside, lsn=started.lsn, epoch=epoch, warnings=started.warnings)

    def close(self) -> None:
        """Lets the locks go. Idempotent."""
        locks, self._lock, self._log_lock = (self._lock, self._log_lock), None, None
        for lock in locks:
            if lock is not None:
                lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_locks(self, *, is_look: bool) -> None:
        """The manager's, and the one that the log's writer has if it was given no other."""
        places = self._places
        # Where there is nothing to repair, no file is left behind either.
        is_made = not is_look and bool(self._find_segments())
        self._lock = self._take_lock(places.root, is_made=is_made)
        if not places.is_log_alone:
            self._log_lock = self._take_lock(places.log, is_made=False)

    def _take_lock(self, directory: Path, *, is_made: bool) -> wal.Lock | None:
        """A lock that is not there is held by nobody; it is made if it is to be held."""
        if not is_made and LOCK not in self._names(directory):
            return None
        try:
            return wal.Lock(directory / LOCK, file_system=self._file_system)
        except wal.Locked as error:
            holder = f"process {error.pid}" if error.pid else "another process"
            raise RepairRefused(
                f"{self._places.root} is in use by {holder}; stop the manager, then repair"
            ) from error

    def _find_segments(self) -> list[int]:
        try:
            return find_segments(self._file_system, str(self._places.log))
        except (FileNotFoundError, NotADirectoryError):
            return []  # The inspection says so.

    def _names(self, directory: Path) -> list[str]:
        try:
            return self._file_system.list_directory(str(directory))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _read_marker(self) -> str:
        try:
            fd = self._file_system.open(str(self._places.root / MARKER))
        except FileNotFoundError:
            return ""
        try:
            name = read_all(self._file_system, fd, _MARKER_BYTES_MAX, 0).decode(errors="replace")
        finally:
            self._file_system.close(fd)
        # It is only ever a name in this directory, whoever wrote the file.
        return Path(name.strip()).name or "repaired"

    def _is_undescribed(self) -> bool:
        """Whether a manager's directory lacks what says so. A log alone, or a backup, is none."""
        if self._places.is_log_alone:
            return False
        return not {DESCRIPTION, MANIFEST} & {*self._names(self._places.root)}

    def _free_name(self, wanted: str) -> str:
        """The name, with a number if it is taken: files do not get mixed with another repair's."""
        number, name = 1, wanted
        while self._names(self._places.root / name):
            number += 1
            name = f"{wanted}-{number}"
        return name

    def _read_losses(self, found: Examination, plan: Plan) -> tuple[Loss, Loss]:
        """Reads what goes, as far as it can be read."""
        lost, history = _Reader(plan.lost), _Reader(plan.lost_history)
        if plan.lost or plan.lost_history:

            def take(_: SegmentReport | None, records: Iterable[Record]) -> None:
                for record in records:
                    lost.take(record)
                    history.take(record)

            log = inspect_log(str(self._places.log), file_system=self._file_system, on_records=take)
            for segment in log.segments:
                if segment.log_id == log.log_id:
                    for records in salvage(segment, file_system=self._file_system):
                        take(None, records)
        return lost.loss(), history.loss()


def _anchors(found: Examination) -> Iterable[Anchor]:
    for snapshot in found.snapshots:
        # That its place in the log is wrong, the plan sees by itself, and for the part it keeps.
        is_usable = snapshot.position is not None and not snapshot.is_wrong_state
        fault = "" if is_usable else snapshot.fault
        yield Anchor(str(snapshot.path), snapshot.position, is_usable, fault)
    for slot in found.slots:
        yield Anchor(str(slot.path), slot.position, is_start=False)


class _Reader:
    """Counts what is in records of a range."""

    def __init__(self, records: range) -> None:
        self._records = records
        self._seen: set[int] = set()
        self._events: Counter[str] = Counter()
        self._submitted: set[int] = set()
        self._ended: set[int] = set()

    def take(self, record: Record) -> None:
        if record.lsn not in self._records or record.lsn in self._seen:
            return
        self._seen.add(record.lsn)
        try:
            _, events = ev.decode_record(record.payload)
        except ev.EventError:
            self._events["?"] += 1
            return
        for event in events:
            self._events[type(event).__name__] += 1
            if isinstance(event, ev.JobSubmitted):
                self._submitted.add(event.job_id)
            elif isinstance(event, ev.AttemptEnded):
                self._ended.add(event.job_id)

    def loss(self) -> Loss:
        events = dict(sorted(self._events.items()))
        return Loss(
            self._records, len(self._seen), events, sorted(self._submitted), sorted(self._ended)
        )
