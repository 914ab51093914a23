"""What a repair refuses, what it says, and that it can be stopped at any call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import wal
from tests.wal.builders import LOSSES
from tests.wal.fake_fs import FakeFileSystem, SimulatedCrash
from tests.waltools.builders import SEGMENT_BYTES, history, make_directory
from tests.waltools.corruptions import (
    CORRUPTIONS,
    flip,
    flip_in,
    go_on,
    holding,
    lie_in_snapshot,
    make_rich_directory,
    segments,
)
from titan import events as ev
from titan.errors import Refused
from titan.model import State
from titan.snapshots import load_newest
from titan.state.cluster import ClusterState
from titan.state.replay import replay
from titan.waltools.backup import back_up
from titan.waltools.examine import examine
from titan.waltools.places import Places, find_places
from titan.waltools.proposal import Proposal, describe
from titan.waltools.repair import MARKER, Done, NotRepairable, Repair, RepairRefused
from titan.waltools.verify import verify
from wal.filesystem import OS_FILE_SYSTEM

NOW_US = 1_800_000_000_000_000


def propose(directory: Path) -> Proposal:
    with Repair(Places.of(directory), segment_bytes=SEGMENT_BYTES) as work:
        return work.propose()


def repair(
    places: Places, file_system: FakeFileSystem | None = None, *, now_us: int = NOW_US
) -> tuple[Proposal, Done]:
    disk = file_system or OS_FILE_SYSTEM
    with Repair(places, segment_bytes=SEGMENT_BYTES, file_system=disk) as work:
        proposal = work.propose()
        return proposal, work.carry_out(
            proposal, now_us=now_us, aside_name="repaired-now", epoch=4711, version="9.9"
        )


def test_the_lock_of_a_manager_keeps_a_repair_out(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager", history()[:20])
    lock = wal.Lock(directory / "lock")
    with pytest.raises(RepairRefused, match=rf"in use by process {os.getpid()}; stop the manager"):
        propose(directory)
    lock.release()
    propose(directory)
    propose(directory)  # It let the lock go.


def test_a_directory_in_use_is_a_refusal_and_what_cannot_be_mended_is_none(tmp_path: Path) -> None:
    assert issubclass(RepairRefused, Refused)
    assert not issubclass(NotRepairable, Refused)
    directory = make_rich_directory(tmp_path / "manager")
    with (
        wal.Log.open(directory / "wal", segment_bytes=SEGMENT_BYTES),
        pytest.raises(RepairRefused, match="in use by process"),
    ):
        Repair(Places.of(directory))  # Though that one has not taken a manager's lock.


def test_a_look_leaves_no_lock_behind_and_is_kept_out_by_a_manager(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    flip_in(directory, 132, 50)
    (directory / "lock").unlink()
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with Repair(Places.of(directory), is_look=True) as work:
        assert work.propose().is_needed
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    lock = wal.Lock(directory / "lock")
    with pytest.raises(RepairRefused, match=rf"in use by process {os.getpid()}"):
        Repair(Places.of(directory), is_look=True)
    lock.release()


@pytest.mark.parametrize("is_look", [True, False])
def test_where_there_is_no_log_nothing_is_made(tmp_path: Path, is_look: bool) -> None:
    with Repair(find_places(tmp_path), is_look=is_look) as work, pytest.raises(wal.NotALog):
        work.propose()
    assert list(tmp_path.iterdir()) == []


def test_what_goes_is_told_by_records_events_and_jobs(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager")
    flip_in(directory, 60, 50)
    proposal = propose(directory)
    lost = proposal.lost
    gone = [ev.decode_record(payload)[1] for payload in history()[lost.records[0] - 1 :]]
    # All but the records of the frame that was hit.
    assert (len(lost.records), lost.readable) == (len(gone), len(gone) - 3)
    submitted = {each.job_id for some in gone for each in some if isinstance(each, ev.JobSubmitted)}
    assert set(lost.jobs_submitted) <= submitted
    assert max(lost.jobs_submitted) == max(submitted)
    text = "\n".join(describe(proposal))
    assert f"Plan: keep records 1 to {lost.records[0] - 1}, cut what is behind them." in text
    assert f"Acknowledged and lost: records {lost.records[0]} to 150 ({len(gone)})" in text
    assert f"{lost.events['JobSubmitted']} JobSubmitted" in text
    assert f"submits of {len(lost.jobs_submitted)} jobs: " in text


def test_the_time_of_the_last_record_never_decreases(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager")
    flip_in(directory, 60, 50)
    _, done = repair(Places.of(directory), now_us=1)
    with wal.Reader(directory / "wal", from_lsn=done.lsn - 1) as reader:
        times = [ev.decode_record(record.payload)[0] for record in reader]
    assert times[0] == times[1] > 1


def test_two_repairs_do_not_mix_what_they_put_aside(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager")
    flip_in(directory, 140, 50)
    assert repair(Places.of(directory))[1].aside.name == "repaired-now"
    flip_in(directory, 60, 50)
    assert repair(Places.of(directory))[1].aside.name == "repaired-now-2"
    assert not (directory / MARKER).exists()


def test_a_log_that_only_its_own_version_can_replay_is_left_alone(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager")
    impossible = ev.WorkerHealthy(99)
    go_on(directory, (ev.encode_record(NOW_US, [impossible]),))
    with pytest.raises(NotRepairable, match=r"record 151: .* as they were written"):
        propose(directory)
    found = examine(Places.of(directory))
    assert [fault.lsn for fault in found.replay_faults] == [151]
    assert [stretch.last_lsn for stretch in found.stretches] == [150]
    flip_in(directory, 60, 50)  # With a damage of its own before it, it is cut off.
    assert propose(directory).plan.last_lsn < 60


def test_two_snapshots_that_contradict_each_other_are_for_a_person_to_judge(
    tmp_path: Path,
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    segments(directory)[0].unlink()
    lie_in_snapshot(directory, 110)
    with pytest.raises(NotRepairable, match="snapshots at records 60 and 110 contradict"):
        propose(directory)


def test_a_snapshot_of_a_later_version_is_no_damage(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    path = directory / "snapshots" / f"{110:020d}.snapshot"
    content = bytearray(path.read_bytes())
    content[8] += 1
    import zlib

    content[60:64] = zlib.crc32(content[:60]).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(wal.NewerVersion):
        propose(directory)


def test_a_log_is_found_by_its_own_name_too(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    assert find_places(directory) == find_places(directory / "wal") == Places.of(directory)
    alone = tmp_path / "alone"
    (directory / "wal").rename(alone)
    assert find_places(alone).log == find_places(alone).root == alone
    assert examine(find_places(alone)).state is not None


@pytest.mark.parametrize("name", [".", "../link", "../data/wal", "wal"])
def test_a_managers_log_is_known_under_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    (tmp_path / "manager" / "link").symlink_to(directory / "wal")
    (tmp_path / "data").symlink_to(directory)
    monkeypatch.chdir(directory if name == "wal" else directory / "wal")
    named = Path(name) if name != "../data/wal" else tmp_path / "data" / "wal"
    places = find_places(named)
    for found, expected in zip(places, Places.of(directory), strict=True):
        assert found.samefile(expected)
    assert not places.is_log_alone
    lock = wal.Lock(directory / "lock")
    with pytest.raises(RepairRefused, match="stop the manager"):
        Repair(places)
    lock.release()
    assert {check.kind for check in verify(places).checks} >= {"snapshot", "reader"}


def test_a_log_that_lies_on_another_disk_is_its_managers_by_the_managers_name(
    tmp_path: Path,
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    (directory / "wal").rename(tmp_path / "fast")
    (directory / "wal").symlink_to(tmp_path / "fast")
    assert find_places(directory) == find_places(directory / "wal") == Places.of(directory)


@pytest.mark.parametrize("left", ["titan.json", "lock", "snapshots"])
def test_a_log_is_its_managers_while_anything_of_that_is_beside_it(
    tmp_path: Path, left: str
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    for entry in directory.iterdir():
        if entry.name not in ("wal", left):
            entry.rename(tmp_path / entry.name)
    assert find_places(directory / "wal") == Places.of(directory)
    (directory / left).rename(tmp_path / left)
    assert find_places(directory / "wal").root == directory / "wal"


def test_what_a_repair_put_aside_is_not_the_managers_log(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    aside = directory / "repaired-now"
    aside.mkdir()
    segments(directory)[-1].rename(aside / segments(directory)[-1].name)
    assert find_places(aside).root == find_places(aside).log == aside


def test_a_log_alone_is_repaired_under_its_own_lock_and_stays_a_log_alone(tmp_path: Path) -> None:
    alone = tmp_path / "wal"
    make_directory(tmp_path / "manager")
    (tmp_path / "manager" / "wal").rename(alone)
    with wal.Log.open(alone, segment_bytes=SEGMENT_BYTES) as log:
        with pytest.raises(RepairRefused, match="stop the manager"):
            Repair(find_places(alone))
        log.abandon()
    places = find_places(alone)
    with Repair(places, segment_bytes=SEGMENT_BYTES) as work:
        assert not work.propose().is_needed
    flip(sorted(alone.glob("*.wal"))[-1], 300)
    repair(places)
    assert not (alone / "titan.json").exists()


def test_a_backup_is_not_made_a_managers_directory(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    back_up(Places.of(make_rich_directory(tmp_path / "manager")), target, now=1)
    assert not propose(target).is_needed


def image_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("lock", "next.tmp")
    }


def disk_of(image: dict[str, bytes]) -> FakeFileSystem:
    file_system = FakeFileSystem(Random(5))
    for path, content in image.items():
        file_system.put(path, content)
    return file_system


STOPPED = [
    "a bit in a frame header in the middle",
    "a range of zeros behind the newest snapshot",
    "a bit in an end frame",
    "durable claims more than there is",
    "a snapshot beyond the end",
    "a slot of another history",
]


@pytest.mark.parametrize("name", STOPPED, ids=lambda name: name.replace(" ", "-"))
def test_a_repair_that_is_stopped_at_any_call_ends_the_same_when_done_again(
    tmp_path: Path, name: str
) -> None:
    case = next(each for each in CORRUPTIONS if each.name == name)
    directory = make_rich_directory(tmp_path / "manager")
    case.corrupt(directory)
    places, image = Places.of(directory), image_of(directory)
    file_system = disk_of(image)
    repair(places, file_system)
    calls = len(file_system.calls)
    losses: list[Callable[[FakeFileSystem], None]] = [*LOSSES, FakeFileSystem.kill]
    for number in range(1, calls + 1):
        lose = losses[number % len(losses)]
        file_system = disk_of(image)
        file_system.crash_at(number, "after" if number % 2 else "before")
        with pytest.raises(SimulatedCrash):
            repair(places, file_system)
        lose(file_system)
        check_repaired(places, file_system, case.kept)


def check_repaired(
    places: Places, file_system: FakeFileSystem, kept: tuple[int, int] | None
) -> None:
    """Repairs again; the same is kept, and one start, or two, follow it."""
    assert kept is not None
    with Repair(places, file_system=file_system, segment_bytes=SEGMENT_BYTES) as work:
        proposal = work.propose()
        if proposal.is_needed:
            done = work.carry_out(
                proposal, now_us=NOW_US, aside_name="repaired-then", epoch=12, version="9.9"
            )
            assert done.aside.name in ("repaired-now", "repaired-then")
    found = examine(places, file_system=file_system)
    assert found.is_sound
    assert found.state is not None
    assert found.state.epoch in (4711, 12)
    assert kept[1] + 1 <= found.state.lsn <= kept[1] + 2
    expected = ClusterState()
    replay(enumerate(history()[: kept[1]], 1), expected)
    assert found.state.task_counts[State.COMPLETED - 1] == expected.task_counts[State.COMPLETED - 1]
    assert load_newest(places.root, print, file_system=file_system) is not None
    assert str(places.root / MARKER) not in file_system.files


def test_what_was_begun_is_ended_where_it_was_begun(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    flip(holding(directory, 132), 300)
    (directory / MARKER).write_text("repaired-yesterday\n")
    proposal, done = repair(Places.of(directory))
    assert done.aside == directory / "repaired-yesterday"
    assert "A repair was stopped" in describe(proposal)[0]


def test_a_marker_leads_nowhere_else(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    (directory / MARKER).write_text("../../elsewhere\n")
    _, done = repair(Places.of(directory))
    assert done.aside == directory / "elsewhere"
