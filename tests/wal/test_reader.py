"""What a reader does: follow, resume, and refuse what is not the history it knows."""

import pytest

from tests.wal.builders import Disk, append_frames, fake_disk, payload, payloads, written_log
from tests.wal.fake_fs import FakeFileSystem
from wal import Damaged, Log, NotALog, PositionMismatch, Reader, RecordsGone
from wal import reader as reader_module
from wal.directory import find_segments, join


def test_a_reader_follows_across_rotations_and_restarts(disk: Disk) -> None:
    log = disk.open()
    with disk.reader() as reader:
        assert reader.read() == []
        seen: list[bytes] = []
        written: list[bytes] = []
        for run in range(6):
            written += append_frames(log, start=len(written) + 1, frames=5)
            seen += payloads(reader.read())
            assert seen == written
            assert reader.read() == []
            assert reader.position == log.position
            (log.close if run % 2 else log.abandon)()
            log = disk.open()
        assert reader.read() == []
        assert reader.log_id == log.log_id
    log.close()
    assert len(disk.segments()) > 5


@pytest.mark.parametrize("max_records", [1, 2, 3, 7, 1_000])
def test_a_reader_may_take_few_records_at_a_time(disk: Disk, max_records: int) -> None:
    written = written_log(disk, frames=10, records=5)
    with disk.reader() as reader:
        seen: list[bytes] = []
        while records := reader.read(max_records):
            assert len(records) <= max_records
            seen += payloads(records)
            assert reader.position.lsn == len(seen)
        assert seen == written
        assert reader.read(0) == []


def test_a_reader_starts_behind_any_record(disk: Disk) -> None:
    written = written_log(disk, frames=10, records=3)
    for after_lsn in range(len(written) + 1):
        with disk.reader(after_lsn + 1) as reader:
            assert reader.position.lsn == after_lsn
            records = reader.read()
            assert payloads(records) == written[after_lsn:]
            assert not records or records[0].lsn == after_lsn + 1


def test_a_reader_waits_for_a_record_that_is_not_there_yet(disk: Disk) -> None:
    log = disk.open()
    append_frames(log, start=1, frames=2, records=3)
    with disk.reader(from_lsn=11) as reader:
        assert reader.read() == []
        append_frames(log, start=7, frames=12, records=3)
        assert [record.lsn for record in reader.read()] == list(range(11, 43))
    log.close()


def test_a_reader_that_waits_has_not_passed_a_frame_that_may_still_change() -> None:
    disk, file_system = fake_disk()
    written_log(disk, frames=2)
    file_system.remove(f"{disk.directory}/durable")
    with disk.reader(from_lsn=10) as reader:
        assert reader.read() == []
        # The last frame was never synced and is lost; others come in its place.
        path = disk.segments()[0]
        content = bytes(file_system.files[path])
        file_system.put(path, content[: content.rindex(b"\xf5WFR") + 9])
        log = disk.open()
        assert log.durable_lsn == 2
        append_frames(log, start=3, frames=3, records=3)
        assert [record.lsn for record in reader.read()] == [10, 11]
        log.close()


def test_a_reader_resumes_from_every_position_it_ever_had(disk: Disk) -> None:
    written = written_log(disk, frames=12, records=3)
    positions = []
    with disk.reader() as reader:
        positions.append(reader.position)
        while reader.read(1):
            positions.append(reader.position)
    assert [position.lsn for position in positions] == list(range(len(written) + 1))
    for position in positions:
        with disk.reader(position=position) as reader:
            assert reader.position == position
            assert payloads(reader) == written[position.lsn :]


def test_a_position_of_another_log_or_history_is_refused(disk: Disk) -> None:
    written_log(disk, frames=6)
    with disk.reader() as reader:
        reader.read(5)
        good = reader.position
    disk.reader(position=good).close()
    for bad in (
        good._replace(log_id=bytes(16)),
        good._replace(chain=good.chain ^ 1),
        good._replace(lsn=good.lsn + 1, chain=0),
        good._replace(lsn=0),
        good._replace(lsn=500),
    ):
        with pytest.raises(PositionMismatch) as caught:
            disk.reader(position=bad)
        assert caught.value.expected != caught.value.found


