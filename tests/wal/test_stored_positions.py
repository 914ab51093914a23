"""What an opening demands of the positions that its owner and others have stored: that they are in
this log, as far as it still holds them."""

from collections.abc import Callable

import pytest

from tests.wal.builders import DIRECTORY, Disk, append_frames, fake_disk, payloads, written_log
from tests.wal.fake_fs import FakeFileSystem
from wal import Damaged, Log, Position
from wal.directory import find_segments, join, segment_name

FRAMES = 12


def small_log(end: Callable[[Log], None] = Log.abandon) -> tuple[Disk, FakeFileSystem, list[bytes]]:
    """A log of several segments, three records a frame."""
    disk, file_system = fake_disk()
    written = written_log(disk, frames=FRAMES, records=3, end=end)
    assert len(disk.segments()) > 3
    return disk, file_system, written


def positions_of(disk: Disk) -> list[Position]:
    """Return the positions of all records, from before the first one on."""
    with disk.reader() as reader:
        positions = [reader.position]
        while reader.read(1):
            positions.append(reader.position)
        return positions


def remove_all_before(disk: Disk, first: int) -> None:
    for each in find_segments(disk.file_system, disk.directory):
        if each < first:
            disk.file_system.unlink(join(disk.directory, segment_name(each)))


def check_refused(
    disk: Disk, after: Position | None = None, known: tuple[Position, ...] = ()
) -> Damaged:
    assert isinstance(disk.file_system, FakeFileSystem)
    before = {path: bytes(content) for path, content in disk.file_system.files.items()}
    with pytest.raises(Damaged) as caught:
        disk.open(after, known=known)
    now = {path: bytes(content) for path, content in disk.file_system.files.items()}
    assert {path: now[path] for path in before if not path.endswith("lock")} == {
        path: content for path, content in before.items() if not path.endswith("lock")
    }
    assert disk.file_system.open_count == 0
    return caught.value


@pytest.mark.parametrize("end", [Log.abandon, Log.close])
def test_every_position_that_a_reader_ever_had_is_a_place_to_start_from(
    end: Callable[[Log], None],
) -> None:
    disk, _, written = small_log(end)
    positions = positions_of(disk)
    assert len(positions) == len(written) + 1
    for position in positions:
        log = disk.open(position, known=positions)
        assert payloads(log.records(position.lsn)) == written[position.lsn :]
        log.abandon()
    assert disk.warnings == []


def test_a_position_of_another_history_is_refused_wherever_it_is() -> None:
    disk, _, _ = small_log()
    for position in positions_of(disk):
        for bad in (
            position._replace(chain=position.chain ^ 1),
            position._replace(log_id=bytes(16)),
        ):
            error = check_refused(disk, bad)
            assert "the owner's position" in error.expected
            assert error.path.startswith(DIRECTORY)
            if position.lsn:
                error = check_refused(disk, known=(position, bad))
                assert "a stored position" in error.expected


def test_a_log_restored_from_a_backup_and_written_on_is_refused() -> None:
    disk, file_system, written = small_log()
    backup = {path: bytes(content) for path, content in file_system.files.items()}
    log = disk.open()
    append_frames(log, start=len(written) + 1, frames=2)
    log.abandon()
    after = positions_of(disk)[-1]
    for path, content in backup.items():
        file_system.put(path, content)
    for path in file_system.files.keys() - backup.keys():
        file_system.remove(path)
    log = disk.open()
    append_frames(log, start=1, frames=2)
    assert log.durable_lsn == after.lsn
    log.abandon()
    check_refused(disk, after)
    check_refused(disk, known=(after,))


def test_a_log_that_ends_before_a_position_is_refused() -> None:
    disk, _, written = small_log()
    last = positions_of(disk)[-1]
    beyond = last._replace(lsn=last.lsn + 1)
    for error in (check_refused(disk, beyond), check_refused(disk, known=(beyond,))):
        assert f"up to {len(written) + 1}" in error.expected
        assert error.found == f"an end after {len(written)}"
        assert error.path == disk.segments()[-1]
    for path in disk.segments():
        disk.file_system.unlink(path)
    disk.file_system.unlink(join(DIRECTORY, "durable"))
    for error in (check_refused(disk, last), check_refused(disk, known=(last,))):
        assert (error.path, error.found) == (DIRECTORY, "no segment")


def test_before_the_first_record_nothing_is_lost_but_a_snapshot_knows_of_a_log() -> None:
    start = Position(b"i" * 16, 0, 1)
    check_refused(fake_disk()[0], start)
    disk, _ = fake_disk()
    disk.open(known=[start]).close()
    disk.open(known=[start]).close()


def test_a_position_where_the_oldest_segment_starts_is_compared_with_its_header() -> None:
    disk, _, written = small_log()
    positions = positions_of(disk)
    for first in find_segments(disk.file_system, DIRECTORY)[1:]:
        remove_all_before(disk, first)
        assert disk.segments()[0].endswith(segment_name(first))
        after = positions[first - 1]
        log = disk.open(after)
        assert payloads(log.records(after.lsn)) == written[after.lsn :]
        log.abandon()
        error = check_refused(disk, after._replace(chain=after.chain ^ 1))
        assert error.path == disk.segments()[0]
        error = check_refused(disk, positions[first - 2])
        assert (error.expected, error.found) == (f"record {first - 1}", f"record {first}")
        check_refused(disk)
    # Also when that segment is all there is and has no record yet.
    disk, _ = fake_disk()
    disk.open().close()
    (start,) = positions_of(disk)
    disk.open(start).abandon()
    check_refused(disk, start._replace(chain=start.chain ^ 1))


def test_what_is_known_of_records_that_are_not_read_is_not_compared() -> None:
    disk, _, _ = small_log()
    positions = positions_of(disk)
    firsts = find_segments(disk.file_system, DIRECTORY)
    after = positions[firsts[2] + 1]
    wrong = [position._replace(chain=position.chain ^ 1) for position in positions]
    for position in wrong[1 : firsts[2] - 1]:
        disk.open(after, known=[position]).abandon()
    for position in wrong[firsts[2] - 1 :]:
        check_refused(disk, after, (position,))
    remove_all_before(disk, firsts[2])
    disk.open(after, known=positions).abandon()
    # But whose log it is, every position tells.
    check_refused(disk, after, (positions[1]._replace(log_id=bytes(16)),))
