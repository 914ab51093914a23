"""Submits from the wire: what jobs of one request share is read once, and nothing gets mixed up."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pytest

from titan.errors import InvalidJob
from titan.manager import caller
from titan.manager.caller import Caller
from titan.manager.kernel.commands import NewDependency, NewJob, NewReference, NewTerms
from titan.manager.translate import submit_command
from titan.manager.translate_workers import register_command
from titan.model import PLAIN, Execution, IndexRange, Resources, Sandbox
from titan.rpc.v1 import manager_pb2, types_pb2, worker_pb2
from titan.scheduling import PLAIN_SCHEDULING, WHOLE_JOB, DependencyCondition, Scheduling
from titan.tls.identity import Identity, Role

NAMED = {"a": 1, "b": 2, "c": 3}


def spec(number: int, **fields: object) -> manager_pb2.JobSpec:
    made = manager_pb2.JobSpec(
        name=f"job-{number}",
        command=[b"run", b"%d" % number],
        cwd=b"/",
        resources=types_pb2.Resources(cpus_milli=1000, named=NAMED),
    )
    made.MergeFrom(manager_pb2.JobSpec(**fields))  # type: ignore[arg-type]
    return made


def request_of(*jobs: manager_pb2.JobSpec) -> manager_pb2.SubmitJobRequest:
    return manager_pb2.SubmitJobRequest(
        request_id=b"r" * 16, user="ada", environments=[types_pb2.Environment()], jobs=jobs
    )


def content_of(jobs: Iterable[NewJob]) -> list[tuple[Any, ...]]:
    """What they say: terms are equal to nothing but themselves."""
    return [(name, command, asdict(terms)) for name, command, terms in jobs]


# Each differs from all others in what it asks for.
SPECS = [
    spec(0),
    spec(1, cwd=b"/srv"),
    spec(2, environment=1),
    spec(3, resources=types_pb2.Resources(memory_bytes=1 << 30)),
    spec(4, resources=types_pb2.Resources(named={"gpu": 1})),
    spec(5, priority=-1),
    spec(6, array=[types_pb2.IndexRange(start=0, stop=9, step=1)]),
    spec(7, time_limit_ms=1_000),
    spec(8, time_limit_ms=1_000, grace_ms=5),
    spec(9, time_limit_ms=1_000, end_signal=10, end_signal_before_ms=7),
    spec(10, execution=types_pb2.Execution(stdin=b"in/%i")),
    spec(11, on="w1"),
    spec(12, scheduling=manager_pb2.Scheduling(exclusive=True)),
    spec(
        13,
        scheduling=manager_pb2.Scheduling(
            after=[manager_pb2.Dependency(job=manager_pb2.JobReference(position=0))]
        ),
    ),
    spec(14, execution=types_pb2.Execution(run_as="batch")),
    spec(15, execution=types_pb2.Execution(sandbox=types_pb2.SANDBOX_BUBBLEWRAP)),
]


def test_each_job_is_read_as_if_it_came_alone_and_equal_terms_are_one_object() -> None:
    mixed = [*SPECS, *reversed(SPECS)]
    jobs = submit_command(request_of(*mixed)).jobs
    alone = [submit_command(request_of(each)).jobs[0] for each in mixed]
    assert content_of(jobs) == content_of(alone)
    assert len({id(job.terms) for job in jobs}) == len(SPECS)
    for job, again in zip(jobs, reversed(jobs), strict=True):
        assert job.terms is again.terms


def test_what_is_asked_for_becomes_terms() -> None:
    by_place = [job.terms for job in submit_command(request_of(*SPECS)).jobs]
    resources = Resources(1000, 0, (("a", 1), ("b", 2), ("c", 3)))
    plain = NewTerms(cwd=b"/", environment=0, resources=resources, priority=0, array=())
    assert asdict(by_place[0]) == asdict(plain)
    assert by_place[0].execution is PLAIN
    assert by_place[0].scheduling is PLAIN_SCHEDULING
    assert by_place[6].array == (IndexRange(0, 9, 1),)
    assert (by_place[9].end_signal, by_place[9].end_signal_before_ms) == (10, 7)
    assert by_place[10].execution == Execution(stdin=b"in/%i")
    assert by_place[12].scheduling == Scheduling(exclusive=True)
    assert by_place[14].execution == Execution(run_as="batch")
    assert by_place[15].execution == Execution(sandbox=Sandbox.BUBBLEWRAP)
    first = NewReference(None, 0)
    assert by_place[13].after == (NewDependency(first, DependencyCondition.OK, WHOLE_JOB),)


def test_the_request_stays_as_it_was() -> None:
    request = request_of(spec(1), spec(2))
    before = request.SerializeToString(deterministic=True)
    command = submit_command(request)
    assert request.SerializeToString(deterministic=True) == before
    assert command.size_bytes == len(before)
    assert command.jobs[1] == NewJob("job-2", (b"run", b"2"), command.jobs[0].terms)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_content_is_that_of_the_whole_request(jobs: int) -> None:
    request = request_of(*map(spec, range(jobs)))
    content = submit_command(request).content
    assert submit_command(request).content == content
    request.jobs[-1].name += "x"
    assert submit_command(request).content != content
    request.request_id = b""
    assert submit_command(request).content == b""


def test_what_cannot_be_read_is_refused_in_any_job() -> None:
    wrong = spec(1, resources=types_pb2.Resources(named={"gpu": 0}))
    with pytest.raises(InvalidJob, match="count of 0"):
        submit_command(request_of(spec(0), wrong))


def test_who_submits_is_proven_by_the_call_alone() -> None:
    request = request_of(spec(0))
    assert submit_command(request).proven_user == ""

    def called_by(role: Role) -> str:
        caller.enter(Caller(Identity("c", role, "alice")))
        return submit_command(request).proven_user

    for role, proven in (
        (Role.USER, "alice"),
        (Role.ADMIN, "alice"),
        (Role.WORKER, ""),
        (Role.MANAGER, ""),
    ):
        assert contextvars.copy_context().run(called_by, role) == proven
    assert submit_command(request).proven_user == ""


def test_a_worker_of_a_newer_version_may_have_sandboxes_that_are_not_known() -> None:
    request = worker_pb2.RegisterWorkerRequest(
        run_as=[worker_pb2.RunAsGrant(user="*", account="self")],
        sandboxes=[0, 1, 77],  # type: ignore[list-item]
    )
    command = register_command(request, new_worker_id=b"", session=b"")
    assert command.run_as == (("*", "self"),)
    assert command.sandboxes == (Sandbox.BUBBLEWRAP,)


def test_jobs_belong_to_the_trace_of_their_request_which_is_no_part_of_what_is_asked() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for count in (1, 2):
        plain = submit_command(request_of(*SPECS[:count]))
        request = request_of(*SPECS[:count])
        request.trace_parent, request.trace_state = parent, "a=b"
        traced = submit_command(request)
        executions = [job.terms.execution for job in traced.jobs]
        assert executions == [Execution(trace_parent=parent, trace_state="a=b")] * count
        assert traced.content == plain.content
