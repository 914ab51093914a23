"""Events as objects of plain values, for JSON and for people."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from titan.events import Event
from titan.model import PLAIN, Execution, Reason, ScriptSource, State
from titan.scheduler.policies import POLICIES

# Fields whose numbers have names.
_NAMED: Final[dict[str, type[IntEnum]]] = {
    "state": State,
    "task_state": State,
    "reason": Reason,
    "script_source": ScriptSource,
}
_POLICY_NAMES: Final = {policy.code: policy.name for policy in POLICIES.values()}
# Ids and digests are binary, all else that is bytes is meant for people.
_BINARY: Final = frozenset(
    {"cluster_id", "worker_id", "instance", "digest", "environment", "request_id", "content"}
)


def plain_event(event: Event) -> dict[str, object]:
    """The fields of an event by name: states and reasons as words, ids in hexadecimal."""
    fields = zip(type(event)._fields, event, strict=True)
    return {name: _plain(name, value) for name, value in fields}


def _plain(name: str, value: Any) -> object:
    # A reason may be a sentence, too.
    if name in _NAMED and isinstance(value, int):
        return _NAMED[name](value).name
    if name == "policy":
        return _POLICY_NAMES.get(value, value)
    if isinstance(value, bytes):
        return value.hex() if name in _BINARY else value.decode("utf-8", "replace")
    if isinstance(value, Execution):
        # Only what was asked for.
        asked = zip(value._fields, value, PLAIN, strict=True)
        return {each: _plain(each, given) for each, given, default in asked if given != default}
    if isinstance(value, tuple):
        return [_plain("", each) for each in value]
    return value
