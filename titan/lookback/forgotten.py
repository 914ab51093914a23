"""Jobs that ended and left the manager's memory: the log still has them."""

from __future__ import annotations

from pathlib import Path

import msgpack

import wal
from titan import events as ev
from titan.errors import OutOfRange
from titan.lookback.past import READ_RECORDS, Past
from titan.state.cluster import ClusterState

_CODE = bytes([ev.CODE_OF_EVENT[ev.JobsForgotten]])


def state_with_job(past: Past, job_id: int) -> ClusterState:
    """A state in which the job has ended and is still remembered.

    Raises OutOfRange when the log does not reach back so far, PastUnreadable.
    """
    kept = past.find_kept_with_end_of(job_id)
    if kept is not None:
        return kept
    lsn = past.read(lambda: find_forgetting(past.log_directory, past.list_segments(), job_id))
    if lsn is None:
        raise OutOfRange(
            f"job {job_id} ended and was forgotten, and what the log told of it is gone"
        )
    return past.state_with_end_of(job_id, lsn)


def find_forgetting(directory: Path, firsts: list[int], job_id: int) -> int | None:
    """The LSN of the record by which the job was forgotten; None when it is not in the log.

    Looks from the newest segment backwards, since what is asked about was mostly forgotten
    lately. Raises wal.WalError, EventError.
    """
    number: bytes = msgpack.packb(job_id)
    end_lsn = 0
    for first in reversed(firsts):
        with wal.Reader(directory, from_lsn=first) as reader:
            while records := reader.read(READ_RECORDS):
                for lsn, payload in records:
                    if end_lsn and lsn >= end_lsn:
                        break
                    if _CODE in payload and number in payload and _forgets(payload, job_id):
                        return lsn
                if end_lsn and records[-1].lsn >= end_lsn - 1:
                    break
        end_lsn = first
    return None


def _forgets(payload: bytes, job_id: int) -> bool:
    _, events = ev.decode_record(payload)
    return any(type(each) is ev.JobsForgotten and job_id in each.job_ids for each in events)
