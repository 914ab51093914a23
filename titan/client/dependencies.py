"""Jobs that a job names when it is submitted: what it waits for, and where it wants to be.

Pure. `42`, `last`, `name:fetch` are jobs that were submitted before; others may be in the same
request, which says their position in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from titan.client.names import parse_job
from titan.errors import InvalidJob, reason_of
from titan.model import INDEX_MAX
from titan.rpc.v1 import manager_pb2

CONDITIONS: Final = {
    "ok": manager_pb2.DEPENDENCY_OK,
    "any": manager_pb2.DEPENDENCY_ANY,
    "failed": manager_pb2.DEPENDENCY_FAILED,
}
SELF: Final = "self"
# What the manager takes of one job.
REFERENCES_MAX: Final = 10_000
_SAME_INDEX: Final = ".%i"
# Of a name `.7` may be a part: only numbers and `last` have tasks behind a point.
_ONE_TASK: Final = r"([0-9]+|last)\.([0-9]{1,10})"
_TASKS: Final = r"([0-9]+)\.[0-9,:-]+"


class HasId(Protocol):
    """A job that was submitted before: a `titan.Job` or `titan.AsyncJob`."""

    @property
    def id(self) -> int:
        """Its number."""


class Unsubmitted(Protocol):
    """A JobSpec that is submitted together with the one that names it."""

    @property
    def after(self) -> Any:
        """What it waits for itself."""


NamedJob = str | int | HasId | Unsubmitted


@dataclass(frozen=True, slots=True)
class After:
    """What a job waits for: that another one ended as the condition says.

    job: one that was submitted before, or the JobSpec of one in the same `submit_many`.
    condition: "ok" (COMPLETED), "any" (it ended) or "failed".
    index: only that task of it.
    same_index: each task waits for the task of the same index there.
    """

    job: NamedJob
    condition: str = "ok"
    index: int | None = None
    same_index: bool = False


Waited = NamedJob | After


def parse_after(text: str) -> After:
    """`JOB[:ok|any|failed]`; what the job is is seen when it is looked for. Raises ValueError."""
    job, condition = _split_condition(text.strip())
    if job.endswith(_SAME_INDEX):
        return After(job.removesuffix(_SAME_INDEX), condition, same_index=True)
    if match := re.fullmatch(_ONE_TASK, job):
        return After(match[1], condition, int(match[2]))
    if match := re.fullmatch(_TASKS, job):
        raise ValueError(
            f"{text!r} names several tasks: wait for one ({match[1]}.7), for all of the job "
            f"({match[1]}), or each task for the one of its own index ({match[1]}.%i)"
        )
    return After(job, condition)


def _split_condition(text: str) -> tuple[str, str]:
    job, colon, condition = text.rpartition(":")
    if not colon or job == "name":
        return text, "ok"
    if condition in CONDITIONS:
        return job, condition
    if text.startswith("name:"):
        return text, "ok"
    raise ValueError(
        f"{text!r}: {condition!r} is no condition: write {job}:ok, {job}:any or {job}:failed"
    )


def as_after(given: Waited) -> After:
    """The same, of anything that an `after` may hold. Raises InvalidJob."""
    if isinstance(given, After):
        return given
    if not isinstance(given, str):
        return After(given)
    try:
        return parse_after(given)
    except ValueError as error:
        raise InvalidJob(reason_of(error)) from error


def names_specs(given: Sequence[Any]) -> bool:
    """Whether any of them is a job of the same request, as an object."""
    return any(_is_spec(each.job if isinstance(each, After) else each) for each in given)


def _is_spec(job: NamedJob) -> bool:
    return not isinstance(job, str | int) and not hasattr(job, "id")


class References:
    """The jobs that those of one request may name, for one of them."""

    def __init__(
        self, user: str = "", positions: Mapping[int, int] | None = None, own: int = 0
    ) -> None:
        """`positions`: by the id() of a JobSpec where it stands in the request.

        A position below 0 is of one that stands there twice.
        """
        self._user = user
        self._positions = positions or {}
        self._own = own

    def dependency(self, given: Waited) -> manager_pb2.Dependency:
        """On the wire. Raises InvalidJob."""
        after = as_after(given)
        if after.condition not in CONDITIONS:
            raise InvalidJob(f"{after.condition!r} is no condition: one of ok, any and failed")
        if after.same_index and after.index is not None:
            raise InvalidJob("after: give an index, or the same index, one of both")
        if after.index is not None and not 0 <= after.index <= INDEX_MAX:
            raise InvalidJob(f"after: {after.index} is no index of a task")
        return manager_pb2.Dependency(
            job=self.find(after.job, "after"),
            condition=CONDITIONS[after.condition],
            index=after.index,
            same_index=after.same_index,
        )

    def affinity(self, given: NamedJob, *, anti: bool) -> manager_pb2.JobAffinity:
        """On the wire; "self" is the job's own position. Raises InvalidJob."""
        if isinstance(given, str) and given.strip() == SELF:
            job = manager_pb2.JobReference(position=self._own)
        else:
            job = self.find(given, "anti_affinity" if anti else "affinity")
        return manager_pb2.JobAffinity(job=job, anti=anti)

    def find(self, job: NamedJob, what: str) -> manager_pb2.JobReference:
        """A whole job. Raises InvalidJob for what is none, or not of the request."""
        if not isinstance(job, str | int):
            if hasattr(job, "id"):
                job = job.id
            else:
                return manager_pb2.JobReference(position=self._position(job, what))
        try:
            selector = parse_job(job, self._user)
        except ValueError as error:
            raise InvalidJob(f"{what}: {reason_of(error)}") from error
        if selector.indexes:
            raise InvalidJob(f"{what}: {job} names tasks, and a whole job is meant here")
        return manager_pb2.JobReference(job=selector)

    def _position(self, job: NamedJob, what: str) -> int:
        position = self._positions.get(id(job))
        if position is None:
            raise InvalidJob(f"{what} names a JobSpec that is not among those submitted with it")
        if position < 0:
            raise InvalidJob(f"{what} names a JobSpec that is submitted twice: which one is meant?")
        return position


