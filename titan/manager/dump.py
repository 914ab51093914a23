"""The log for people: every event as an object of plain values, in order."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import wal
from titan import events as ev
from titan.manager.directory import log_directory
from titan.model import Reason, State
from titan.scheduler.policies import POLICIES

# Fields whose numbers have names.
_NAMED: Final[dict[str, type[IntEnum]]] = {"state": State, "task_state": State, "reason": Reason}
_POLICY_NAMES: Final = {policy.code: policy.name for policy in POLICIES.values()}


def dump_events(directory: Path) -> Iterator[dict[str, object]]:
    """Every durable event: lsn, time in Unix seconds, event, then its fields by name.

    Takes a data directory or its folder `wal`; reads a live one too. Raises
    wal.WalError, OSError, and EventError for a record that this version cannot read.
    """
    for lsn, payload in wal.Reader(log_directory(directory)):
        time_us, events = ev.decode_record(payload)
        for event in events:
            fields = zip(type(event)._fields, event, strict=True)
            yield {
                "lsn": lsn,
                "time": time_us / 1e6,
                "event": type(event).__name__,
                **{name: _plain(name, value) for name, value in fields},
            }


def _plain(name: str, value: Any) -> object:
    if name in _NAMED:
        return _NAMED[name](value).name
    if name == "policy":
        return _POLICY_NAMES.get(value, value)
    if isinstance(value, bytes):
        # Ids and digests are binary, all else that is bytes is meant for people.
        return value.hex() if name in _BINARY else value.decode("utf-8", "replace")
    if isinstance(value, tuple):
        return [_plain("", each) for each in value]
    return value


_BINARY: Final = frozenset(
    {"cluster_id", "worker_id", "instance", "digest", "environment", "request_id", "content"}
)
