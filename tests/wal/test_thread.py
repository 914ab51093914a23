"""The writer thread: group commit, callbacks, failure and the end. Deadlines are for hangs only."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Queue
from threading import Event, Thread

import pytest

from tests.wal.builders import Disk, fake_disk, has_room, payload, payloads
from tests.wal.fake_fs import Call
from wal import BacklogFull, Flush, Log, LogClosed, LogFailed, NotFlushed, Reader, flusher
from wal.layout import FRAME_HEADER_BYTES
from wal.segment import Segment

DEADLINE_SECONDS = 60.0


@dataclass
class Heard:
    """What the callbacks were told, in order."""

    durable: list[int] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    room: Queue[bool] = field(default_factory=Queue)
    failed: Event = field(default_factory=Event)

    def on_failure(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    def start(self, log: Log) -> Heard:
        log.start(self.durable.append, self.on_failure, self.room.put)
        return self


class Gate:
    """Holds the writer thread inside its next call of an operation until it is let go."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.entered = Event()
        self.opened = Event()

    def __call__(self, call: Call) -> int | None:
        if call.operation == self.operation and "next.tmp" in call.path:
            self.entered.set()
            assert self.opened.wait(DEADLINE_SECONDS)
        return None


def frames_in(disk: Disk) -> list[int]:
    """Return the number of records of each frame of the first segment."""
    segment = Segment(disk.file_system, disk.directory, 1)
    counts = [frame.record_count for frame in segment.frames()]
    segment.close()
    return counts


def test_what_is_appended_becomes_durable(disk: Disk) -> None:
    log = disk.open()
    heard = Heard().start(log)
    for number in range(1, 101):
        assert log.append(payload(number)) == number
    assert log.wait_durable(100, DEADLINE_SECONDS)
    assert log.durable_lsn == log.position.lsn == 100
    log.close()
    # Each flush was told once, in order, and the last one covers all.
    assert heard.durable == sorted(set(heard.durable))
    assert heard.durable[-1] == 100
    assert heard.failures == []
    assert heard.room.empty()
    assert disk.replay() == [payload(number) for number in range(1, 101)]


def test_what_gathers_during_a_flush_is_one_frame() -> None:
    disk, file_system = fake_disk(segment_bytes=1 << 20)
    log = disk.open()
    gate = Gate("fdatasync")
    file_system.on_call = gate_as_hook(gate)
    heard = Heard().start(log)
    log.append(payload(1))
    assert gate.entered.wait(DEADLINE_SECONDS)
    for number in range(2, 5_001):
        log.append(payload(number))
    assert heard.durable == []  # Invariant 7: nothing is told before it is synced.
    assert log.durable_lsn == 0
    assert not log.wait_durable(1, timeout=0)
    gate.opened.set()
    assert log.wait_durable(5_000, DEADLINE_SECONDS)
    log.abandon()
    assert frames_in(disk) == [1, 4_999]
    assert heard.durable == [1, 5_000]


def test_each_flush_is_told_to_who_counts_them() -> None:
    disk, file_system = fake_disk(segment_bytes=1 << 20)
    log = disk.open()
    gate = Gate("fdatasync")
    file_system.on_call = gate_as_hook(gate)
    flushes: list[Flush] = []
    log.start(print, print, print, flushes.append)
    log.append(b"one")
    assert gate.entered.wait(DEADLINE_SECONDS)
    log.append(b"two")
    log.append(b"three")
    gate.opened.set()
    assert log.wait_durable(3, DEADLINE_SECONDS)
    log.close()
    assert [(each.records, each.size_bytes) for each in flushes] == [
        (1, FRAME_HEADER_BYTES + 4 + 3),
        (2, FRAME_HEADER_BYTES + 4 + 3 + 4 + 5),
    ]
    assert all(each.sync_seconds >= 0 for each in flushes)


def gate_as_hook(gate: Gate) -> Callable[[Call], None]:
    """As a hook it runs inside the file system's own lock, which nobody else needs meanwhile."""

    def hook(call: Call) -> None:
        if call.operation == gate.operation:
            gate.entered.set()
            assert gate.opened.wait(DEADLINE_SECONDS)

    return hook


def test_closing_flushes_what_is_still_pending() -> None:
    disk, file_system = fake_disk(segment_bytes=1 << 16)
    log = disk.open()
    heard = Heard().start(log)
    written = [payload(number) for number in range(3_000)]
    for each in written:
        log.append(each)
    log.close()
    assert heard.durable[-1] == 3_000
    assert disk.replay() == written
    assert disk.warnings == []
    assert file_system.open_count == 0


def test_abandoning_flushes_nothing_more() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    gate = Gate("fdatasync")
    file_system.on_call = gate_as_hook(gate)
    heard = Heard().start(log)
    log.append(b"one")
    assert gate.entered.wait(DEADLINE_SECONDS)
    log.append(b"two")
    ending = Thread(target=log.abandon)
    ending.start()
    while not log._flusher.is_stopping:
        assert ending.is_alive()
    gate.opened.set()
    ending.join(DEADLINE_SECONDS)
    assert not ending.is_alive()
    assert heard.durable == [1]
    assert not log.wait_durable(2)
    assert disk.replay() == [b"one"]


def test_closing_an_idle_log_ends_its_thread(disk: Disk) -> None:
    log = disk.open()
    Heard().start(log)
    with pytest.raises(RuntimeError):
        log.flush()
    with pytest.raises(RuntimeError):
        log.start(print, print, print)
    log.close()
    with pytest.raises(LogClosed):
        log.append(b"late")
    assert not log.wait_durable(1)


