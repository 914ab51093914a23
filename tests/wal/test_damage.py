"""What becomes of a log whose bytes were changed, cut or lost.

A prefix or a refusal, never a wrong record. Invariants 1 and 5: what was acknowledged is never
silently missing, and what replays is what was written.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.wal.builders import (
    DIRECTORY,
    Disk,
    append_frames,
    fake_disk,
    payload,
    payloads,
    written_log,
)
from tests.wal.fake_fs import FakeFileSystem
from wal import Damaged, Log, NewerVersion, NotALog, WalError
from wal import segment as segment_module
from wal.directory import find_segments, join, segment_name
from wal.layout import (
    FORMAT_VERSION,
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    decode_durable,
    encode_durable,
    encode_frame,
    pack_records,
)
from wal.segment import Segment

Image = dict[str, bytes]
DURABLE = f"{DIRECTORY}/durable"
LOCK = f"{DIRECTORY}/lock"
SMALL = 400  # Bytes of a segment: two or three frames.


def image_of(file_system: FakeFileSystem) -> Image:
    return {path: bytes(content) for path, content in file_system.files.items() if path != LOCK}


def disk_of(image: Image) -> tuple[Disk, FakeFileSystem]:
    disk, file_system = fake_disk(segment_bytes=SMALL)
    for path, content in image.items():
        file_system.put(path, content)
    return disk, file_system


def make_image(
    *, frames: int, end: Callable[[Log], None] = Log.abandon
) -> tuple[Image, list[bytes]]:
    """A log of small segments: its files and its payloads, two records a frame."""
    disk, file_system = fake_disk(segment_bytes=SMALL)
    written = written_log(disk, frames=frames, end=end)
    return image_of(file_system), written


def segment_paths(image: Image) -> list[str]:
    return sorted(path for path in image if path.endswith(".wal"))


def frame_starts(image: Image, path: str) -> list[int]:
    """Return where the frames of a sound segment start, and last where they end."""
    _, file_system = disk_of(image)
    segment = Segment(file_system, DIRECTORY, int(path[-24:-4]))
    starts = [frame.offset for frame in segment.frames()]
    end = segment.offset
    if segment.ended:
        starts.append(end - FRAME_HEADER_BYTES)
    return [*starts, end]


def check_refused(image: Image) -> Damaged:
    """Open; it must be refused, and nothing may have been written."""
    disk, file_system = disk_of(image)
    with pytest.raises(Damaged) as caught:
        disk.open()
    assert image_of(file_system) == image
    assert file_system.open_count == 0
    assert caught.value.path.startswith(DIRECTORY)
    return caught.value


def flips(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for bit in range(8 * start, 8 * end):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(changed)


def test_truncated_at_every_length_without_durable_it_gives_a_prefix() -> None:
    image, written = make_image(frames=2)
    del image[DURABLE]
    (path,) = segment_paths(image)
    starts = frame_starts(image, path)
    for length in range(starts[-1] + 1):
        cut = image | {path: image[path][:length]}
        if length < SEGMENT_HEADER_BYTES:
            check_refused(cut)
            continue
        disk, file_system = disk_of(cut)
        whole = sum(start <= length for start in starts[1:])
        assert disk.replay() == written[: 2 * whole]
        tail = image[path][starts[whole] : length].rstrip(b"\0")
        assert bool(disk.warnings) == bool(tail)
        if tail:
            assert f" {len(tail)} bytes" in disk.warnings[0]
            (torn,) = [data for name, data in image_of(file_system).items() if "torn-" in name]
            assert torn == tail


def test_truncated_at_every_length_with_durable_it_is_refused() -> None:
    image, _ = make_image(frames=3)
    path = segment_paths(image)[-1]
    for length in range(frame_starts(image, path)[-1]):
        check_refused(image | {path: image[path][:length]})


def test_an_earlier_segment_truncated_at_any_length_is_refused() -> None:
    image, _ = make_image(frames=8)
    path = segment_paths(image)[1]
    for length in range(len(image[path])):
        check_refused(image | {path: image[path][:length]})


@pytest.mark.parametrize("with_durable", [True, False])
def test_every_flipped_bit_before_the_last_frame_is_refused(with_durable: bool) -> None:
    image, _ = make_image(frames=5)
    assert len(segment_paths(image)) >= 3
    if not with_durable:
        del image[DURABLE]
    for path in segment_paths(image):
        starts = frame_starts(image, path)
        last = path == segment_paths(image)[-1]
        for offset, data in flips(image[path], 0, starts[-2] if last else starts[-1]):
            found = check_refused(image | {path: data})
            assert found.offset <= offset


def test_every_flipped_bit_of_the_last_frame_is_refused_if_durable_covers_it() -> None:
    image, _ = make_image(frames=5)
    path = segment_paths(image)[-1]
    start, end = frame_starts(image, path)[-2:]
    for _, data in flips(image[path], start, end):
        check_refused(image | {path: data})


def test_every_flipped_bit_of_the_last_frame_gives_a_prefix_if_durable_was_lost() -> None:
    image, written = make_image(frames=5)
    del image[DURABLE]
    path = segment_paths(image)[-1]
    start, end = frame_starts(image, path)[-2:]
    for _, data in flips(image[path], start, end):
        disk, _ = disk_of(image | {path: data})
        assert disk.replay() == written[:-2]
        assert len(disk.warnings) == 1


def test_every_flipped_bit_behind_the_last_frame_is_cut_off() -> None:
    image, written = make_image(frames=5)
    path = segment_paths(image)[-1]
    for _, data in flips(image[path], frame_starts(image, path)[-1], len(image[path])):
        disk, _ = disk_of(image | {path: data})
        assert disk.replay() == written
        assert len(disk.warnings) == 1
        assert disk.replay() == written
        assert len(disk.warnings) == 1


def test_after_a_clean_stop_the_last_records_are_protected_without_durable() -> None:
    image, written = make_image(frames=5, end=Log.close)
    del image[DURABLE]
    path = segment_paths(image)[-1]
    *_, start, end_frame, end = frame_starts(image, path)
    for _, data in flips(image[path], start, end_frame):
        check_refused(image | {path: data})
    for _, data in flips(image[path], end_frame, end):
        assert disk_of(image | {path: data})[0].replay() == written


def test_every_flipped_bit_of_durable_only_makes_it_say_nothing() -> None:
    image, written = make_image(frames=5)
    for _, data in flips(image[DURABLE], 0, len(image[DURABLE])):
        disk, _ = disk_of(image | {DURABLE: data})
        assert disk.replay() == written
        assert disk.warnings == []


def swap(image: Image, path: str, start: int, data: bytes) -> Image:
    content = image[path]
    return image | {path: content[:start] + data + content[start + len(data) :]}


def without(image: Image, index: int) -> Image:
    gone = segment_paths(image)[index]
    return {path: data for path, data in image.items() if path != gone}


def with_version(image: Image, version: int) -> Image:
    path = segment_paths(image)[-1]
    head = image[path][:8] + version.to_bytes(4, "little") + image[path][12:60]
    return swap(image, path, 0, head + crc(head))


def with_foreign_segment(image: Image) -> Image:
    """The same LSNs and the same frames, but from another log."""
    disk, file_system = fake_disk(segment_bytes=SMALL)
    disk.random.seed(99)
    written_log(disk, frames=8)
    path = segment_paths(image)[1]
    return image | {path: bytes(file_system.files[path])}


def with_durable(image: Image, lsn: int, chain: int = 0) -> Image:
    log_id = image[segment_paths(image)[0]][12:28]
    return image | {DURABLE: encode_durable(lsn, log_id, chain)}


def durable_of_another_log(data: bytes) -> bytes:
    durable = decode_durable(data)
    assert durable is not None
    return encode_durable(durable.lsn, bytes(16), durable.chain)


def with_frames_swapped(image: Image) -> Image:
    """Two frames of one segment change places."""
    path = segment_paths(image)[0]
    first, second, end = frame_starts(image, path)[:3]
    data = image[path]
    return swap(image, path, first, data[second:end] + data[first:second])


def with_a_lost_frame(image: Image) -> Image:
    """A frame is zeros, the one after it is sound: as if a write never reached the disk."""
    path = segment_paths(image)[-1]
    first, second, _ = frame_starts(image, path)
    image = {path: data for path, data in image.items() if path != DURABLE}
    return swap(image, path, first, bytes(second - first))


def with_another_chain(image: Image) -> Image:
    """The last frame is sound by itself but was not written after the one before it."""
    path = segment_paths(image)[-1]
    *_, start, _ = frame_starts(image, path)
    salt = int.from_bytes(image[path][40:44], "little")
    lsn = int.from_bytes(image[path][start + 8 : start + 16], "little")
    frame = encode_frame(lsn, 2, *pack_records([payload(lsn), payload(lsn + 1)], 12345), salt)
    return swap(image, path, start, frame)


def with_a_number_skipped(image: Image) -> Image:
    """The last frame is sound and in the chain, but its records have other numbers."""
    path = segment_paths(image)[-1]
    *_, start, end = frame_starts(image, path)
    salt = int.from_bytes(image[path][40:44], "little")
    lsn = int.from_bytes(image[path][start + 8 : start + 16], "little")
    _, file_system = disk_of(image)
    segment = Segment(file_system, DIRECTORY, int(path[-24:-4]))
    chain = segment.chain
    for frame in segment.frames():
        if frame.offset < start:
            chain = frame.chain
    body, chain = pack_records([payload(lsn), payload(lsn + 1)], chain)
    frame_bytes = encode_frame(lsn + 1, 2, body, chain, salt)
    assert len(frame_bytes) == end - start
    image = {path: data for path, data in image.items() if path != DURABLE}
    return swap(image, path, start, frame_bytes)


def renamed(image: Image) -> Image:
    paths = segment_paths(image)
    other = join(DIRECTORY, segment_name(10_000))
    return without(image, -1) | {other: image[paths[-1]]}


def crc(data: bytes) -> bytes:
    import zlib

    return zlib.crc32(data).to_bytes(4, "little")


CORRUPTIONS: list[tuple[str, Callable[[Image], Image], type[WalError]]] = [
    ("the first segment is gone", lambda image: without(image, 0), Damaged),
    ("a segment in the middle is gone", lambda image: without(image, 1), Damaged),
    ("the last segment is gone", lambda image: without(image, -1), Damaged),
    ("all segments are gone", lambda image: {DURABLE: image[DURABLE]}, Damaged),
    ("a segment is empty", lambda image: image | {segment_paths(image)[1]: b""}, Damaged),
    ("the last segment is empty", lambda image: image | {segment_paths(image)[-1]: b""}, Damaged),
    ("a segment has another's name", renamed, Damaged),
    ("a segment is from another log", with_foreign_segment, Damaged),
    ("two frames changed places", with_frames_swapped, Damaged),
    ("a frame in the middle is zeros", with_a_lost_frame, Damaged),
    ("a frame does not continue the chain", with_another_chain, Damaged),
    ("a number is skipped", with_a_number_skipped, Damaged),
    ("durable is ahead of the log", lambda image: with_durable(image, 1_000), Damaged),
    ("durable has another chain", lambda image: with_durable(image, 2), Damaged),
    ("durable ends inside a frame", lambda image: with_durable(image, 1), Damaged),
    (
        "durable is of another log",
        lambda image: swap(image, DURABLE, 0, durable_of_another_log(image[DURABLE])),
        Damaged,
    ),
    (
        "a segment is a text file",
        lambda image: image | {segment_paths(image)[1]: b"Dear diary,\n" * 20},
        NotALog,
    ),
    (
        "a segment is a short text file",
        lambda image: image | {segment_paths(image)[1]: b"Hello"},
        NotALog,
    ),
    ("the version is newer", lambda image: with_version(image, FORMAT_VERSION + 1), NewerVersion),
]


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [each[1:] for each in CORRUPTIONS],
    ids=[each[0].replace(" ", "-") for each in CORRUPTIONS],
)
def test_a_corrupted_log_is_refused_and_left_as_it_is(
    corrupt: Callable[[Image], Image], expected: type[WalError]
) -> None:
    image, _ = make_image(frames=10)
    image = corrupt(image)
    disk, file_system = disk_of(image)
    with pytest.raises(WalError) as caught:
        disk.open()
    assert type(caught.value) is expected
    assert image_of(file_system) == image
    assert file_system.open_count == 0
    # The lock was let go: a second try says the same.
    with pytest.raises(expected):
        disk.open()


HARMLESS: list[tuple[str, Callable[[Image], Image]]] = [
    ("durable is gone", lambda image: {p: d for p, d in image.items() if p != DURABLE}),
    ("durable is empty", lambda image: image | {DURABLE: b""}),
    ("durable is garbage", lambda image: image | {DURABLE: b"\xff" * 24}),
    ("durable is zeros", lambda image: image | {DURABLE: bytes(24)}),
    ("durable is too long", lambda image: image | {DURABLE: image[DURABLE] * 2}),
    ("there are files of others", lambda image: image | {f"{DIRECTORY}/notes.txt": b"hello"}),
    ("the reserve is gone", lambda image: {p: d for p, d in image.items() if "tmp" not in p}),
    ("the reserve is short", lambda image: image | {f"{DIRECTORY}/next.tmp": bytes(10)}),
    ("the reserve is long", lambda image: image | {f"{DIRECTORY}/next.tmp": bytes(10_000)}),
    (
        "the reserve has a header already",
        lambda image: swap(image, f"{DIRECTORY}/next.tmp", 0, image[segment_paths(image)[0]][:64]),
    ),
    (
        "the rest behind an end frame was not cut off",
        lambda image: (
            image | {path: image[path].ljust(SMALL, b"\0") for path in segment_paths(image)}
        ),
    ),
]


@pytest.mark.parametrize(
    "change", [each[1] for each in HARMLESS], ids=[each[0].replace(" ", "-") for each in HARMLESS]
)
def test_what_a_crash_may_leave_is_taken_as_it_is(change: Callable[[Image], Image]) -> None:
    image, written = make_image(frames=9)
    disk, file_system = disk_of(change(image))
    log = disk.open()
    assert payloads(log.records()) == written
    assert log.room
    written += append_frames(log, start=len(written) + 1, frames=5)
    log.close()
    assert disk.replay() == written
    assert disk.warnings == []
    assert file_system.open_count == 0
    assert all(len(file_system.files[path]) <= SMALL for path in disk.segments())


def test_a_rotation_that_stopped_behind_the_end_frame_is_finished() -> None:
    image, written = make_image(frames=3, end=Log.close)
    path = segment_paths(image)[-1]
    disk, file_system = disk_of(image | {path: image[path] + bytes(100)})
    assert disk.replay() == written
    assert bytes(file_system.files[path]) == image[path]
    assert disk.warnings == []


def test_a_payload_that_holds_copies_of_frames_is_not_taken_for_frames() -> None:
    disk, file_system = fake_disk(segment_bytes=4096)
    written_log(disk, frames=3)
    path = disk.segments()[0]
    copy = bytes(file_system.files[path]).rstrip(b"\0")
    log = disk.open()
    log.append(copy)
    assert log.flush()
    log.abandon()
    # Its frame is torn off in the middle: the copies in it are old and no sign of a later frame.
    file_system.remove(DURABLE)
    content = bytes(file_system.files[path]).rstrip(b"\0")
    file_system.put(path, content[:-5])
    assert len(disk.replay()) == 6
    assert len(disk.warnings) == 1


@pytest.mark.parametrize("read_bytes", [28, 29, 55, 97, 128, 200])
def test_a_later_frame_is_found_wherever_the_buffers_end(
    read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_module, "READ_BYTES_MAX", read_bytes)
    disk, file_system = fake_disk(segment_bytes=2048)
    written_log(disk, frames=8)
    file_system.remove(DURABLE)
    image = image_of(file_system)
    (path,) = segment_paths(image)
    starts = frame_starts(image, path)
    for bad, later in pairwise(starts[:-1]):
        found = check_refused(swap(image, path, bad, b"?" * 12))
        assert found.offset == bad
        assert found.found.endswith(f"a frame at {later}")
    tail = image[path][starts[-2] : starts[-1]].rstrip(b"\0")
    disk, file_system = disk_of(swap(image, path, starts[-2], b"?"))
    disk.replay()
    assert f" {len(tail)} bytes" in disk.warnings[0]


def test_torn_tails_are_put_aside_beside_each_other() -> None:
    image, written = make_image(frames=1)
    path = segment_paths(image)[0]
    end = frame_starts(image, path)[-1]
    disk, file_system = disk_of(image)
    for number in (1, 2, 3):
        file_system.put(path, image[path][:end] + b"torn" * number)
        assert disk.replay() == written
    torn = [data for name, data in sorted(image_of(file_system).items()) if "torn-" in name]
    assert torn == [b"torn", b"torntorn", b"torntorntorn"]


def needed_from_third_segment(image: Image) -> int:
    return find_segments(disk_of(image)[1], DIRECTORY)[2]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a header", lambda data: b"\xff" + data[1:]),
        ("the end", lambda data: data[:-1]),
        ("all", lambda data: b"Dear diary" * 20),
        ("a frame before an end that was not cut off", lambda d: d[:70] + b"!" + d[71:] + bytes(9)),
    ],
)
def test_damage_in_a_segment_that_is_not_needed_is_reported_and_not_fatal(
    name: str, change: Callable[[bytes], bytes]
) -> None:
    image, written = make_image(frames=9)
    path = segment_paths(image)[0]
    needed = needed_from_third_segment(image)
    after = disk_of(image)[0].position_of(needed - 1)
    disk, _ = disk_of(image | {path: change(image[path])})
    log = disk.open(after)
    assert payloads(log.records(needed - 1)) == written[needed - 1 :]
    assert len(disk.warnings) == 1, name
    assert path in disk.warnings[0]
    with pytest.raises(WalError):
        list(log.records())
    log.close()


def test_damage_in_a_needed_segment_is_fatal_and_one_before_it_is_not_looked_at() -> None:
    image, _ = make_image(frames=9)
    needed = needed_from_third_segment(image)
    path = segment_paths(image)[2]
    after = disk_of(image)[0].position_of(needed - 1)
    disk, _ = disk_of(image | {path: image[path][:-1]})
    with pytest.raises(Damaged) as caught:
        disk.open(after)
    assert caught.value.path == path
