"""Ways in which a data directory can be wrong, and what each tool makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import wal
from tests.waltools.builders import SEGMENT_BYTES, append, history, make_directory
from titan.snapshots import take_snapshot
from titan.state.cluster import ClusterState
from titan.state.replay import replay
from titan.state.snapshot import encode_state
from wal.filesystem import OS_FILE_SYSTEM
from wal.layout import decode_durable, encode_durable
from wal.segment import Segment

OLD_SNAPSHOT = 60
NEW_SNAPSHOT = 110


def make_rich_directory(directory: Path, *, seed: int = 3) -> Path:
    """A killed manager's directory of 150 records, with two snapshots and a reader's slot."""
    payloads = history()
    make_directory(directory, payloads[:OLD_SNAPSHOT], seed=seed)
    snapshot(directory)
    go_on(directory, payloads[OLD_SNAPSHOT:NEW_SNAPSHOT])
    snapshot(directory)
    go_on(directory, payloads[NEW_SNAPSHOT:])
    with wal.Reader(directory / "wal") as reader:
        reader.read(90)
        wal.write_slot(directory / "readers", "history", reader.position)
    return directory


def snapshot(directory: Path) -> None:
    def fail(error: Exception) -> None:
        raise error

    assert take_snapshot(directory, fail, left_free_bytes=0)


def go_on(directory: Path, payloads: tuple[bytes, ...]) -> None:
    with wal.Log.open(
        directory / "wal", lock_path=directory / "lock", segment_bytes=SEGMENT_BYTES
    ) as log:
        append(log, payloads)
        log.abandon()


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "wal").glob("*.wal"))


def holding(directory: Path, lsn: int) -> Path:
    """The segment that holds a record."""
    return [path for path in segments(directory) if int(path.stem) <= lsn][-1]


def frames(path: Path) -> list[tuple[int, int]]:
    """Where each frame of a segment begins, and its first record; last where they end."""
    segment = Segment(OS_FILE_SYSTEM, str(path.parent), int(path.stem))
    found = [(frame.offset, frame.first_lsn) for frame in segment.frames()]
    found.append((segment.offset, segment.lsn))
    segment.close()
    return found


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 8
    path.write_bytes(content)


def flip_in(directory: Path, lsn: int, inside: int) -> None:
    """A bit at so many bytes into the frame that holds the record."""
    path = holding(directory, lsn)
    flip(path, next(offset for offset, first in reversed(frames(path)) if first <= lsn) + inside)


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def swap(one: Path, other: Path) -> None:
    middle = one.with_suffix(".swap")
    one.rename(middle)
    other.rename(one)
    middle.rename(other)


def put_foreign(directory: Path) -> None:
    other = make_rich_directory(directory.with_name("foreign"), seed=77)
    path = segments(directory)[2]
    path.write_bytes(segments(other)[2].read_bytes())


def zero(directory: Path, lsn: int) -> None:
    path = holding(directory, lsn)
    begin, end = frames(path)[1][0], frames(path)[2][0]
    content = bytearray(path.read_bytes())
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)


def add_garbage(directory: Path) -> None:
    path = segments(directory)[-1]
    content = bytearray(path.read_bytes())
    end = frames(path)[-1][0]
    content[end : end + 200] = b"\xa5" * 200
    path.write_bytes(content)


def set_durable(directory: Path, lsn: int) -> None:
    path = directory / "wal" / "durable"
    durable = decode_durable(path.read_bytes())
    assert durable is not None
    log_id = segments(directory)[0].read_bytes()[12:28]
    path.write_bytes(encode_durable(lsn, log_id, durable.chain))


def snapshot_path(directory: Path, lsn: int) -> Path:
    return directory / "snapshots" / f"{lsn:020d}.snapshot"


def lie_in_snapshot(directory: Path, lsn: int) -> None:
    """A sound snapshot of the right place, but of a state that was never there."""
    with wal.open_snapshot(directory / "snapshots", lsn) as snapshot:
        position = snapshot.position
    state = ClusterState()
    replay(enumerate(history()[:lsn], 1), state)
    state.next_job_id += 1000
    wal.write_snapshot(directory / "snapshots", position, encode_state(state, "0"))


def cut_log_before_snapshot(directory: Path) -> None:
    """The last segments are gone; the newest snapshot is of a record behind the end."""
    for path in segments(directory):
        if int(path.stem) > NEW_SNAPSHOT - 30:
            path.unlink()
    (directory / "wal" / "durable").unlink()
    (directory / "readers" / "history.slot").unlink()


def move_slot(directory: Path, lsn: int) -> None:
    (slot,) = wal.read_slots(directory / "readers", on_warning=print)
    wal.write_slot(directory / "readers", "history", slot.position._replace(lsn=lsn))


def lose_everything(directory: Path) -> None:
    flip(segments(directory)[0], 20)
    for path in (directory / "snapshots").iterdir():
        path.unlink()


class Corruption(NamedTuple):
    """What is done, and what comes of it."""

    name: str
    corrupt: Callable[[Path], object]
    verify: str | None
    """The kind of the check that fails; None: none does."""
    kept: tuple[int, int] | None = (1, 150)
    """The first and the last record that a repair keeps; None: it refuses."""
    start: int | None = None
    """The snapshot that a start needs then."""
    is_changed: bool = True
    """Whether a repair has anything to do."""
    stat: int = 1
    """What `stat` exits with."""


# How the records fall into segments; a test holds it.
FIRSTS = (1, 13, 34, 52, 70, 88, 106, 123, 141)

CORRUPTIONS = [
    Corruption("nothing", lambda _: None, None, is_changed=False, stat=0),
    Corruption(
        "a bit in the header of the first segment",
        lambda directory: flip(segments(directory)[0], 20), "segment", (13, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "a bit in the header of a middle segment",
        lambda directory: flip(holding(directory, 60), 30), "segment", (70, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "a bit in the header of the last segment",
        lambda directory: flip(segments(directory)[-1], 30), "segment", (1, 140),
    ),
    Corruption(
        "a bit in the first frame header",
        lambda directory: flip_in(directory, 1, 9), "segment", (13, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "a bit in a frame header in the middle",
        lambda directory: flip_in(directory, 60, 9), "segment", (70, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "a bit in the last frame header",
        lambda directory: flip_in(directory, 150, 9), "durable", (1, 149),
    ),
    Corruption(
        "a bit in the first body",
        lambda directory: flip_in(directory, 1, 200), "segment", (13, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "a bit in a body behind the newest snapshot",
        lambda directory: flip_in(directory, 132, 50), "segment", (1, 131),
    ),
    Corruption(
        "a bit in the last body",
        lambda directory: flip_in(directory, 150, 50), "durable", (1, 149),
    ),
    Corruption(
        "a bit in an end frame",
        lambda directory: flip(holding(directory, 60), frames(holding(directory, 60))[-1][0] - 5),
        "segment",
    ),
    Corruption(
        "a middle segment cut short",
        lambda directory: truncate(holding(directory, 60), 900), "segment", (70, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "the last segment cut short",
        lambda directory: truncate(segments(directory)[-1], 500), "durable", (1, 140),
    ),
    Corruption(
        "a middle segment is missing",
        lambda directory: holding(directory, 60).unlink(), "segment", (70, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "the last segment is missing",
        lambda directory: segments(directory)[-1].unlink(), "durable", (1, 140),
    ),
    Corruption(
        "the first segment is missing",
        lambda directory: segments(directory)[0].unlink(), None, (13, 150), OLD_SNAPSHOT,
        is_changed=False, stat=0,
    ),
    Corruption(
        "two segments have each other's name",
        lambda directory: swap(segments(directory)[1], segments(directory)[2]),
        "segment", (52, 150), NEW_SNAPSHOT,
    ),
    Corruption("a segment of another log", put_foreign, "segment", (52, 150), NEW_SNAPSHOT),
    Corruption(
        "a range of zeros in the middle",
        lambda directory: zero(directory, 60), "segment", (70, 150), NEW_SNAPSHOT,
    ),
    Corruption(
        "a range of zeros behind the newest snapshot",
        lambda directory: zero(directory, 132), "segment", (1, 125),
    ),
    Corruption("garbage behind the end", add_garbage, None, is_changed=False, stat=0),
    Corruption(
        "durable claims more than there is", lambda directory: set_durable(directory, 999),
        "durable",
    ),
    Corruption(
        "durable names another chain", lambda directory: set_durable(directory, 141), "durable"
    ),
    Corruption(
        "durable is gone", lambda directory: (directory / "wal" / "durable").unlink(), None,
        is_changed=False, stat=0,
    ),
    Corruption(
        "a damaged snapshot", lambda directory: flip(snapshot_path(directory, 110), 3000),
        "snapshot",
    ),
    Corruption(
        "a snapshot of another state", lambda directory: lie_in_snapshot(directory, 110),
        "snapshot", stat=0,
    ),
    Corruption(
        "a snapshot beyond the end", cut_log_before_snapshot, "snapshot",
        (NEW_SNAPSHOT + 1, NEW_SNAPSHOT), NEW_SNAPSHOT,
    ),
    Corruption(
        "a slot beyond the end", lambda directory: move_slot(directory, 151), "reader"
    ),
    Corruption(
        "a slot of another history", lambda directory: move_slot(directory, 120), "reader"
    ),
    Corruption(
        "a slot that cannot be read",
        lambda directory: (directory / "readers" / "history.slot").write_bytes(b"?"), "reader",
    ),
    Corruption("no record 1 and no snapshot", lose_everything, "segment", None),
    Corruption(
        "titan.json is gone", lambda directory: (directory / "titan.json").unlink(),
        "description", stat=0,
    ),
]  # fmt: skip
