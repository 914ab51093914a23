"""When and where a job's tasks may run, in words. Empty: nothing was asked for. Pure."""

from __future__ import annotations

from titan.client.constraints import format_constraint
from titan.client.scheduling import affinity_texts, after_texts
from titan.client.views import array_view
from titan.rpc.v1 import manager_pb2


def after_text(job: manager_pb2.Job) -> str:
    """`42, 43.7:any`."""
    return ", ".join(after_texts(job.scheduling.after))


def placement_text(job: manager_pb2.Job) -> str:
    """`zone==a, near job 42, its tasks on different workers, spread over rack, alone there`."""
    asked = job.scheduling
    words = [format_constraint(each) for each in asked.constraints]
    words += [
        "all tasks on one worker" if other == "self" else f"near job {other}"
        for other in affinity_texts(job, anti=False)
    ]
    words += [
        "each task on another worker" if other == "self" else f"not near job {other}"
        for other in affinity_texts(job, anti=True)
    ]
    if asked.spread:
        words.append(f"spread over {asked.spread}")
    if asked.exclusive:
        words.append("nothing else on its worker")
    return ", ".join(words)


def priority_text(job: manager_pb2.Job) -> str:
    """`5, preemptible`."""
    return f"{job.priority}{', preemptible' if job.scheduling.preemptible else ''}"


def retries_text(job: manager_pb2.Job) -> str:
    """`3, only after exit code 1 or 75`; `none: each task runs at most once`."""
    asked = job.scheduling
    if asked.at_most_once:
        return "none: each task runs at most once"
    if not asked.retries:
        return ""
    *others, last = map(str, asked.retry_on) if asked.retry_on else [""]
    codes = f"{', '.join(others)} or {last}" if others else last
    return f"{asked.retries}{f', only after exit code {codes}' if codes else ''}"


def array_text(job: manager_pb2.Job) -> str:
    """`0-999, at most 50 at once, the rest is cancelled after more than 3 failures`."""
    words = [array_view(job.array) or ""]
    asked = job.scheduling
    if asked.array_limit:
        words.append(f"at most {asked.array_limit} at once")
    if asked.HasField("max_fails"):
        what = f"more than {asked.max_fails} failures" if asked.max_fails else "the first failure"
        words.append(f"the rest is cancelled after {what}")
    return ", ".join(words)
