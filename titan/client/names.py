"""How users name jobs: `42`, `42.7`, `42.0-9`, `last`, `name:train`.

Pure: text to the wire's JobSelector and back.
"""

from __future__ import annotations

import re

from titan.client.arrays import parse_array
from titan.client.views import array_view
from titan.model import IndexRange
from titan.rpc.v1 import manager_pb2, types_pb2

_NUMBER = re.compile(r"([0-9]{1,18})(?:\.([0-9,:-]+))?")


def parse_job(text: str | int, user: str) -> manager_pb2.JobSelector:
    """The selector of a JOB; `last` is the job that this user submitted last.

    Raises ValueError with a sentence.
    """
    given = str(text).strip()
    if given == "last":
        return manager_pb2.JobSelector(last_of_user=user)
    if given.startswith("name:") and len(given) > len("name:"):
        return manager_pb2.JobSelector(name=given.removeprefix("name:"))
    match = _NUMBER.fullmatch(given)
    if match is None or int(match[1]) == 0:
        raise ValueError(
            f"{given!r} is no job: write its number (42), a task of an array (42.7, 42.0-9), "
            "last, or name:NAME"
        )
    indexes = parse_array(match[2]) if match[2] else ()
    return manager_pb2.JobSelector(job_id=int(match[1]), indexes=to_wire(indexes))


def to_wire(ranges: tuple[IndexRange, ...]) -> list[types_pb2.IndexRange]:
    """Index ranges as messages."""
    return [types_pb2.IndexRange(start=r.start, stop=r.stop, step=r.step) for r in ranges]


def format_selector(selector: manager_pb2.JobSelector) -> str:
    """How a user would have written it."""
    which = selector.WhichOneof("which")
    if which == "last_of_user":
        return "last"
    if which == "name":
        return f"name:{selector.name}"
    if not selector.indexes:
        return str(selector.job_id)
    return f"{selector.job_id}.{array_view(selector.indexes)}"