def test_a_failed_sync_is_told_once_and_ends_the_log() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    heard = Heard().start(log)
    log.append(b"good")
    assert log.wait_durable(1, DEADLINE_SECONDS)
    file_system.fail_while(lambda call: errno.EIO if call.operation == "fdatasync" else None)
    log.append(b"bad")
    with pytest.raises(LogFailed):
        log.wait_durable(2, DEADLINE_SECONDS)
    assert heard.failed.wait(DEADLINE_SECONDS)
    (failure,) = heard.failures
    assert isinstance(failure, LogFailed)
    assert failure.operation == "fdatasync"
    assert isinstance(failure.__cause__, OSError)
    syncs = [call for call in file_system.calls if call.operation == "fdatasync"]
    with pytest.raises(LogFailed):
        log.append(b"more")
    log.close()
    assert [call for call in file_system.calls if call.operation == "fdatasync"] == syncs
    assert log.durable_lsn == 1
    assert heard.durable == [1]
    assert len(heard.failures) == 1


def test_an_error_in_a_callback_is_a_failure_of_the_log() -> None:
    disk, _ = fake_disk()
    log = disk.open()
    heard = Heard()

    def broken(_: int) -> None:
        raise ZeroDivisionError

    log.start(broken, heard.on_failure, heard.room.put)
    log.append(b"one")
    assert heard.failed.wait(DEADLINE_SECONDS)
    assert isinstance(heard.failures[0].__cause__, ZeroDivisionError)
    log.abandon()


def test_a_full_disk_is_told_and_recovers_by_itself() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    heard = Heard().start(log)
    log.append(payload(1))
    assert log.wait_durable(1, DEADLINE_SECONDS)
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "write" else None)
    log.append(payload(2))
    assert heard.room.get(timeout=DEADLINE_SECONDS) is False
    assert not has_room(log)
    log.append(payload(3))
    file_system.fail_while(None)
    assert heard.room.get(timeout=DEADLINE_SECONDS) is True
    assert log.wait_durable(3, DEADLINE_SECONDS)
    assert has_room(log)
    log.close()
    assert heard.room.empty()
    assert disk.replay() == [payload(1), payload(2), payload(3)]


def test_a_missing_reserve_is_told_and_recovers_though_nobody_appends() -> None:
    disk, file_system = fake_disk()
    log = disk.open()
    heard = Heard().start(log)
    file_system.fail_while(lambda call: errno.ENOSPC if call.operation == "fallocate" else None)
    number = 0
    while heard.room.empty():
        number += 1
        log.append(payload(number))
        assert log.wait_durable(number, DEADLINE_SECONDS)
    assert heard.room.get() is False
    file_system.fail_while(None)
    assert heard.room.get(timeout=DEADLINE_SECONDS) is True
    log.close()
    assert len(disk.replay()) == number


@pytest.mark.parametrize("end", [Log.close, Log.abandon])
def test_the_wait_before_a_retry_ends_with_the_log(
    end: Callable[[Log], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "RETRY_SECONDS_MIN", 1_000.0)
    monkeypatch.setattr(flusher, "RETRY_SECONDS_MAX", 1_000.0)
    disk, file_system = fake_disk()
    log = disk.open()
    heard = Heard().start(log)
    file_system.fail_while(lambda call: errno.EIO if call.operation == "write" else None)
    log.append(b"kept")
    assert heard.room.get(timeout=DEADLINE_SECONDS) is False
    if end is Log.close:
        with pytest.raises(NotFlushed):
            end(log)
    else:
        end(log)
    assert heard.failures == []
    file_system.fail_while(None)
    assert disk.replay() == []


def test_a_refused_frame_has_a_last_chance_when_the_log_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flusher, "RETRY_SECONDS_MIN", 1_000.0)
    disk, file_system = fake_disk()
    log = disk.open()
    heard = Heard().start(log)
    file_system.fail_while(lambda call: errno.EIO if call.operation == "write" else None)
    log.append(b"kept")
    assert heard.room.get(timeout=DEADLINE_SECONDS) is False
    log.append(b"behind it")
    file_system.fail_while(None)
    log.close()
    assert heard.durable == [1, 2]
    assert disk.replay() == [b"kept", b"behind it"]


def test_the_backlog_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher, "BACKLOG_BYTES_MAX", 1_000)
    disk, _ = fake_disk()
    log = disk.open()
    for _ in range(10):
        log.append(bytes(100))
    with pytest.raises(BacklogFull) as caught:
        log.append(b"too much")
    assert caught.value.backlog_bytes > 1_000
    assert log.last_lsn == 10
    assert log.flush()
    assert log.append(b"again") == 11
    log.close()


def test_a_reader_follows_a_live_log_in_order_and_never_ahead_of_the_disk(disk: Disk) -> None:
    """Invariant 7, over many rotations, with a real thread."""
    disk.segment_bytes = 4096
    log = disk.open()
    Heard().start(log)
    seen: list[bytes] = []
    with Reader(disk.directory, file_system=disk.file_system) as reader:
        for number in range(1, 3_001):
            log.append(payload(number))
            if number % 10 == 0:
                records = reader.read()
                seen += payloads(records)
                # What a reader has may be told a moment before the owner hears of it, not before.
                assert not records or records[-1].lsn <= number
        assert log.wait_durable(3_000, DEADLINE_SECONDS)
        seen += payloads(reader)
        assert reader.position == log.position
    log.close()
    assert seen == [payload(number) for number in range(1, 3_001)]
    assert len(disk.segments()) > 10
