"""Which jobs are meant, found without unpacking those that are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.lookback.builders import records
from titan import events as ev
from titan.errors import InvalidJob, NotFound
from titan.model import State
from titan.queries import reads
from titan.queries.selection import JobFilter, JobSelector, filter_jobs, matches, select_job
from titan.rpc.v1 import manager_pb2
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.packed_job import JobHead, unpack_job

USER = "odd one out"


@pytest.fixture
def state() -> ClusterState:
    """Many jobs that ended, packed, and some that did not; two are one user's and have names."""
    made = ClusterState()
    for lsn, payload in enumerate(records(), 1):
        time_us, events = ev.decode_record(payload)
        remembered = [each for each in events if not isinstance(each, ev.JobsForgotten)]
        made.apply_record(lsn, time_us, remembered)
    for number, name in ((1, "first"), (2, "second"), (3, "second")):
        job_id = made.next_job_id
        made.begin_record(made.lsn + 1, made.time_us)
        made.apply(ev.EnvironmentStored(b"e%d" % number, (), ()))
        made.apply(
            ev.JobSubmitted(
                job_id, USER, name, (b"true",), b"/", b"e%d" % number, 1000, 0, (), 0, ()
            )
        )
        made.apply(ev.CancelRequested(job_id, (), 0))
    made.jobs.pack_ended(1_000_000)
    assert made.jobs.ended_count > 50
    assert len(made.live_jobs) > 3
    return made


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was unpacked."""
    seen: list[object] = []

    def unpack(data: bytes, classes: Mapping[int, JobClass]) -> Job:
        seen.append(data)
        return unpack_job(data, classes)

    monkeypatch.setattr("titan.state.job_table.unpack_job", unpack)
    return seen


def filters() -> Iterator[JobFilter]:
    """Of all kinds."""
    for is_all in (False, True):
        for user in ("", USER, "ada", "nobody"):
            for name in ("", "second", "true"):
                for states in (
                    (), (State.FAILED,), (State.CANCELLED, State.PENDING), (State.LOST,),
                    (State.RUNNING, State.RUNNING, State.LOST),
                ):  # fmt: skip
                    yield JobFilter(states=states, user=user, name=name, all=is_all)


def test_a_filter_finds_what_looking_at_every_job_does_and_unpacks_no_other(
    state: ClusterState, unpacked: list[object]
) -> None:
    jobs = list(state.jobs.values())
    low, high = jobs[5].job_id, jobs[-5].job_id
    for wanted in filters():
        expected = [
            job.job_id
            for job in jobs
            if (wanted.all or wanted.wants_ended or not job.has_ended) and matches(job, wanted)
        ]
        unpacked.clear()
        assert [job.job_id for job in filter_jobs(state, wanted)] == expected
        assert len(unpacked) <= len(expected)
        backwards = [job.job_id for job in filter_jobs(state, wanted, newest_first=True)]
        assert backwards == expected[::-1]
        between = [job.job_id for job in filter_jobs(state, wanted, after_id=low, before_id=high)]
        assert between == [each for each in expected if low < each < high]


@pytest.mark.parametrize("is_all", [False, True])
def test_a_filter_by_state_looks_no_further_than_the_last_job_in_it(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch, is_all: bool
) -> None:
    seen: list[int] = []

    def match(job: Job | JobHead, wanted: JobFilter) -> bool:
        seen.append(job.job_id)
        return matches(job, wanted)

    monkeypatch.setattr("titan.queries.selection.matches", match)
    states = {each.job_id: each.state for each in state.jobs.values()}
    for wanted_state in (State.PENDING, State.RUNNING, State.SCHEDULED):
        wanted = JobFilter(states=(wanted_state,), all=is_all)
        seen.clear()
        found = [job.job_id for job in filter_jobs(state, wanted)]
        assert found == [each for each, its_state in states.items() if its_state is wanted_state]
        assert seen[-1:] == found[-1:]


def test_a_list_of_one_users_jobs_unpacks_only_those(
    state: ClusterState, unpacked: list[object]
) -> None:
    request = manager_pb2.ListJobsRequest(filter=manager_pb2.JobFilter(all=True, user=USER))
    assert [job.name for job in reads.list_jobs(state, request).jobs] == [
        *("second", "second", "first")
    ]
    assert len(unpacked) == 3


def test_a_name_is_looked_for_without_unpacking(
    state: ClusterState, unpacked: list[object]
) -> None:
    assert select_job(state, JobSelector(name="first")).user == USER
    assert len(unpacked) == 1
    with pytest.raises(InvalidJob, match="2 jobs have the name 'second'"):
        select_job(state, JobSelector(name="second"))
    with pytest.raises(NotFound, match="no job of the name"):
        select_job(state, JobSelector(name="none"))
    assert len(unpacked) == 1


def test_attempts_end_where_an_answer_is_full(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = max(state.jobs.values(), key=lambda each: each.attempts_total)
    request = manager_pb2.GetJobStatusRequest(
        job=manager_pb2.JobSelector(job_id=job.job_id), attempts_limit=1_000
    )
    whole = reads.get_job_status(state, request)
    assert len(whole.attempts) > 3
    fitting = sum(each.ByteSize() for each in whole.attempts[:3])
    monkeypatch.setattr(reads, "ANSWER_BYTES_MAX", fitting)
    part = reads.get_job_status(state, request)
    assert list(part.attempts) == list(whole.attempts[:3])
    assert part.job.attempts_total == whole.job.attempts_total


def test_only_attempts_that_began_have_output(state: ClusterState) -> None:
    request = manager_pb2.GetJobStatusRequest(attempts_limit=1_000)
    for job in list(state.jobs.values())[::7]:
        request.job.job_id = job.job_id
        seen = reads.get_job_status(state, request).attempts
        for index in {each.index for each in seen}:
            # In the order of their ends: an earlier attempt may have been adopted after a later.
            begun = [(each.attempt, each.end_us) for each in reads.begun_attempts(job, index)]
            assert sorted(begun) == [
                (each.attempt, each.end_us)
                for each in seen
                if each.index == index and each.start_us
            ]
