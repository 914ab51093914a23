"""A repair keeps the most that can be kept, puts the rest aside, and can be stopped anywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wal.builders import (
    DIRECTORY,
    LOSSES,
    Disk,
    append_frames,
    fake_disk,
    payload,
    payloads,
    written_log,
)
from tests.wal.fake_fs import FakeFileSystem, Moment, SimulatedCrash
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
    swap,
    with_durable,
    with_foreign_segment,
    without,
)
from wal import Position, check_snapshot, find_snapshots, open_snapshot, write_snapshot
from wal.inspect import inspect_log
from wal.repair import Anchor, NoStart, Plan, execute_plan, make_plan
from wal.report import LogReport

ASIDE = "/data/repaired"
SNAPSHOTS = "/data/snapshots"


def anchors_of(file_system: FakeFileSystem) -> list[Anchor]:
    anchors = []
    for lsn in find_snapshots(SNAPSHOTS, file_system=file_system):
        with open_snapshot(SNAPSHOTS, lsn, file_system=file_system) as snapshot:
            anchors.append(Anchor(snapshot.path, snapshot.position, is_start=True))
    return anchors


def inspected(file_system: FakeFileSystem, anchors: list[Anchor]) -> LogReport:
    marks = [each.position.lsn for each in anchors if each.position]
    return inspect_log(DIRECTORY, file_system=file_system, marks=marks)


def plan_of(file_system: FakeFileSystem) -> Plan:
    anchors = anchors_of(file_system)
    return make_plan(inspected(file_system, anchors), anchors, file_system=file_system)


def repair(file_system: FakeFileSystem) -> Plan:
    plan = plan_of(file_system)
    execute_plan(plan, ASIDE, file_system=file_system)
    return plan


def check_sound(disk: Disk, file_system: FakeFileSystem, plan: Plan, written: list[bytes]) -> None:
    """It opens, holds what the plan said, takes new records, and nothing is left to repair."""
    assert plan_of(file_system).steps == ()
    log = disk.open(plan.start)
    after = plan.start.lsn if plan.start else 0
    assert payloads(log.records(after)) == written[after : plan.last_lsn]
    assert log.last_lsn == plan.last_lsn
    append_frames(log, start=plan.last_lsn + 1, frames=3)
    log.close()
    with disk.reader() as reader:
        assert (
            payloads(reader)[: len(written)]
            == [payload(lsn) for lsn in range(plan.first_lsn, plan.last_lsn + 7)][: len(written)]
        )


def check_nothing_is_lost(before: Image, file_system: FakeFileSystem) -> None:
    """Every byte is where it was, or under the same name or with its offset in the aside."""
    after = image_of(file_system)
    for path, content in before.items():
        name = path.rpartition("/")[2]
        if name == "next.tmp":
            continue
        if path in after and after[path].startswith(content.rstrip(b"\0")):
            continue
        if after.get(f"{ASIDE}/{name}") == content:
            continue
        # A repair that was stopped may have copied more than once.
        pieces = [each for each in after if each.startswith(f"{ASIDE}/{name}.from-")]
        assert any(is_piece(content, each, after[each]) for each in pieces), f"{path} is gone"


def is_piece(content: bytes, path: str, piece: bytes) -> bool:
    offset = int(path.rpartition(".from-")[2].partition(".")[0])
    tail = content[offset:].rstrip(b"\0")
    return piece.ljust(len(tail), b"\0") == tail


def repaired(image: Image, written: list[bytes]) -> Plan:
    disk, file_system = disk_of(image)
    plan = repair(file_system)
    check_nothing_is_lost(image, file_system)
    check_sound(disk, file_system, plan, written)
    assert file_system.open_count == 0
    return plan


def last_of(image: Image, index: int) -> int:
    """The last record of a segment that has a successor."""
    return int(segment_paths(image)[index + 1][-24:-4]) - 1


def flipped(image: Image, path: str, offset: int) -> Image:
    return swap(image, path, offset, bytes([image[path][offset] ^ 4]))


def test_a_sound_log_needs_nothing() -> None:
    image, written = make_image(frames=10)
    disk, file_system = disk_of(image)
    plan = plan_of(file_system)
    assert plan == Plan(None, 1, 20, range(21, 21), range(1, 1), ())
    execute_plan(plan, ASIDE, file_system=file_system)
    assert {path: data for path, data in image_of(file_system).items() if data} == image
    check_sound(disk, file_system, plan, written)


def test_damage_is_cut_off_with_all_that_follows() -> None:
    image, written = make_image(frames=12)
    path = segment_paths(image)[1]
    start = frame_starts(image, path)[1]
    plan = repaired(flipped(image, path, start + 50), written)
    assert plan.last_lsn == int(path[-24:-4]) + 1
    assert plan.lost == range(plan.last_lsn + 1, 25)
    assert [step.path for step in plan.steps] == [
        *reversed(segment_paths(image)[2:]), path, DURABLE,
    ]  # fmt: skip
    assert plan.steps[-2].offset == start


def test_a_bad_end_frame_is_written_again_and_nothing_is_lost() -> None:
    image, written = make_image(frames=12)
    path = segment_paths(image)[1]
    start, end = frame_starts(image, path)[-2:]
    for offset in range(start, end):
        plan = repaired(flipped(image, path, offset), written)
        assert (plan.last_lsn, len(plan.steps), list(plan.lost)) == (24, 1, [])
    for length in range(start, end):
        plan = repaired(image | {path: image[path][:length]}, written)
        assert (plan.last_lsn, len(plan.steps), list(plan.lost)) == (24, 1, [])


@pytest.mark.parametrize(
    ("damage", "last_lsn", "lost_to"),
    [
        ("the last segment is gone", lambda image: last_of(image, -2), 20),
        ("a segment in the middle is gone", lambda image: last_of(image, 0), 20),
        ("a segment is from another log", lambda image: last_of(image, 0), 20),
        ("durable is ahead of the log", lambda _: 20, 1000),
        ("durable has another chain", lambda _: 20, 20),
        ("durable ends inside a frame", lambda _: 20, 20),
        ("durable is of another log", lambda _: 20, 20),
        ("a frame in the middle is zeros", lambda image: last_of(image, -2), 20),
    ],
)
def test_what_is_kept_and_what_is_lost(
    damage: str, last_lsn: Callable[[Image], int], lost_to: int
) -> None:
    image, written = make_image(frames=10)
    corrupt = next(each[1] for each in CORRUPTIONS if each[0] == damage)
    plan = repaired(corrupt(image), written)
    assert plan.last_lsn == last_lsn(image)
    assert plan.lost == range(plan.last_lsn + 1, lost_to + 1)


@pytest.mark.parametrize(
    "corrupt", [each[1] for each in CORRUPTIONS if each[0] != "the version is newer"],
    ids=[each[0].replace(" ", "-") for each in CORRUPTIONS if each[0] != "the version is newer"],
)  # fmt: skip
def test_every_corruption_ends_sound_or_is_refused_untouched(
    corrupt: Callable[[Image], Image],
) -> None:
    image, written = make_image(frames=10)
    image = corrupt(image)
    if not segment_paths(image):
        return
    try:
        repaired(image, written)
    except NoStart:
        first = inspected(disk_of(image)[1], []).segments[0]
        assert first.first_lsn != 1 or first.records == 0


def test_every_flipped_bit_ends_sound_or_is_refused_untouched() -> None:
    image, written = make_image(frames=4)
    refused = 0
    for path in segment_paths(image):
        for offset, data in flips(image[path], 0, frame_starts(image, path)[-1]):
            try:
                plan = repaired(image | {path: data}, written)
            except NoStart:
                # Of the first frame or what leads to it: nothing at all is before it.
                assert path == segment_paths(image)[0]
                assert offset < frame_starts(image, path)[1]
                refused += 1
                continue
            assert plan.last_lsn % 2 == 0
    assert refused


def with_snapshots(image: Image, *lsns: int) -> Image:
    disk, file_system = disk_of(image)
    for lsn in lsns:
        position = disk.position_of(lsn)
        write_snapshot(SNAPSHOTS, position, [b"%d" % lsn], file_system=file_system)
    return image_of(file_system)


def test_damage_before_a_snapshot_costs_history_only() -> None:
    image, written = make_image(frames=14)
    image = with_snapshots(image, 1, 15, 16)
    paths = segment_paths(image)
    plan = repaired(flipped(image, paths[1], 100), written)
    assert plan.start is not None
    assert (plan.start.lsn, plan.last_lsn, plan.lost) == (16, 28, range(29, 29))
    assert plan.first_lsn == last_of(image, 1) + 1
    assert plan.lost_history == range(1, plan.first_lsn)
    moved = [step.path for step in plan.steps]
    assert moved == [*paths[:2], f"{SNAPSHOTS}/{1:020}.snapshot"]


def test_damage_behind_the_newest_snapshot_is_cut_off_and_history_stays() -> None:
    image, written = make_image(frames=14)
    image = with_snapshots(image, 3)
    path = segment_paths(image)[2]
    plan = repaired(flipped(image, path, 100), written)
    assert (plan.start, plan.first_lsn) == (None, 1)
    assert plan.last_lsn == last_of(image, 1)


def test_of_damage_on_both_sides_of_a_snapshot_the_middle_is_kept() -> None:
    image, written = make_image(frames=20)
    paths = segment_paths(image)
    image = with_snapshots(image, int(paths[3][-24:-4]) + 1)
    damaged = flipped(flipped(image, paths[1], 100), paths[5], 70)
    plan = repaired(damaged, written)
    assert plan.first_lsn == int(paths[2][-24:-4])
    assert plan.last_lsn == last_of(image, 4)
    assert plan.lost == range(plan.last_lsn + 1, 41)
    assert plan.lost_history == range(1, plan.first_lsn)


def test_a_snapshot_beyond_the_end_is_gone_on_from() -> None:
    image, written = make_image(frames=14)
    image = with_snapshots(image, 3, 28)
    plan = repaired(without(image, -1), written)
    assert plan.start is not None
    assert (plan.start.lsn, plan.first_lsn, plan.last_lsn) == (28, 29, 28)
    assert plan.lost == range(29, 29)
    assert plan.lost_history == range(1, 29)


def test_a_slot_beyond_the_end_goes_aside() -> None:
    image, _ = make_image(frames=14)
    disk, file_system = disk_of(image)
    position = disk.position_of(28)
    del image[DURABLE]
    _, file_system = disk_of(without(image, -1))
    file_system.put("/data/readers/sql.slot", b"")
    anchors = [Anchor("/data/readers/sql.slot", position, is_start=False)]
    plan = make_plan(inspected(file_system, anchors), anchors, file_system=file_system)
    assert plan.lost == range(plan.last_lsn + 1, 29)
    assert [step.path for step in plan.steps] == ["/data/readers/sql.slot"]


@pytest.mark.parametrize("with_later_damage", [False, True])
def test_frames_behind_a_snapshot_are_kept_though_their_segment_is_damaged_before_it(
    with_later_damage: bool,
) -> None:
    disk, file_system = fake_disk(segment_bytes=2000)
    written = written_log(disk, frames=30)
    image = with_snapshots(image_of(file_system), 4, 6)
    first, *_ = segment_paths(image)
    starts = frame_starts(image, first)
    assert len(starts) > 8
    image = flipped(image, first, starts[1] + 40)  # Records 3 and 4 are gone.
    if with_later_damage:
        image = flipped(image, first, starts[6] + 40)
    plan = repaired(image, written)
    assert plan.start is not None
    assert (plan.start.lsn, plan.first_lsn) == (6, 5)
    assert [step.path for step in plan.steps if "snapshot" in step.path] == []
    assert plan.last_lsn == (12 if with_later_damage else 60)
    assert plan.lost == range(plan.last_lsn + 1, 61)
    assert plan.lost_history == range(1, 5)


def test_a_snapshot_of_another_history_is_no_start() -> None:
    image, _ = make_image(frames=14)
    disk, file_system = disk_of(image)
    position = disk.position_of(16)
    for wrong in (position._replace(chain=1), position._replace(log_id=bytes(16))):
        disk, file_system = disk_of(without(image, 0))
        write_snapshot(SNAPSHOTS, wrong, [b"16"], file_system=file_system)
        before = image_of(file_system)
        with pytest.raises(NoStart):
            repair(file_system)
        assert image_of(file_system) == before


def test_without_record_1_and_without_a_snapshot_nothing_is_touched() -> None:
    image, _ = make_image(frames=10)
    _, file_system = disk_of(without(image, 0))
    before = image_of(file_system)
    with pytest.raises(NoStart, match="nothing can be kept"):
        repair(file_system)
    assert image_of(file_system) == before


def test_what_cannot_be_read_or_is_wrong_in_itself_goes_aside() -> None:
    image, _ = make_image(frames=10)
    disk, file_system = disk_of(image)
    anchors = []
    for name, position, fault in (
        ("unreadable", None, ""),
        ("wrong", disk.position_of(4), "it holds another state"),
        ("fine", disk.position_of(6), ""),
        ("behind", Position(disk.position_of(6).log_id, 99, 0), ""),
    ):
        file_system.put(f"{SNAPSHOTS}/{name}", name.encode())
        anchors.append(Anchor(f"{SNAPSHOTS}/{name}", position, False, fault))
    plan = make_plan(inspected(file_system, anchors), anchors, file_system=file_system)
    assert [(step.path.rpartition("/")[2], step.why) for step in plan.steps] == [
        ("unreadable", "it cannot be read"),
        ("wrong", "it holds another state"),
        ("behind", "it names record 99, and the log ends with 20"),
    ]


STOPPED: list[tuple[str, Callable[[Image], Image], tuple[int, ...]]] = [
    ("cut", lambda image: flipped(image, segment_paths(image)[1], 100), ()),
    ("history", lambda image: flipped(image, segment_paths(image)[1], 100), (1, 15, 16)),
    (
        "both",
        lambda image: flipped(
            flipped(image, segment_paths(image)[0], 100), segment_paths(image)[-2], 70
        ),
        (10, 27),
    ),
    (
        "mend",
        lambda image: flipped(
            image, segment_paths(image)[1], frame_starts(image, segment_paths(image)[1])[-2]
        ),
        (),
    ),
    ("durable", lambda image: with_durable(image, 1000), ()),
    ("foreign", with_foreign_segment, ()),
    ("missing", lambda image: without(image, 1), (27,)),
    ("beyond", lambda image: without(image, -1), (3, 28)),
    (
        "graft",
        lambda image: flipped(
            image, segment_paths(image)[1], frame_starts(image, segment_paths(image)[1])[0] + 40
        ),
        (1, 6),
    ),
]


@pytest.mark.parametrize("loss", range(len(LOSSES) + 1))
@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize(
    ("corrupt", "snapshots"), [each[1:] for each in STOPPED], ids=[each[0] for each in STOPPED]
)
def test_a_repair_that_is_stopped_at_any_call_can_be_done_again_and_loses_no_more(
    corrupt: Callable[[Image], Image], snapshots: tuple[int, ...], moment: Moment, loss: int
) -> None:
    image, written = make_image(frames=14)
    image = corrupt(with_snapshots(image, *snapshots))
    _, file_system = disk_of(image)
    wanted = repair(file_system)
    calls = len(file_system.calls)
    assert calls > 2
    for number in range(1, calls + 1):
        disk, file_system = disk_of(image)
        file_system.crash_at(number, moment)
        if not stopped(file_system):
            continue
        if loss == len(LOSSES):
            file_system.kill()
        else:
            LOSSES[loss](file_system)
        plan = repair(file_system)
        assert plan[:3] == wanted[:3]
        check_nothing_is_lost(image, file_system)
        check_sound(disk, file_system, plan, written)
        if plan.start:
            assert check_snapshot(SNAPSHOTS, plan.start.lsn, file_system=file_system) == plan.start


def stopped(file_system: FakeFileSystem) -> bool:
    """Repair; whether it was stopped: only a write has a middle."""
    try:
        repair(file_system)
    except SimulatedCrash:
        return True
    return False
