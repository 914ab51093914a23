"""A manager's log in numbers: segments, events by kind, snapshots, readers.

Looks at every byte, but replays nothing. Shows what it can of a damaged log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgpack

import wal
from titan import events as ev
from titan import paths
from titan.snapshots import SnapshotUnusable, load_snapshot
from titan.state.snapshot import SnapshotError, read_head
from titan.waltools.examine import Progress, find_firsts, find_slots, slot_fault
from titan.waltools.journal_files import JournalFiles
from titan.waltools.looks import look_again
from titan.waltools.places import Places
from wal import Position, Record
from wal.inspect import inspect_log
from wal.report import LogReport, SegmentReport, position_fault

_STARTED: Final = ev.CODE_OF_EVENT[ev.ManagerStarted]
_CREATED: Final = ev.CODE_OF_EVENT[ev.ClusterCreated]


@dataclass(slots=True)
class _Tally:
    """What the records of a segment, or of the log, hold."""

    records: int = 0
    payload_bytes: int = 0
    events: int = 0
    first_us: int | None = None
    last_us: int | None = None


@dataclass(slots=True)
class _Contents:
    """What all records hold, as they go by."""

    segments: dict[int, _Tally] = field(default_factory=dict)
    kinds: dict[int, list[int]] = field(default_factory=dict)
    """By code: how many events, and their bytes."""
    unreadable: int = 0
    cluster_id: bytes | None = None
    epoch: int | None = None
    version: str | None = None

    def on_records(self, segment: SegmentReport, records: list[Record]) -> None:
        """Takes records up."""
        tally = self.segments.setdefault(segment.first_lsn, _Tally())
        for _, payload in records:
            tally.records += 1
            tally.payload_bytes += len(payload)
            try:
                time_us, count = self._take(payload)
            except (ValueError, TypeError, IndexError, msgpack.UnpackException):
                self.unreadable += 1
                continue
            tally.events += count
            tally.first_us = time_us if tally.first_us is None else tally.first_us
            tally.last_us = time_us

    def _take(self, payload: bytes) -> tuple[int, int]:
        """Counts events without making them, so that those of a later version count, too."""
        unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=wal.RECORD_BYTES_MAX)
        unpacker.feed(payload)
        unpacker.read_array_header()
        time_us = unpacker.unpack()
        count = unpacker.read_array_header()
        begin = unpacker.tell()
        for _ in range(count):
            event = unpacker.unpack()
            end = unpacker.tell()
            total = self.kinds.setdefault(event[0], [0, 0])
            total[0] += 1
            total[1] += end - begin
            begin = end
            if event[0] == _STARTED:
                self.epoch, self.version = event[1], event[2]
            elif event[0] == _CREATED:
                self.cluster_id = event[1]
        if type(time_us) is not int:
            raise ValueError("a record begins with its time")
        return time_us, count


def stat(places: Places, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Everything in numbers, as plain values; `damage` lists what is wrong.

    Times in Unix seconds. Raises wal.NotALog, wal.NewerVersion, OSError. O(bytes).
    """
    return look_again(lambda: _stat(places, progress))


def stat_journal(files: JournalFiles, progress: Progress = lambda _: None) -> dict[str, Any]:
    """The same of a journal in a database. Raises as `stat`, JournalUnavailable, JournalRefused."""
    progress("fetching the journal")
    files.fetch_all()
    faults = [f"{files.name}: row of record {lsn}: {why}" for lsn, why in files.row_faults]
    found = stat(files.places, progress)
    damage = [each.replace(str(files.places.root), files.name) for each in found["damage"]]
    return {**found, "directory": files.name, "damage": [*faults, *damage], "other_files": []}


def _stat(places: Places, progress: Progress) -> dict[str, Any]:
    firsts = find_firsts(places)
    slots = find_slots(places)
    lsns = wal.find_snapshots(places.snapshots)
    contents = _Contents()
    done = 0

    def on_segment(_: SegmentReport) -> None:
        nonlocal done
        done += 1
        progress(f"segment {done}")

    log = inspect_log(
        str(places.log),
        marks={*lsns, *(slot.position.lsn for slot in slots if slot.position)},
        on_records=contents.on_records,
        on_segment=on_segment,
    )
    snapshots = list(_snapshots(places, log, lsns))
    segments = [_segment(log, each, contents) for each in log.segments]
    readers = [
        {
            "name": slot.path.stem,
            "lsn": slot.position.lsn if slot.position else None,
            **_lag(log, slot.position),
            "fault": slot.fault
            or (slot_fault(log, slot.position, firsts) if slot.position else ""),
        }
        for slot in slots
    ]
    damage = [str(fault) for fault in log.faults]
    damage += [f"{each['file']}: {each['fault']}" for each in snapshots if each["fault"]]
    damage += [f"reader {each['name']}: {each['fault']}" for each in readers if each["fault"]]
    if contents.unreadable:
        damage.append(f"{contents.unreadable} records are no records of Titan")
    records = sum(each.records for each in contents.segments.values())
    payload_bytes = sum(each.payload_bytes for each in contents.segments.values())
    return {
        "directory": str(places.root),
        **_identity(places, log, contents, lsns),
        "durable_lsn": log.durable.lsn if log.durable else None,
        "first_lsn": log.first_lsn,
        "last_lsn": log.next_lsn - 1,
        "segments": segments,
        "total": {
            "records": records,
            "events": sum(each.events for each in contents.segments.values()),
            "frames": sum(each.frames for each in log.segments),
            "used_bytes": sum(each.used_bytes for each in log.segments),
            "file_bytes": sum(each.size_bytes for each in log.segments),
            "record_bytes_average": payload_bytes / records if records else None,
        },
        "events": _kinds(contents),
        "snapshots": snapshots,
        "readers": readers,
        "other_files": list(_other_files(places)),
        "damage": damage,
    }


