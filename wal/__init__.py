"""An append-only, checksummed, segmented log of opaque records. Start with README.md beside this
file.

Log is for the one process that writes; Reader for any number of others that follow. Beside the log
there are snapshots of what its owner made of the records, and slots that say where readers are. The
package knows nothing of what the records mean and needs nothing but the standard library.
"""

from wal.errors import (
    BacklogFull,
    Damaged,
    Locked,
    LogClosed,
    LogFailed,
    NewerVersion,
    NotALog,
    NotFlushed,
    PositionMismatch,
    RecordsGone,
    RecordTooLarge,
    WalError,
    WriteFailed,
)
from wal.filesystem import FileSystem, OsFileSystem
from wal.flusher import Flusher, FrameWriter
from wal.layout import (
    FORMAT_VERSION,
    FRAME_BODY_BYTES_MAX,
    RECORD_BYTES_MAX,
    first_chain,
    pack_records,
    unpack_records,
)
from wal.lock import Lock
from wal.log import SEGMENT_BYTES, Log, begin
from wal.reader import Reader
from wal.record import Flush, PackedFrame, Position, Record
from wal.retention import SegmentInfo, list_segments, remove_segments_before
from wal.slots import SLOT_VERSION, Slot, read_slots, remove_slot, write_slot
from wal.snapshot import (
    BLOCK_BYTES_MAX,
    SNAPSHOT_VERSION,
    Snapshot,
    check_snapshot,
    find_snapshots,
    first_block,
    open_snapshot,
    remove_snapshot,
    snapshot_name,
    sync_snapshots,
    write_snapshot,
)

__all__ = [
    "BLOCK_BYTES_MAX",
    "FORMAT_VERSION",
    "FRAME_BODY_BYTES_MAX",
    "RECORD_BYTES_MAX",
    "SEGMENT_BYTES",
    "SLOT_VERSION",
    "SNAPSHOT_VERSION",
    "BacklogFull",
    "Damaged",
    "FileSystem",
    "Flush",
    "Flusher",
    "FrameWriter",
    "Lock",
    "Locked",
    "Log",
    "LogClosed",
    "LogFailed",
    "NewerVersion",
    "NotALog",
    "NotFlushed",
    "OsFileSystem",
    "PackedFrame",
    "Position",
    "PositionMismatch",
    "Reader",
    "Record",
    "RecordTooLarge",
    "RecordsGone",
    "SegmentInfo",
    "Slot",
    "Snapshot",
    "WalError",
    "WriteFailed",
    "begin",
    "check_snapshot",
    "find_snapshots",
    "first_block",
    "first_chain",
    "list_segments",
    "open_snapshot",
    "pack_records",
    "read_slots",
    "remove_segments_before",
    "remove_slot",
    "remove_snapshot",
    "snapshot_name",
    "sync_snapshots",
    "unpack_records",
    "write_slot",
    "write_snapshot",
]
