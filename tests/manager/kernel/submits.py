"""Submits in short words, and the jobs in them."""

from __future__ import annotations

from typing import Any

from tests.manager.builders import new_job, submit, with_terms
from titan.manager.kernel.commands import NewJob, NewTerms, SubmitJobs, Variables
from titan.model import Execution, Resources, ScriptSource

JOB = new_job()


def demanding(**fields: Any) -> NewJob:
    asked = Resources(**({"cpus_milli": 1} | fields))
    terms = NewTerms(cwd=b"/", environment=0, resources=asked, priority=0, array=())
    return NewJob("n", (b"c",), terms)


def limited(**fields: Any) -> NewJob:
    """A job of at most nine seconds that is warned a second before."""
    good = new_job(time_limit_ms=9_000, end_signal=10, end_signal_before_ms=1_000)
    return with_terms(good, **fields)


def limits_of(*ulimits: tuple[str, int, int]) -> NewJob:
    return new_job(execution=Execution(ulimits=ulimits))


def with_environment(exported: Variables = (), variables: Variables = ()) -> SubmitJobs:
    return submit(JOB, environments=((b"d" * 16, exported, variables),))


def with_script(text: bytes, *interpreter: bytes) -> SubmitJobs:
    execution = Execution(script_source=ScriptSource.SENT, interpreter=interpreter)
    job = new_job(command=(b"job.sh", b"1"), execution=execution)
    return submit(job, environments=((b"d" * 16, (), (), text),))


def on_worker(
    path: bytes, source: ScriptSource = ScriptSource.ON_WORKER, *interpreter: bytes
) -> SubmitJobs:
    execution = Execution(script_source=source, interpreter=interpreter)
    return submit(new_job(command=(path,), execution=execution))


def reading(stdin: bytes) -> SubmitJobs:
    return submit(new_job(execution=Execution(stdin=stdin)))