def _segment(log: LogReport, segment: SegmentReport, contents: _Contents) -> dict[str, Any]:
    tally = contents.segments.get(segment.first_lsn, _Tally())
    fault = segment.gap or segment.fault
    state = "ended" if segment.is_ended else "current"
    if fault is not None:
        state = "damaged"
    return {
        "file": Path(segment.path).name,
        "first_lsn": segment.first_lsn,
        "last_lsn": segment.next_lsn - 1 if segment.records else None,
        "first_time": _seconds(tally.first_us),
        "last_time": _seconds(tally.last_us),
        "records": segment.records,
        "events": tally.events,
        "frames": segment.frames,
        "used_bytes": segment.used_bytes,
        "file_bytes": segment.size_bytes,
        "torn_bytes": segment.torn_bytes,
        "state": state,
        "fault": str(fault) if fault else "",
    }


def _kinds(contents: _Contents) -> list[dict[str, Any]]:
    kinds = sorted(contents.kinds.items(), key=lambda item: -item[1][1])
    return [
        {
            "event": ev.EVENT_OF_CODE[code].__name__
            if code in ev.EVENT_OF_CODE
            else f"code {code}",
            "count": count,
            "bytes": size_bytes,
        }
        for code, (count, size_bytes) in kinds
    ]


def _snapshots(places: Places, log: LogReport, lsns: list[int]) -> Iterator[dict[str, Any]]:
    for lsn in lsns:
        told: dict[str, Any] = {
            "file": wal.snapshot_name(lsn),
            "lsn": lsn,
            "time": None,
            "bytes": None,
            "age_records": max(0, log.next_lsn - 1 - lsn),
            "fault": "",
        }
        try:
            with wal.open_snapshot(places.snapshots, lsn) as snapshot:
                told["bytes"] = snapshot.size_bytes
                blocks = snapshot.blocks()
                told["time"] = _seconds(read_head(next(blocks, b"")).time_us)
                for _ in blocks:
                    pass
                if lsn >= log.first_lsn - 1:
                    told["fault"] = position_fault(log, snapshot.position)
        except FileNotFoundError:
            continue  # Removed since.
        except (SnapshotError, wal.WalError, OSError) as error:
            told["fault"] = str(error).removeprefix(f"{places.snapshots}/{told['file']}: ")
        yield told


def _lag(log: LogReport, position: Position | None) -> dict[str, int | None]:
    """How much there is behind a position: records, and bytes of frames."""
    if position is None:
        return {"lag_records": None, "lag_bytes": None}
    mark = log.marks.get(position.lsn)
    behind = 0
    for segment in log.segments:
        if mark is None or segment.first_lsn > mark.segment:
            behind += segment.used_bytes
        elif segment.first_lsn == mark.segment:
            behind += segment.used_bytes - mark.offset
    if position.lsn >= log.next_lsn:
        behind = 0
    return {"lag_records": max(0, log.next_lsn - 1 - position.lsn), "lag_bytes": behind}


def _identity(
    places: Places, log: LogReport, contents: _Contents, lsns: list[int]
) -> dict[str, Any]:
    """Whose log it is, and who wrote last; from a snapshot if the records do not tell."""
    cluster_id = contents.cluster_id.hex() if contents.cluster_id is not None else None
    epoch, version = contents.epoch, contents.version
    if epoch is None:
        for lsn in reversed(lsns):
            with suppress(SnapshotUnusable):
                state = load_snapshot(places.root, lsn).state
                epoch, version = state.epoch, state.version
                cluster_id = cluster_id or state.cluster_id.hex()
                break
    if cluster_id is None:
        with suppress(OSError, ValueError):
            cluster_id = (paths.read_json(places.root / "titan.json") or {}).get("cluster_id")
    return {
        "cluster_id": cluster_id,
        "log_id": log.log_id.hex(),
        "epoch": epoch,
        "version": version,
    }


def _other_files(places: Places) -> Iterator[dict[str, Any]]:
    """What lies beside the log: the reserve, torn tails, and what repairs put aside."""
    with suppress(OSError):
        for entry in sorted(os.scandir(places.log), key=lambda entry: entry.name):
            if entry.name == "next.tmp" or entry.name.startswith("torn-"):
                yield {"file": entry.name, "bytes": entry.stat().st_size}
    with suppress(OSError):
        for folder in sorted(places.root.glob("repaired-*")):
            size = sum(each.stat().st_size for each in folder.iterdir())
            yield {"file": f"{folder.name}/", "bytes": size}


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else time_us / 1e6
