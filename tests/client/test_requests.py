"""Requests: their ids, and how a flood of jobs is cut."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.client import requests, submission
from titan.client.dependencies import After, positions_waited_for
from titan.client.jobspec import JobSpec
from titan.errors import InvalidJob
from titan.model import State
from titan.rpc.v1 import manager_pb2, types_pb2


def cut(specs: Iterable[JobSpec], environ: dict[bytes, bytes] | None = None) -> list[Any]:
    return list(
        submission.submit_requests(specs, user="alice", request_id=bytes(16), environ=environ or {})
    )


def test_thirty_two_hex_digits_are_the_request_id_itself() -> None:
    assert submission.parse_request_id("00ff" * 8) == bytes.fromhex("00ff" * 8)


@given(st.text(min_size=1, max_size=64))
def test_any_short_text_is_a_request_id_and_always_the_same(text: str) -> None:
    once = submission.parse_request_id(text)
    assert len(once) == 16
    assert submission.parse_request_id(text) == once


def test_text_that_is_not_utf8_is_a_request_id_too() -> None:
    assert len(submission.parse_request_id("a\udcff")) == 16


@pytest.mark.parametrize("text", ["", "x" * 65, b"short", b"x" * 17])
def test_what_is_no_request_id_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidJob, match="request id"):
        submission.parse_request_id(text)


def test_a_flood_is_cut_into_requests_that_the_manager_takes() -> None:
    spec = JobSpec(command=["true"], cwd="/")
    chunks = cut([spec] * 20_001)
    assert [len(chunk.jobs) for chunk in chunks] == [10_000, 10_000, 1]
    assert len({chunk.request_id for chunk in chunks}) == 3
    assert chunks[0].request_id == bytes(16)
    # Again the same: a repeat of the whole is a repeat of each.
    assert [chunk.request_id for chunk in cut([spec] * 20_001)] == [c.request_id for c in chunks]


def test_large_jobs_are_cut_by_size() -> None:
    spec = JobSpec(command=["x" * 1_000_000], cwd="/", name="big")
    chunks = cut([spec] * 20)
    assert sum(len(chunk.jobs) for chunk in chunks) == 20
    assert len(chunks) > 1
    assert all(chunk.ByteSize() <= submission.REQUEST_BYTES_MAX for chunk in chunks)


def test_a_job_too_large_for_any_request_is_refused() -> None:
    with pytest.raises(InvalidJob, match="12M is the most"):
        cut([JobSpec(command=["x" * 17_000_000], cwd="/", name="big")])


def test_equal_environments_are_sent_once() -> None:
    specs = [
        JobSpec(command=["a"], env={"A": "1"}),
        JobSpec(command=["b"], env={"A": "2"}),
        JobSpec(command=["c"], env={"A": "1"}),
    ]
    (chunk,) = cut(specs, {b"PATH": b"/bin"})
    assert len(chunk.environments) == 2
    assert [job.environment for job in chunk.jobs] == [0, 1, 0]


def test_equal_scripts_are_sent_once_and_each_file_is_read_once_for_its_job(
    tmp_path: Path,
) -> None:
    path = tmp_path / "job.sh"
    path.write_text("one")

    def specs() -> Iterator[JobSpec]:
        yield JobSpec(script=path)
        yield JobSpec(script=path, command=["x"])
        path.write_text("two")
        yield JobSpec(script=path)

    (chunk,) = cut(specs())
    assert [each.script for each in chunk.environments] == [b"one", b"two"]
    assert [job.environment for job in chunk.jobs] == [0, 0, 1]


def waits_for(chunk: manager_pb2.SubmitJobRequest) -> list[list[int]]:
    return [positions_waited_for(job) for job in chunk.jobs]


def test_jobs_that_name_each_other_are_told_by_their_positions() -> None:
    fetch = JobSpec(command=["fetch"])
    train = JobSpec(command=["train"], after=[fetch, "name:old:any"], affinity=[fetch, "self"])
    report = JobSpec(command=["report"], after=[After(train, "any"), After(fetch, index=0)])
    (chunk,) = cut([report, fetch, train])
    assert waits_for(chunk) == [[2, 1], [], [1]]
    first, _, third = (job.scheduling for job in chunk.jobs)
    assert [each.condition for each in first.after] == [
        manager_pb2.DEPENDENCY_ANY,
        manager_pb2.DEPENDENCY_OK,
    ]
    assert first.after[1].index == 0
    assert third.after[1].job.job.name == "old"
    assert [each.job.position for each in third.affinities] == [1, 2]


def test_a_job_that_wants_its_own_tasks_together_says_its_own_position() -> None:
    spec = JobSpec(command=["x"], array="0-9", affinity="self")
    (chunk,) = cut([JobSpec(command=["y"]), spec, spec])
    positions = [[each.job.position for each in job.scheduling.affinities] for job in chunk.jobs]
    assert positions == [[], [1], [2]]


def test_jobs_that_name_each_other_go_in_one_request_even_where_others_would_be_cut() -> None:
    big = JobSpec(command=["x" * 1_000_000], cwd="/", name="big")
    specs = [JobSpec(command=["x" * 1_000_000], cwd="/", name="big") for _ in range(10)]
    assert len(cut([big, *specs])) == 2
    jobs = [big, *specs, JobSpec(command=["x"], after=big)]
    assert [len(chunk.jobs) for chunk in cut(jobs)] == [12]
    assert [len(chunk.jobs) for chunk in cut(iter(jobs[::-1]))] == [12]


def test_more_jobs_that_name_each_other_than_a_request_holds_are_refused_before_any_is_sent() -> (
    None
):
    first = JobSpec(command=["true"], cwd="/")
    last = JobSpec(command=["true"], cwd="/", after=first)
    many = [first, *[JobSpec(command=["true"], cwd="/")] * 9_998, last]
    assert [len(chunk.jobs) for chunk in cut(many)] == [10_000]
    requests_made = submission.submit_requests(
        [*many, last], user="alice", request_id=bytes(16), environ={}
    )
    with pytest.raises(InvalidJob, match="at most 10,000 in one request"):
        next(requests_made)


def test_a_name_that_comes_after_something_was_sent_is_refused() -> None:
    first = JobSpec(command=["true"], cwd="/")
    others = [JobSpec(command=["true"], cwd="/")] * 10_000
    made = submission.submit_requests(
        iter([first, *others, JobSpec(command=["x"], after=first)]),
        user="alice",
        request_id=bytes(16),
        environ={},
    )
    assert len(next(made).jobs) == 10_000
    with pytest.raises(InvalidJob, match="accepted together"):
        next(made)


def test_jobs_that_take_more_room_than_a_request_has_are_refused() -> None:
    specs = [JobSpec(command=["x" * 1_000_000], cwd="/", name="big") for _ in range(13)]
    with pytest.raises(InvalidJob, match="12M is the most"):
        cut([*specs, JobSpec(command=["x"], after=specs[0])])


def test_jobs_in_a_circle_are_refused_by_name() -> None:
    specs = [JobSpec(command=["a"]), JobSpec(command=["b"])]
    # Only somebody who tries can make one: a JobSpec names those that were there before it.
    waits: list[Any] = []
    one = JobSpec(command=["a"], after=waits)
    waits.append(JobSpec(command=["b"], after=one))
    with pytest.raises(InvalidJob, match=r"could never start: (a|b) waits for (a|b) waits"):
        cut([one, waits[0], *specs])


@pytest.mark.parametrize(
    ("array", "after", "why"),
    [
        (None, {"index": 1}, "b waits for task 1 of a, which has no such task"),
        ("0-9:2", {"index": 3}, "b waits for task 3 of a"),
        (None, {"same_index": True}, "which is no array"),
        ("0-4,6-9", {"same_index": True}, "b waits for task 5 of a"),
        ("0-9", {"same_index": True}, ""),
        ("0-99", {"same_index": True}, ""),
        ("0-99:9", {"index": 99}, ""),
        (None, {"index": 0}, ""),
    ],
)
def test_a_task_that_is_waited_for_has_to_be_there(
    array: str | None, after: dict[str, Any], why: str
) -> None:
    first = JobSpec(command=["a"], array=array)
    specs = [first, JobSpec(command=["b"], array="0-9", after=After(first, **after))]
    if not why:
        assert waits_for(cut(specs)[0]) == [[], [0]]
        return
    with pytest.raises(InvalidJob, match=why):
        cut(specs)


def test_a_job_that_is_submitted_twice_cannot_be_named() -> None:
    first = JobSpec(command=["a"])
    with pytest.raises(InvalidJob, match="submitted twice"):
        cut([first, first, JobSpec(command=["b"], after=first)])


def test_a_job_that_is_named_and_not_submitted_is_refused() -> None:
    with pytest.raises(InvalidJob, match="not among those submitted with it"):
        cut([JobSpec(command=["b"], after=JobSpec(command=["a"]))])


def test_all_at_once_is_one_request_or_none() -> None:
    specs = [JobSpec(command=["true"], cwd="/")] * 10_001

    def once(specs: list[JobSpec]) -> list[Any]:
        return list(
            submission.submit_requests(
                specs, user="a", request_id=bytes(16), environ={}, at_once=True
            )
        )

    assert len(once(specs[1:])) == 1
    with pytest.raises(InvalidJob, match="at most 10,000"):
        once(specs)


def test_no_jobs_are_no_request() -> None:
    assert cut([]) == []


def test_a_state_that_is_an_end_asks_for_ended_jobs_too() -> None:
    assert not requests.job_filter(states=["pending"]).all
    wanted = requests.job_filter(states=["FAILED", State.RUNNING])
    assert wanted.all
    assert list(wanted.states) == [types_pb2.FAILED, types_pb2.RUNNING]


def test_an_unknown_state_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidJob, match="PENDING"):
        requests.job_filter(states=["ASLEEP"])


def test_a_cancel_names_jobs_or_filters_them() -> None:
    everything = manager_pb2.JobFilter()
    with pytest.raises(InvalidJob, match="one of both"):
        requests.cancel_request([], user="alice", grace=1)
    with pytest.raises(InvalidJob, match="one of both"):
        requests.cancel_request([1], user="alice", filter=everything, grace=1)
    assert requests.cancel_request([1], user="alice", grace="1.5s").grace_ms == 1500
    assert requests.cancel_request([], user="alice", filter=everything, grace=0).HasField("filter")


@pytest.mark.parametrize("grace", [10**400, "5", -1, "x", float("nan"), 1e12])
def test_what_is_no_duration_is_refused(grace: float | str) -> None:
    with pytest.raises(InvalidJob):
        requests.cancel_request([1], user="alice", grace=grace)


def test_pages_go_on_behind_the_last_job_in_the_direction_of_the_list() -> None:
    up = requests.page_request(requests.job_filter(), limit=5000, last_job_id=7)
    assert (up.limit, up.after_job_id, up.before_job_id) == (1000, 7, 0)
    down = requests.page_request(requests.job_filter(all=True), limit=5, last_job_id=7)
    assert (down.limit, down.after_job_id, down.before_job_id) == (5, 0, 7)