def test_a_directory_without_a_log_is_refused(disk: Disk) -> None:
    with pytest.raises(NotALog):
        disk.reader()
    disk.file_system.make_directory(disk.directory)
    with pytest.raises(NotALog):
        disk.reader()


def test_records_before_the_oldest_segment_are_gone(disk: Disk) -> None:
    written = written_log(disk, frames=10)
    follower = disk.reader()
    first_segment = payloads(follower.read(1))
    disk.file_system.unlink(disk.segments()[0])
    first = find_segments(disk.file_system, disk.directory)[0]
    for lsn in range(1, first):
        with pytest.raises(RecordsGone) as caught:
            disk.reader(from_lsn=lsn)
        assert (caught.value.lsn, caught.value.first_lsn) == (lsn, first)
    with disk.reader(from_lsn=first) as reader:
        assert payloads(reader) == written[first - 1 :]
    # A reader that has the file open reads on; one that is too late is told.
    assert first_segment + payloads(follower) == written
    follower.close()


def test_a_reader_without_a_place_begins_with_the_oldest_record_that_is_kept(disk: Disk) -> None:
    written = written_log(disk, frames=10)
    before = disk.reader().position
    for _ in range(3):
        disk.file_system.unlink(disk.segments()[0])
        first = find_segments(disk.file_system, disk.directory)[0]
        with disk.reader() as reader:
            assert reader.position.lsn == first - 1
            resumed = reader.position
            assert payloads(reader) == written[first - 1 :]
        with disk.reader(position=resumed) as reader:
            assert payloads(reader) == written[first - 1 :]
        with pytest.raises(RecordsGone):
            disk.reader(position=before)


def test_a_reader_opens_only_the_segment_that_holds_its_place(disk: Disk) -> None:
    written = written_log(disk, frames=20)
    firsts = find_segments(disk.file_system, disk.directory)
    for first, path in zip(firsts, disk.segments(), strict=True):
        if first != firsts[-2]:
            disk.file_system.unlink(path)
            fd = disk.file_system.open(path, write=True, create=True)
            disk.file_system.pwrite(fd, b"not a segment, and nobody looks" * 3, 0)
            disk.file_system.close(fd)
    for lsn in range(firsts[-2], firsts[-1]):
        with disk.reader(from_lsn=lsn) as reader:
            assert payloads(reader.read(1)) == [written[lsn - 1]]


class RemovedMeanwhile(FakeFileSystem):
    """The oldest segments go between a look at the directory and the opening of a file."""

    removals = 0

    def list_directory(self, path: str) -> list[str]:
        names = super().list_directory(path)
        if self.removals:
            self.removals -= 1
            self.unlink(join(path, min(name for name in names if name.endswith(".wal"))))
        return names


@pytest.mark.parametrize("removals", [0, 1, 2])
def test_a_reader_that_starts_while_segments_are_removed_starts_with_the_oldest(
    removals: int,
) -> None:
    file_system = RemovedMeanwhile()
    disk = Disk(file_system)
    written = written_log(disk, frames=10)
    first = find_segments(file_system, disk.directory)[removals]
    file_system.removals = removals
    with disk.reader() as reader:
        assert payloads(reader) == written[first - 1 :]
    second = find_segments(file_system, disk.directory)[1]
    file_system.removals = 1
    with pytest.raises(RecordsGone):
        disk.reader(from_lsn=second - 1)


def test_a_segment_removed_in_front_of_a_reader_is_gone(disk: Disk) -> None:
    written_log(disk, frames=20)
    with disk.reader() as reader:
        disk.file_system.unlink(disk.segments()[1])
        with pytest.raises(RecordsGone):
            list(reader)


