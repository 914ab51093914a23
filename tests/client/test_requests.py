"""Requests: their ids, and how a flood of jobs is cut."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.client import requests, submission
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
    with pytest.raises(InvalidJob, match="16M is the most"):
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


@pytest.mark.parametrize("grace", ["5", -1, "x", float("nan"), 1e12])
def test_what_is_no_duration_is_refused(grace: float | str) -> None:
    with pytest.raises(InvalidJob):
        requests.cancel_request([1], user="alice", grace=grace)


def test_pages_go_on_behind_the_last_job_in_the_direction_of_the_list() -> None:
    up = requests.page_request(requests.job_filter(), limit=5000, last_job_id=7)
    assert (up.limit, up.after_job_id, up.before_job_id) == (1000, 7, 0)
    down = requests.page_request(requests.job_filter(all=True), limit=5, last_job_id=7)
    assert (down.limit, down.after_job_id, down.before_job_id) == (5, 0, 7)