def positions_waited_for(job: manager_pb2.JobSpec) -> list[int]:
    """The jobs of its request that it waits for."""
    references = [each.job for each in job.scheduling.after]
    return [each.position for each in references if each.WhichOneof("which") == "position"]


def check_tasks(jobs: Sequence[manager_pb2.JobSpec]) -> None:
    """Of jobs of one request: that the tasks which they wait for are there. Raises InvalidJob.

    Arrays so large that it would take long are left to the manager.
    """
    for job in jobs:
        for each in job.scheduling.after:
            if each.job.WhichOneof("which") != "position":
                continue
            other = jobs[each.job.position]
            missing = None
            if each.same_index:
                if not other.array:
                    raise InvalidJob(
                        f"each task of {job.name} waits for the one of its own index of "
                        f"{other.name}, which is no array"
                    )
                missing = _find_missing(_ranges_of(job), _ranges_of(other))
            elif each.HasField("index") and not _has(_ranges_of(other), each.index):
                missing = each.index
            if missing is not None:
                raise InvalidJob(
                    f"{job.name} waits for task {missing} of {other.name}, which has no such task"
                )


# Membership tests; a second or two of them.
_TESTS_MAX: Final = 10_000_000


def _ranges_of(job: manager_pb2.JobSpec) -> list[range]:
    """A plain job has the one task 0."""
    return [range(part.start, part.stop, part.step) for part in job.array] or [range(1)]


def _has(ranges: Sequence[range], index: int) -> bool:
    return any(index in part for part in ranges)


def _find_missing(own: Sequence[range], other: Sequence[range]) -> int | None:
    if own == other or sum(map(len, own)) * len(other) > _TESTS_MAX:
        return None
    return next((index for part in own for index in part if not _has(other, index)), None)
