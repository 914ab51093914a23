"""An inspection finds what an opening refuses, and goes on behind it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.wal.builders import DIRECTORY, fake_disk, written_log
from tests.wal.test_damage import (
    CORRUPTIONS,
    DURABLE,
    HARMLESS,
    Image,
    disk_of,
    flips,
    frame_starts,
    image_of,
    make_image,
    segment_paths,
)
from wal import Log, NewerVersion, NotALog, Record, WalError
from wal.inspect import inspect_log
from wal.report import LogReport, SegmentReport
from wal.salvage import salvage

NEWER = "the version is newer"


def inspected(image: Image, marks: tuple[int, ...] = ()) -> tuple[LogReport, list[Record]]:
    """Inspect; nothing may be written or left open."""
    _, file_system = disk_of(image)
    records: list[Record] = []
    report = inspect_log(
        DIRECTORY,
        file_system=file_system,
        marks=marks,
        on_records=lambda _, some: records.extend(some),
    )
    assert file_system.calls == []
    assert file_system.open_count == 0
    return report, records


def is_refused(image: Image) -> bool:
    disk, _ = disk_of(image)
    try:
        disk.open()
    except WalError:
        return True
    return False


def test_a_sound_log_is_told_whole() -> None:
    image, written = make_image(frames=10, end=Log.close)
    report, records = inspected(image, marks=(1, 2, 7, 20, 21))
    assert report.faults == []
    assert [record.payload for record in records] == written
    assert [record.lsn for record in records] == list(range(1, 21))
    assert (report.first_lsn, report.next_lsn) == (1, 21)
    assert [each.path for each in report.segments] == segment_paths(image)
    assert sum(each.frames for each in report.segments) == 10
    assert sum(each.records for each in report.segments) == 20
    assert all(each.is_ended for each in report.segments)
    assert [each.used_bytes for each in report.segments] == [
        len(image[path]) for path in segment_paths(image)
    ]
    assert {lsn: mark.lsn for lsn, mark in report.marks.items()} == {1: 2, 2: 2, 7: 8, 20: 20}


def test_a_log_in_use_is_told_up_to_its_end() -> None:
    image, written = make_image(frames=10)
    report, records = inspected(image)
    assert report.faults == []
    assert len(records) == len(written)
    assert not report.segments[-1].is_ended
    assert report.segments[-1].torn_bytes == 0


@pytest.mark.parametrize(
    "corrupt", [each[1] for each in CORRUPTIONS if each[0] != NEWER],
    ids=[each[0].replace(" ", "-") for each in CORRUPTIONS if each[0] != NEWER],
)  # fmt: skip
def test_what_an_opening_refuses_is_a_fault(corrupt: Callable[[Image], Image]) -> None:
    image = corrupt(make_image(frames=10)[0])
    if segment_paths(image):
        report, _ = inspected(image)
        # That record 1 is gone is for the owner to judge, who may have a snapshot.
        assert bool(report.faults) == (report.first_lsn == 1)
    else:
        with pytest.raises(NotALog):
            inspected(image)


@pytest.mark.parametrize(
    "change", [each[1] for each in HARMLESS], ids=[each[0].replace(" ", "-") for each in HARMLESS]
)
def test_what_a_crash_may_leave_is_no_fault(change: Callable[[Image], Image]) -> None:
    assert inspected(change(make_image(frames=9)[0]))[0].faults == []


def test_a_newer_version_is_not_damage() -> None:
    corrupt = next(each[1] for each in CORRUPTIONS if each[0] == NEWER)
    with pytest.raises(NewerVersion):
        inspected(corrupt(make_image(frames=10)[0]))


@pytest.mark.parametrize("with_durable", [True, False])
def test_every_flipped_bit_is_found_exactly_when_an_opening_refuses(with_durable: bool) -> None:
    image, _ = make_image(frames=4)
    if not with_durable:
        del image[DURABLE]
    for path in segment_paths(image):
        for offset, data in flips(image[path], 0, frame_starts(image, path)[-1]):
            flipped = image | {path: data}
            report, _ = inspected(flipped)
            assert bool(report.faults) == is_refused(flipped), (path, offset)
            for fault in report.faults:
                assert fault.path in (path, DURABLE)
            if not report.faults:
                assert report.segments[-1].torn_bytes


@pytest.mark.parametrize("with_durable", [True, False])
def test_every_length_is_found_exactly_when_an_opening_refuses(with_durable: bool) -> None:
    image, _ = make_image(frames=7)
    if not with_durable:
        del image[DURABLE]
    for path in segment_paths(image):
        for length in range(frame_starts(image, path)[-1]):
            cut = image | {path: image[path][:length]}
            assert bool(inspected(cut)[0].faults) == is_refused(cut), (path, length)


def test_what_lies_behind_a_fault_is_told_all_the_same() -> None:
    image, written = make_image(frames=10)
    first, second, *_ = segment_paths(image)
    start = frame_starts(image, first)[0]
    changed = bytearray(image[first])
    changed[start + 40] ^= 1
    report, records = inspected(image | {first: bytes(changed)})
    (fault,) = report.faults
    assert (fault.path, fault.offset, fault.lsn) == (first, start, 1)
    begin = int(second[-24:-4])
    assert [record.payload for record in records] == written[begin - 1 :]
    assert report.segments[0].records == 0
    assert report.segments[0].content_bytes == len(image[first])
    # Behind it in its own segment too.
    _, file_system = disk_of(image | {first: bytes(changed)})
    saved = [each for some in salvage(report.segments[0], file_system=file_system) for each in some]
    assert saved == [Record(lsn, written[lsn - 1]) for lsn in range(3, begin)]
    assert file_system.open_count == 0


def test_nothing_wrong_is_salvaged_whatever_bit_is_flipped() -> None:
    image, written = make_image(frames=6)
    path = segment_paths(image)[0]
    for offset, data in flips(image[path], 64, frame_starts(image, path)[-1]):
        flipped = image | {path: data}
        report, _ = inspected(flipped)
        _, file_system = disk_of(flipped)
        lost = frame_starts(image, path)
        saved = [
            each for some in salvage(report.segments[0], file_system=file_system) for each in some
        ]
        assert all(written[each.lsn - 1] == each.payload for each in saved), offset
        # All but the frame that was hit.
        frame = sum(start <= offset for start in lost[:-1])
        behind = 2 * max(0, len(lost) - 2 - frame)
        assert len(saved) == behind


def test_a_segment_of_another_log_spoils_neither_its_neighbours_nor_the_log_id() -> None:
    image, _ = make_image(frames=10)
    disk, file_system = fake_disk(segment_bytes=400)
    disk.random.seed(99)
    written_log(disk, frames=10)
    foreign = image_of(file_system)
    path = segment_paths(image)[0]
    report, _ = inspected(image | {path: foreign[path]})
    assert [fault.path for fault in report.faults] == [path]
    assert "log id" in report.faults[0].expected


def test_a_report_counts_what_was_read_of_a_segment() -> None:
    image, _ = make_image(frames=10)
    seen: list[SegmentReport] = []
    _, file_system = disk_of(image)
    report = inspect_log(DIRECTORY, file_system=file_system, on_segment=seen.append)
    assert seen == report.segments
    assert [each.records for each in seen] == [
        later.first_lsn - each.first_lsn for each, later in pairwise(seen)
    ] + [seen[-1].records]
