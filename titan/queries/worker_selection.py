"""Which worker a user means: by name, or by id where a name is not enough. Pure."""

from __future__ import annotations

import re
from typing import Final

from titan.errors import NotFound, Refused
from titan.model import WorkerState
from titan.state.cluster import ClusterState
from titan.state.worker import Worker

# What a sentence lists of the workers that there are.
NAMED_MAX: Final = 10
_ID: Final = re.compile(r"[0-9a-f]{32}")


def select_worker(state: ClusterState, text: str) -> Worker:
    """The one worker of that name, or of that id in hexadecimal, with dashes or without.

    One that took its leave is known by its id only. Raises NotFound, and Refused where
    several have the name. Costs a look at each worker.
    """
    found = named_workers(state, text)
    if len(found) > 1:
        which = ", ".join(f"{each.worker_id.hex()} ({each.state.name})" for each in found)
        raise Refused(f"{len(found)} workers have the name {text}; give the id of one: {which}")
    if found:
        return found[0]
    worker_id = parse_worker_id(text)
    number = state.worker_numbers.get(worker_id) if worker_id else None
    if number is not None:
        return state.get_worker(number)
    raise NotFound(f"there is no worker {text!r}; {_those_there_are(state)}")


def named_workers(state: ClusterState, name: str) -> list[Worker]:
    """Those of that name that have not taken their leave."""
    return [
        each
        for each in state.workers.values()
        if each.name == name and each.state is not WorkerState.DEREGISTERED
    ]


def parse_worker_id(text: str) -> bytes | None:
    """A worker's id as people write it, None for what is none."""
    plain = text.lower().replace("-", "")
    return bytes.fromhex(plain) if _ID.fullmatch(plain) else None


def _those_there_are(state: ClusterState) -> str:
    names = [
        each.name for each in state.workers.values() if each.state is not WorkerState.DEREGISTERED
    ]
    if not names:
        return "no worker has registered"
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"there are {', '.join(sorted(names)[:NAMED_MAX])}{more}"
