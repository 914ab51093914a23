"""Jobs that a job names."""

from typing import Any

import pytest

from titan.client.dependencies import After, References, parse_after
from titan.client.jobspec import JobSpec, to_message
from titan.client.sync import Client
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", After("42")),
        (" 42 ", After("42")),
        ("42:ok", After("42")),
        ("42:any", After("42", "any")),
        ("42.7", After("42", index=7)),
        ("42.7:failed", After("42", "failed", 7)),
        ("42.%i", After("42", same_index=True)),
        ("42.%i:any", After("42", "any", same_index=True)),
        ("last", After("last")),
        ("last.3:any", After("last", "any", 3)),
        ("last.%i", After("last", same_index=True)),
        ("name:x", After("name:x")),
        ("name:ok", After("name:ok")),
        ("name:x:any", After("name:x", "any")),
        ("name:a:b", After("name:a:b")),
        # A name may have a point in it.
        ("name:run.7", After("name:run.7")),
        ("name:x.%i:failed", After("name:x", "failed", same_index=True)),
    ],
)
def test_a_dependency_is_a_job_perhaps_a_task_and_a_condition(text: str, expected: After) -> None:
    assert parse_after(text) == expected


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("42:afterok", "'afterok' is no condition: write 42:ok, 42:any or 42:failed"),
        ("42:", "is no condition"),
        ("42.0-9", "names several tasks: wait for one"),
        ("x", "after: 'x' is no job"),
        ("0", "'0' is no job"),
        ("42,43", "is no job"),
        (After("42", "done"), "'done' is no condition: one of ok, any and failed"),
        (After("42", index=-1), "-1 is no index of a task"),
        (After("42", index=2**70), "is no index of a task"),
        ("42.9999999999", "9999999999 is no index of a task"),
        (After("42", index=1, same_index=True), "one of both"),
        (After("42.1-2"), "a whole job is meant"),
        ("42.%i", "this job is no array"),
        (JobSpec(command=["x"]), "not among those submitted with it"),
    ],
)
def test_what_is_no_dependency_is_told_why(after: Any, why: str) -> None:
    with pytest.raises(InvalidJob, match=why):
        to_message(JobSpec(command=["x"], after=[after]), References("alice"))


def test_every_way_to_name_a_job_reaches_the_wire() -> None:
    client = Client("127.0.0.1:1")
    spec = JobSpec(
        command=["x"],
        array="0-9",
        after=["42", 43, client.job(44), "45.7:any", "46.%i:failed", "last", "name:f", After(47)],
    )
    client.close()
    found = to_message(spec, References("alice")).scheduling.after
    jobs = [each.job.job for each in found]
    assert [job.job_id for job in jobs] == [42, 43, 44, 45, 46, 0, 0, 47]
    assert (jobs[5].last_of_user, jobs[6].name) == ("alice", "f")
    assert all(not job.indexes for job in jobs)
    assert [each.condition for each in found] == [
        *[manager_pb2.DEPENDENCY_OK] * 3,
        *(manager_pb2.DEPENDENCY_ANY, manager_pb2.DEPENDENCY_FAILED),
        *[manager_pb2.DEPENDENCY_OK] * 3,
    ]
    assert [each.index if each.HasField("index") else None for each in found] == [
        *(None, None, None, 7, None, None, None, None)
    ]
    assert [each.same_index for each in found] == [False] * 4 + [True] + [False] * 3


def test_a_single_one_needs_no_list() -> None:
    message = to_message(
        JobSpec(command=["x"], after="42:any", affinity=7, anti_affinity="self"), References("a")
    )
    (after,) = message.scheduling.after
    assert after.job.job.job_id == 42
    near, apart = message.scheduling.affinities
    assert (near.job.job.job_id, near.anti) == (7, False)
    assert (apart.job.WhichOneof("which"), apart.job.position, apart.anti) == ("position", 0, True)


def test_a_job_names_no_more_others_than_the_manager_takes() -> None:
    for after, near in ((range(1, 10_002), ()), (range(1, 10_001), ("self",))):
        spec = JobSpec(command=["x"], after=list(after), affinity=near)
        with pytest.raises(InvalidJob, match="it names 10,001 jobs, and 10,000 are the most"):
            to_message(spec, References("alice"))
    spec = JobSpec(command=["x"], after=list(range(1, 10_001)))
    assert len(to_message(spec, References("alice")).scheduling.after) == 10_000


def test_affinity_is_to_whole_jobs() -> None:
    with pytest.raises(InvalidJob, match=r"^affinity: 42.7 names tasks"):
        to_message(JobSpec(command=["x"], affinity="42.7"), References("alice"))
    with pytest.raises(InvalidJob, match=r"^anti_affinity: 42.7 names tasks"):
        to_message(JobSpec(command=["x"], anti_affinity="42.7"), References("alice"))
