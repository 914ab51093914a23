"""Why a task waits, or how it came to be where it is, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from titan import units
from titan.cli.table import table_lines
from titan.cli.text import local_time, printable
from titan.client.enums import enum_name
from titan.model import State, task_name
from titan.rpc.v1 import manager_pb2

_WOULD: Final = {
    manager_pb2.VERDICT_NOW: "would start now",
    manager_pb2.VERDICT_LATER: "would wait",
    manager_pb2.VERDICT_NEVER: "could never start",
}
# The largest unit of which it is more than one and a half.
_ABOUT: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def why_lines(
    explanation: manager_pb2.Explanation, job: manager_pb2.Job, now: float
) -> Iterator[str]:
    """Of a task of that job: a sentence, then what it is made of. `now` is what times count to."""
    task = task_name(explanation.job_id, explanation.index, is_array=bool(job.array))
    state = enum_name(State, explanation.state) or "UNKNOWN"
    yield printable(f"{task} ({job.name}) {state}: {explanation.sentence}")
    yield from _detail_lines(explanation, now)


def plan_lines(explanation: manager_pb2.Explanation, name: str, now: float) -> Iterator[str]:
    """The same of a job that was not submitted."""
    would = _WOULD.get(explanation.verdict, "could not be planned")
    yield printable(f"{name} {would}: {explanation.sentence}")
    yield from _detail_lines(explanation, now)


def _detail_lines(explanation: manager_pb2.Explanation, now: float) -> Iterator[str]:
    for each in explanation.waiting_for:
        yield printable(f"  waits for: {each}")
    # What time can change first; it is told apart from what it can't.
    for away in sorted(explanation.turned_away, key=lambda away: away.never):
        never = ": never, even when empty" if away.never else ""
        yield printable(f"  {away.workers} {away.why}{never}")
    prospect = _prospect(explanation, now)
    if prospect:
        yield printable(prospect)
    for name, value in _placement_fields(explanation):
        if value:
            yield f"{name:<12} {printable(value)}"
    if explanation.candidates:
        yield ""
        yield from _candidate_lines(explanation)


def _prospect(explanation: manager_pb2.Explanation, now: float) -> str:
    """How long a task that waits may wait yet."""
    if explanation.verdict == manager_pb2.VERDICT_NEVER:
        count = explanation.workers
        if not count:
            return "never: there is no worker that it could run on"
        if sum(each.workers for each in explanation.turned_away if each.never) < count:
            # It is not for the workers: the sentence has said for what.
            return ""
        which = "the worker" if count == 1 else f"any of the {count} workers"
        return f"never: not on {which}, even when empty"
    ahead = explanation.tasks_ahead
    parts = [f"{ahead} task{'s' if ahead != 1 else ''} ahead"] if ahead else []
    if explanation.verdict == manager_pb2.VERDICT_LATER:
        where = f" on {explanation.worker}" if explanation.worker else ""
        if explanation.ends_job_id:
            where = f" when {explanation.ends_job_id} ends{where}"
        if explanation.start_us:
            parts.append(f"could start {about_text(explanation.start_us / 1e6 - now)}{where}")
        elif not explanation.waiting_for:
            parts.append("when it could start is not known: no time limits tell")
    return "; ".join(parts)


def about_text(seconds: float) -> str:
    """`in about 4 min`; `any moment` of what is over."""
    if seconds <= 0:
        return "any moment"
    for unit, size in _ABOUT:
        if seconds >= 1.5 * size:
            return f"in about {round(seconds / size)} {unit}"
    return f"in about {max(1, round(seconds))} s"


def _placement_fields(explanation: manager_pb2.Explanation) -> list[tuple[str, str]]:
    """Where a task was placed, or would be, and by what; nothing of one that waits."""
    if not explanation.policy:
        return []
    version = f", version {explanation.policy_version}" if explanation.policy_version else ""
    lsn = f" (LSN {explanation.assigned_lsn})" if explanation.assigned_lsn else ""
    when = local_time(explanation.assigned_us / 1e6) if explanation.assigned_us else ""
    return [
        ("worker", explanation.worker),
        ("placed", f"{when}{lsn}".strip()),
        ("attempt", str(explanation.attempt) if explanation.attempt else ""),
        ("policy", f"{explanation.policy}{version}"),
        ("rule", explanation.rule),
    ]


def _candidate_lines(explanation: manager_pb2.Explanation) -> list[str]:
    """The workers that were in question, and what they had free; the chosen one has a star."""
    return table_lines(
        ("", "WORKER", "FREE CPUS", "FREE MEMORY", "FREE RESOURCES", "HAD ROOM"),
        [
            (
                "*" if each.chosen else "",
                each.worker,
                units.format_cpus(each.free.cpus_milli),
                units.format_size(each.free.memory_bytes),
                " ".join(f"{name}={count}" for name, count in sorted(each.free.named.items()))
                or "-",
                "yes" if each.had_room else "no",
            )
            for each in explanation.candidates
        ],
        right=("FREE CPUS", "FREE MEMORY"),
    )
