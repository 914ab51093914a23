"""When and where a job's tasks may run, as people ask for it, to the message and back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from titan.client.constraints import check_label, format_constraint, parse_constraint
from titan.client.moments import TimeToCome, time_to_come_us
from titan.errors import InvalidJob
from titan.model import ARRAY_TASKS_MAX, RETRIES_MAX
from titan.rpc.v1 import manager_pb2

EXIT_CODE_MAX: Final = 255
_CONDITIONS: Final[Mapping[int, str]] = {
    manager_pb2.DEPENDENCY_CONDITION_UNSPECIFIED: "ok",
    manager_pb2.DEPENDENCY_OK: "ok",
    manager_pb2.DEPENDENCY_ANY: "any",
    manager_pb2.DEPENDENCY_FAILED: "failed",
}


def scheduling_of(
    *,
    constraints: Iterable[str] | str,
    spread: str | None,
    exclusive: bool,
    array_limit: int,
    max_fails: int | None,
    retries: int,
    retry_on: Sequence[int],
    begin: TimeToCome | None,
    deadline: TimeToCome | None,
    preemptible: bool,
    at_most_once: bool,
    hold: bool,
    is_array: bool,
) -> manager_pb2.Scheduling:
    """What was asked for, but for the jobs that are named in it. Raises InvalidJob, ValueError."""
    texts = [constraints] if isinstance(constraints, str) else constraints
    begin_us, deadline_us = _window(begin, deadline)
    if at_most_once and retries:
        raise InvalidJob("what runs at most once is not tried again: give no retries")
    return manager_pb2.Scheduling(
        constraints=[each for text in texts for each in parse_constraint(text)],
        spread=check_label(spread, "spread") if spread is not None else "",
        exclusive=exclusive,
        array_limit=_array_limit(array_limit, is_array=is_array),
        max_fails=_max_fails(max_fails, is_array=is_array),
        retries=_retries(retries),
        retry_on=_retry_on(retry_on, retries),
        begin_us=begin_us,
        deadline_us=deadline_us,
        preemptible=preemptible,
        at_most_once=at_most_once,
        held=hold,
    )


def _window(begin: TimeToCome | None, deadline: TimeToCome | None) -> tuple[int, int]:
    begin_us = 0 if begin is None else time_to_come_us(begin, "begin")
    deadline_us = 0 if deadline is None else time_to_come_us(deadline, "deadline")
    if deadline_us and deadline_us <= time.time() * 1e6:
        raise InvalidJob(f"the deadline, {_local(deadline_us)}, has passed already")
    if begin_us and deadline_us and begin_us >= deadline_us:
        raise InvalidJob(
            f"what begins at {_local(begin_us)} can't end by {_local(deadline_us)}: "
            "the deadline has to come after the begin"
        )
    return begin_us, deadline_us


def _local(time_us: int) -> str:
    try:
        moment = datetime.fromtimestamp(time_us / 1e6).astimezone()
    except (ValueError, OverflowError, OSError):
        # Where it is the year 10000 already.
        return f"{time_us / 1e6:.0f} in Unix seconds"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _array_limit(limit: int, *, is_array: bool) -> int:
    if limit and not is_array:
        raise InvalidJob("a limit of tasks at once needs an array, such as 0-999%50")
    if not 0 <= limit <= ARRAY_TASKS_MAX:
        raise InvalidJob(f"a limit of {limit} tasks at once: give 1 or more, or none at all")
    return limit


def _max_fails(fails: int | None, *, is_array: bool) -> int | None:
    if fails is None:
        return None
    if not is_array:
        raise InvalidJob("max_fails counts an array's tasks that failed: it needs an array")
    if not 0 <= fails <= ARRAY_TASKS_MAX:
        raise InvalidJob(f"max_fails is {fails}: give 0, which allows no failure, or more")
    return fails


def _retries(retries: int) -> int:
    if not 0 <= retries <= RETRIES_MAX:
        raise InvalidJob(f"{retries} retries: give 0 to {RETRIES_MAX}")
    return retries


def _retry_on(codes: Sequence[int], retries: int) -> list[int]:
    wanted = sorted(set(codes))
    for code in wanted:
        if not 0 <= code <= EXIT_CODE_MAX:
            raise InvalidJob(f"retry_on {code}: exit codes are 0 to {EXIT_CODE_MAX}")
    if wanted and not retries:
        raise InvalidJob("retry_on says when to try again: say with retries how often, such as 3")
    return wanted


def scheduling_view(job: manager_pb2.Job) -> dict[str, Any]:
    """The fields of `show`, without retries; None where nothing was asked for."""
    asked = job.scheduling
    return {
        "after": [
            {
                "job_id": each.job.job.job_id,
                "condition": _condition(each),
                "index": each.index if each.HasField("index") else None,
                "same_index": each.same_index,
            }
            for each in asked.after
        ],
        "constraints": [format_constraint(each) for each in asked.constraints],
        "affinity": affinity_texts(job, anti=False),
        "anti_affinity": affinity_texts(job, anti=True),
        "spread": asked.spread or None,
        "exclusive": asked.exclusive,
        "array_limit": asked.array_limit or None,
        "max_fails": asked.max_fails if asked.HasField("max_fails") else None,
        "begin_time": asked.begin_us / 1e6 if asked.begin_us else None,
        "deadline_time": asked.deadline_us / 1e6 if asked.deadline_us else None,
        "preemptible": asked.preemptible,
        "at_most_once": asked.at_most_once,
        "held": asked.held,
        "suspended": job.suspended,
    }


def after_texts(dependencies: Sequence[manager_pb2.Dependency]) -> list[str]:
    """`42`, `42.7:any`, `42.%i`: as one would type them."""
    return [dependency_text(str(each.job.job.job_id), each) for each in dependencies]


def dependency_text(job: str, dependency: manager_pb2.Dependency) -> str:
    """The same for a job that is called so."""
    if dependency.same_index:
        job += ".%i"
    elif dependency.HasField("index"):
        job += f".{dependency.index}"
    condition = _condition(dependency)
    return job if condition == "ok" else f"{job}:{condition}"


def _condition(dependency: manager_pb2.Dependency) -> str:
    return _CONDITIONS.get(dependency.condition, f"UNKNOWN_{dependency.condition}")


def affinity_texts(job: manager_pb2.Job, *, anti: bool) -> list[str]:
    """`42`, `self`: as one would type them."""
    ids = [each.job.job.job_id for each in job.scheduling.affinities if each.anti == anti]
    return ["self" if number == job.job_id else str(number) for number in ids]