def test_a_frame_that_nothing_covers_is_not_shown(disk: Disk) -> None:
    """Invariant 7: a whole frame that may not be synced yet is no record yet."""
    written = written_log(disk, frames=2)
    disk.file_system.unlink(f"{disk.directory}/durable")
    with disk.reader() as reader:
        # Only that the second frame follows it speaks for the first one.
        assert payloads(reader.read()) == written[:2]
        assert reader.read() == []
        # Opening the log makes sure of the last frame, and says so.
        log = disk.open()
        assert payloads(reader.read()) == written[2:]
        log.close()


def test_a_clean_stop_covers_the_last_frame_without_durable(disk: Disk) -> None:
    written = written_log(disk, frames=2, end=Log.close)
    disk.file_system.unlink(f"{disk.directory}/durable")
    with disk.reader() as reader:
        assert payloads(reader.read()) == written


def test_a_flipped_bit_stops_a_reader_and_never_shows_a_wrong_record() -> None:
    disk, file_system = fake_disk()
    written = written_log(disk, frames=6)
    for path in disk.segments():
        whole = bytes(file_system.files[path])
        for bit in range(0, 8 * len(whole.rstrip(b"\0")), 5):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            file_system.put(path, bytes(changed))
            seen: list[bytes] = []
            with pytest.raises(Damaged):
                read_into(seen, disk)
            assert seen == written[: len(seen)]
        file_system.put(path, whole)


def test_all_that_is_sound_in_front_of_damage_is_handed_out_before_the_error() -> None:
    disk, file_system = fake_disk(segment_bytes=1 << 16)
    written = written_log(disk, frames=6)
    (path,) = disk.segments()
    segment = bytearray(file_system.files[path])
    # The first record of the third frame of two.
    segment[segment.index(written[4])] ^= 1
    file_system.put(path, bytes(segment))
    for max_records in (None, 1, 100):
        with disk.reader() as reader:
            seen: list[bytes] = []
            with pytest.raises(Damaged):
                read_all_by(reader, max_records, seen)
            assert seen == written[:4], max_records
            with pytest.raises(Damaged):
                reader.read()


def read_all_by(reader: Reader, max_records: int | None, seen: list[bytes]) -> None:
    while records := reader.read(max_records):
        seen += payloads(records)


def read_into(seen: list[bytes], disk: Disk) -> None:
    with disk.reader() as reader:
        while records := reader.read(1):
            seen += payloads(records)


def test_one_read_is_bounded_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "READ_BYTES_MAX", 3_000)
    monkeypatch.setattr(reader_module, "GATHER_BYTES", 500)
    disk, _ = fake_disk(segment_bytes=2048)
    written = written_log(disk, frames=100)
    seen: list[bytes] = []
    with disk.reader() as reader:
        reads = 0
        while records := reader.read():
            assert sum(len(record.payload) for record in records) < 4_000
            seen += payloads(records)
            reads += 1
    assert seen == written
    assert reads > 3


def test_a_large_record_is_read_though_it_is_larger_than_a_buffer(disk: Disk) -> None:
    disk.segment_bytes = 1 << 16
    written = [b"x" * 300_000, payload(1), b"y" * 70_000]
    log = disk.open()
    for each in written:
        log.append(each)
        assert log.flush()
    with disk.reader() as reader:
        assert payloads(reader) == written
    log.close()


def test_a_reader_knows_where_to_end_in_a_log_that_goes_on(disk: Disk) -> None:
    log = disk.open()
    append_frames(log, start=1, frames=1, records=3)
    with disk.reader() as reader:
        end = reader.find_durable()
        assert end == 3
        append_frames(log, start=4, frames=1, records=2)
        assert [record.lsn for record in reader.read(end)] == [1, 2, 3]
        assert reader.find_durable() == 5
        assert [record.lsn for record in reader.read()] == [4, 5]
    log.close()
