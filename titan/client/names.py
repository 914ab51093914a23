"""How users name jobs: `42`, `42.7`, `42.0-9`, `last`, `name:train`.

Pure: text to the wire's JobSelector and back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from titan.rpc.v1 import manager_pb2, types_pb2

if TYPE_CHECKING:
    from titan.model import IndexRange

_NUMBER = r"([0-9]{1,18})(?:\.([0-9,:-]+))?"


def parse_job(text: str | int, user: str) -> manager_pb2.JobSelector:
    """The selector of a JOB; `last` is the job that this user submitted last.

    Raises ValueError with a sentence.
    """
    given = str(text).strip()
    if given == "last":
        return manager_pb2.JobSelector(last_of_user=user)
    if given.startswith("name:") and len(given) > len("name:"):
        return manager_pb2.JobSelector(name=given.removeprefix("name:"))
    match = re.fullmatch(_NUMBER, given)
    if match is None or int(match[1]) == 0:
        raise ValueError(
            f"{given!r} is no job: write its number (42), a task of an array (42.7, 42.0-9), "
            "last, or name:NAME"
        )
    if not match[2]:
        return manager_pb2.JobSelector(job_id=int(match[1]))
    from titan.client.arrays import parse_array  # noqa: PLC0415 - most name a whole job

    return manager_pb2.JobSelector(job_id=int(match[1]), indexes=to_wire(parse_array(match[2])))


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
    from titan.client.views import array_view  # noqa: PLC0415 - as above

    return f"{selector.job_id}.{array_view(selector.indexes)}"
