"""Events as objects of plain values, for JSON and for people."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, cast

from titan.events import Event
from titan.model import PLAIN, Execution, Reason, ScriptSource, State
from titan.scheduling import (
    ORDERS,
    PLACEMENTS,
    PLAIN_SCHEDULING,
    PREEMPTIONS,
    DependencyCondition,
    Scheduling,
)

# Fields whose numbers have names.
_NAMED: Final[dict[str, type[IntEnum]]] = {
    "state": State,
    "task_state": State,
    "reason": Reason,
    "script_source": ScriptSource,
    "condition": DependencyCondition,
}
# The same of those that are counted from 1.
_NAMES: Final = {
    "policy": PLACEMENTS,
    "placement": PLACEMENTS,
    "order": ORDERS,
    "preempt": PREEMPTIONS,
}
# Ids and digests are binary, all else that is bytes is meant for people.
_BINARY: Final = frozenset(
    {
        *("cluster_id", "worker_id", "instance", "digest", "environment", "request_id", "content"),
        "secret_id",
    }
)


def plain_event(event: Event) -> dict[str, object]:
    """The fields of an event by name: states and reasons as words, ids in hexadecimal."""
    fields = zip(type(event)._fields, event, strict=True)
    return {name: _plain(name, value) for name, value in fields}


def _plain(name: str, value: Any) -> object:
    # A reason may be a sentence, too.
    if name in _NAMED and isinstance(value, int):
        return _NAMED[name](value).name
    if name in _NAMES and isinstance(value, int):
        names = _NAMES[name]
        return names[value - 1] if 1 <= value <= len(names) else value
    if isinstance(value, bytes):
        return value.hex() if name in _BINARY else value.decode("utf-8", "replace")
    if isinstance(value, Execution):
        # Only what was asked for.
        asked = zip(value._fields, value, PLAIN, strict=True)
        return {each: _plain(each, given) for each, given, default in asked if given != default}
    if isinstance(value, Scheduling):
        asked = zip(value._fields, value, PLAIN_SCHEDULING, strict=True)
        return {
            each: list(map(_named, cast("tuple[Any, ...]", given)))
            if each in ("after", "constraints", "affinities")
            else _plain(each, given)
            for each, given, default in asked
            if given != default
        }
    if isinstance(value, tuple):
        return [_plain("", each) for each in value]
    return value


def _named(item: Any) -> dict[str, object]:
    """A named tuple as an object."""
    return {name: _plain(name, value) for name, value in zip(item._fields, item, strict=True)}
