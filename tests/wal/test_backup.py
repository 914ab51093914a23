"""A copy of a log is a prefix of it, whatever happens on the way, and never gets worse."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.wal.builders import (
    DIRECTORY,
    LOSSES,
    append_frames,
    fake_disk,
    payload,
    payloads,
    written_log,
)
from tests.wal.fake_fs import Call, FakeFileSystem, SimulatedCrash
from tests.wal.test_damage import (
    CORRUPTIONS,
    DURABLE,
    Image,
    disk_of,
    flips,
    frame_starts,
    image_of,
    make_image,
    segment_paths,
)
from wal import Damaged, Log, NotALog, Position, Reader, WalError, write_snapshot
from wal import remove_segments_before as remove_before
from wal.backup import BackupRefused, LogCopy, back_up_log, back_up_snapshot
from wal.inspect import inspect_log

TARGET = "/backup/wal"


def back_up(file_system: FakeFileSystem, previous: Position | None = None) -> LogCopy:
    copy = back_up_log(DIRECTORY, TARGET, previous=previous, file_system=file_system)
    check_sound(file_system, copy)
    return copy


def check_sound(file_system: FakeFileSystem, copy: LogCopy) -> None:
    """The copy is a log without fault that ends where it says."""
    report = inspect_log(TARGET, file_system=file_system)
    assert report.faults == []
    assert (report.first_lsn, report.next_lsn - 1) == (copy.first_lsn, copy.position.lsn)
    assert report.segments[-1].torn_bytes == 0
    sizes = {each.path.rpartition("/")[2]: each.size_bytes for each in report.segments}
    assert {each.name: each.size_bytes for each in copy.files} == sizes
    with Reader(TARGET, position=copy.position, file_system=file_system) as reader:
        assert reader.read() == []
    assert file_system.open_count == 0


def content(file_system: FakeFileSystem) -> list[bytes]:
    with Reader(TARGET, file_system=file_system) as reader:
        return payloads(reader)


def new_files(copy: LogCopy) -> list[str]:
    return [each.name for each in copy.files if each.is_new]


@pytest.mark.parametrize("end", [Log.abandon, Log.close])
def test_a_copy_holds_all_that_is_durable(end: Callable[[Log], None]) -> None:
    image, written = make_image(frames=10, end=end)
    _, file_system = disk_of(image)
    copy = back_up(file_system)
    assert content(file_system) == written
    assert new_files(copy) == [path.rpartition("/")[2] for path in segment_paths(image)]
    assert image.items() <= image_of(file_system).items(), "the source is as it was"


def test_again_only_what_is_new_is_copied() -> None:
    disk, file_system = fake_disk(segment_bytes=400)
    written = written_log(disk, frames=7)
    first = back_up(file_system)
    assert new_files(back_up(file_system, first.position)) == []
    written += written_log(disk, frames=6)
    before = file_system.files | {}
    second = back_up(file_system, first.position)
    assert content(file_system) == written
    untouched = [each for each in second.files if not each.is_new]
    assert len(untouched) >= 3
    for each in untouched:
        assert file_system.files[f"{TARGET}/{each.name}"] is before[f"{TARGET}/{each.name}"]


def test_what_is_not_durable_yet_is_left_for_the_next_time() -> None:
    image, written = make_image(frames=10)
    durable = image[DURABLE]
    disk, file_system = disk_of(image)
    written_log(disk, frames=4)
    file_system.put(DURABLE, durable)
    copy = back_up(file_system)
    assert copy.position.lsn == 20
    assert content(file_system) == written


class TornDurable(FakeFileSystem):
    """Whoever reads `durable` while it is written sees half of it, so many times."""

    torn_reads = 0

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        data = super().pread(fd, size, offset)
        if self._handle(fd).path != DURABLE or not self.torn_reads:
            return data
        self.torn_reads -= 1
        return data[:8] + bytes(16)


@pytest.mark.parametrize("torn_reads", [1, 4])
def test_a_durable_that_was_read_while_it_was_written_is_read_again(torn_reads: int) -> None:
    image, written = make_image(frames=10)
    # What came after it may not have been synced.
    disk, later = disk_of(image)
    written_log(disk, frames=4)
    file_system = TornDurable(Random(1))
    for path, data in (image_of(later) | {DURABLE: image[DURABLE]}).items():
        file_system.put(path, data)
    file_system.torn_reads = torn_reads
    assert back_up(file_system).position.lsn == 20
    assert content(file_system) == written


@pytest.mark.parametrize("durable", [None, b"", b"?" * 24])
def test_without_durable_only_what_has_something_behind_it_counts(durable: bytes | None) -> None:
    image, written = make_image(frames=10)
    del image[DURABLE]
    _, file_system = disk_of(image | ({} if durable is None else {DURABLE: durable}))
    assert back_up(file_system).position.lsn == 18
    assert content(file_system) == written[:-2]
    # What was copied before was durable then, and stays.
    backup, copy = with_backup(make_image(frames=10)[0])
    _, file_system = disk_of(image | backup)
    assert back_up(file_system, copy.position).position.lsn == 20
    assert content(file_system) == written
    # An end frame is behind the last one, too.
    image, written = make_image(frames=10, end=Log.close)
    del image[DURABLE]
    _, file_system = disk_of(image)
    assert back_up(file_system).position.lsn == 20
    assert content(file_system) == written


def test_segments_that_the_source_has_removed_stay() -> None:
    disk, file_system = fake_disk(segment_bytes=400)
    written = written_log(disk, frames=10)
    first = back_up(file_system)
    assert remove_before(DIRECTORY, 9, file_system=file_system)
    second = back_up(file_system, first.position)
    assert second.first_lsn == 1
    assert new_files(second) == []
    assert content(file_system) == written


def test_a_gap_to_what_the_target_holds_is_refused() -> None:
    disk, file_system = fake_disk(segment_bytes=400)
    written_log(disk, frames=4)
    first = back_up(file_system)
    with disk.open() as log:
        append_frames(log, start=9, frames=10)
    remove_before(DIRECTORY, 17, file_system=file_system)
    before = image_of(file_system)
    for previous in (first.position, None):
        with pytest.raises(BackupRefused, match="gap"):
            back_up_log(DIRECTORY, TARGET, previous=previous, file_system=file_system)
    assert image_of(file_system) == before


def test_another_history_is_refused() -> None:
    disk, file_system = fake_disk(segment_bytes=400)
    written_log(disk, frames=5)
    first = back_up(file_system)
    for seed, frames in ((7, 4), (99, 8)):
        other, other_system = fake_disk(segment_bytes=400)
        other.random.seed(seed)
        # The same records in other frames: cut and gone on, or another log altogether.
        written_log(other, frames=2)
        written_log(other, frames=frames, records=1)
        for path, data in image_of(file_system).items():
            if path.startswith(TARGET):
                other_system.put(path, data)
        before = image_of(other_system)
        with pytest.raises(BackupRefused, match=r"another history|no such segment"):
            back_up_log(DIRECTORY, TARGET, previous=first.position, file_system=other_system)
        assert image_of(other_system) == before


def test_a_target_with_segments_of_another_log_is_refused() -> None:
    image, _ = make_image(frames=5)
    _, file_system = disk_of(image)
    file_system.put(f"{TARGET}/{3:020}.wal", b"?")
    with pytest.raises(BackupRefused, match="no such segment"):
        back_up_log(DIRECTORY, TARGET, file_system=file_system)


def test_without_a_log_nothing_is_made() -> None:
    file_system = FakeFileSystem()
    for _ in range(2):
        with pytest.raises(NotALog):
            back_up_log(DIRECTORY, TARGET, file_system=file_system)
        file_system.make_directory(DIRECTORY)
    assert file_system.files == {}


def with_backup(image: Image) -> tuple[Image, LogCopy]:
    _, file_system = disk_of(image)
    copy = back_up(file_system)
    return {p: d for p, d in image_of(file_system).items() if p.startswith(TARGET)}, copy


@pytest.mark.parametrize(
    "corrupt",
    [each[1] for each in CORRUPTIONS],
    ids=[each[0].replace(" ", "-") for each in CORRUPTIONS],
)
def test_a_damaged_source_never_replaces_a_good_backup(corrupt: Callable[[Image], Image]) -> None:
    image, written = make_image(frames=10)
    backup, copy = with_backup(image)
    _, file_system = disk_of(corrupt(image) | backup)
    try:
        back_up_log(DIRECTORY, TARGET, previous=copy.position, file_system=file_system)
    except WalError:
        kept = {p: d for p, d in image_of(file_system).items() if p.startswith(TARGET)}
        assert kept == backup
    assert content(file_system) == written
    assert file_system.open_count == 0


@pytest.mark.parametrize("with_durable", [True, False])
def test_no_flipped_bit_gets_into_a_backup(with_durable: bool) -> None:
    image, written = make_image(frames=4)
    backup, copy = with_backup(image)
    if not with_durable:
        del image[DURABLE]
    for path in segment_paths(image):
        for offset, data in flips(image[path], 0, frame_starts(image, path)[-1]):
            for previous, before in ((copy.position, backup), (None, {})):
                _, file_system = disk_of(image | {path: data} | before)
                try:
                    back_up_log(DIRECTORY, TARGET, previous=previous, file_system=file_system)
                except WalError:
                    if not before:
                        continue
                assert content(file_system) == written[: len(content(file_system))], offset
                if before:
                    assert content(file_system) == written


@pytest.mark.parametrize("loss", range(len(LOSSES)))
def test_a_backup_that_is_stopped_at_any_call_leaves_a_log_and_can_be_done_again(
    loss: int,
) -> None:
    image, _ = make_image(frames=5)
    backup, first = with_backup(image)
    disk, file_system = disk_of(image)
    written_log(disk, frames=7)
    image = image_of(file_system)
    written = [payload(lsn) for lsn in range(1, 25)]
    for before, previous in (({}, None), (backup, first.position)):
        _, file_system = disk_of(image | before)
        back_up(file_system, previous)
        for number in range(1, len(file_system.calls) + 1):
            _, file_system = disk_of(image | before)
            file_system.crash_at(number, "after" if number % 2 else "before")
            with pytest.raises(SimulatedCrash):
                back_up_log(DIRECTORY, TARGET, previous=previous, file_system=file_system)
            LOSSES[loss](file_system)
            if before:
                kept = content(file_system)
                assert len(kept) >= 10
                assert kept == written[: len(kept)]
            back_up(file_system, previous)
            assert content(file_system) == written


def test_a_removal_meanwhile_makes_it_start_over() -> None:
    disk, file_system = fake_disk(segment_bytes=400)
    written_log(disk, frames=12)

    def remove(call: Call) -> None:
        if call.operation == "rename":
            file_system.on_call = None
            remove_before(DIRECTORY, 13, file_system=file_system)

    file_system.on_call = remove
    copy = back_up(file_system)
    assert copy.position.lsn == 24
    assert copy.first_lsn in (1, 13)


def test_a_writer_meanwhile_is_no_hindrance() -> None:
    disk, file_system = fake_disk(segment_bytes=400)
    log = disk.open()
    append_frames(log, start=1, frames=5)
    count = 0

    def write(call: Call) -> None:
        nonlocal count
        if call.path.startswith(TARGET) and count < 12:
            count += 1
            append_frames(log, start=log.last_lsn + 1, frames=1)

    file_system.on_call = write
    copy = back_up_log(DIRECTORY, TARGET, file_system=file_system)
    file_system.on_call = None
    log.close()
    assert count == 12
    assert copy.position.lsn >= 10
    assert content(file_system) == [payload(lsn) for lsn in range(1, copy.position.lsn + 1)]
    written = back_up(file_system, copy.position)
    assert written.position.lsn == 34


def test_a_snapshot_is_copied_once_and_only_when_it_is_sound() -> None:
    _, file_system = fake_disk()
    position = Position(bytes(16), 12, 99)
    write_snapshot("/data/snapshots", position, [b"one", b"two"], file_system=file_system)
    name = f"{12:020}.snapshot"
    for is_new in (True, False):
        copy = back_up_snapshot("/data/snapshots", "/backup/s", 12, file_system=file_system)
        assert (copy.name, copy.is_new) == (name, is_new)
    good = bytes(file_system.files[f"/data/snapshots/{name}"])
    file_system.put(f"/backup/s/{name}", good[:-1] + b"?")
    copy = back_up_snapshot("/data/snapshots", "/backup/s", 12, file_system=file_system)
    assert copy.is_new, "what has rotted there is not taken for it"
    assert file_system.files[f"/backup/s/{name}"] == good
    file_system.put(f"/data/snapshots/{name}", good[:-1] + b"?")
    with pytest.raises(Damaged):
        back_up_snapshot("/data/snapshots", "/backup/s", 12, file_system=file_system)
    assert file_system.files[f"/backup/s/{name}"] == good
    assert file_system.open_count == 0
