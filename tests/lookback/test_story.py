"""A job's story is what the log tells of it, however it is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wal
from tests.lookback.builders import History, records, states
from titan import events as ev
from titan.errors import NotFound, OutOfRange
from titan.lookback import story as story_module
from titan.lookback.answers import Answers
from titan.lookback.forgotten import find_forgetting, state_with_job
from titan.lookback.past import Past
from titan.lookback.story import Wanted, find_first_lsn, page_of_story
from titan.model import IndexRange
from titan.queries import reads
from titan.queries.mentions import find_mentions
from titan.queries.plain import plain_event
from titan.rpc.v1 import manager_pb2, types_pb2

Told = list[tuple[int, str, str]]


def slowly(job_id: int, index: int | None = None) -> Told:
    """The story by looking at every event."""
    told = []
    for lsn, payload in enumerate(records(), 1):
        for event in ev.decode_record(payload)[1]:
            match event:
                case ev.RequestAccepted():
                    is_told = event.first_job_id <= job_id < event.first_job_id + event.jobs
                case ev.JobsForgotten():
                    is_told = job_id in event.job_ids
                case _:
                    is_told = getattr(event, "job_id", None) == job_id and (
                        index is None or getattr(event, "index", index) == index
                    )
            if is_told:
                told.append((lsn, type(event).__name__, json.dumps(plain_event(event))))
    return told


def pages(history: History, wanted: Wanted) -> Told:
    """The story, page by page."""
    told: Told = []
    has_more = True
    while has_more:
        page, has_more = page_of_story(history.directory / "wal", wanted, 0)
        told += [(each.lsn, each.event, each.fields) for each in page.events]
        wanted = Wanted(
            job_id=wanted.job_id, indexes=wanted.indexes, after_lsn=page.lsn,
            last_lsn=wanted.last_lsn, last_time_us=wanted.last_time_us,
        )  # fmt: skip
    return told


def forgotten_ids() -> list[int]:
    """Jobs that the history forgets."""
    return [
        job_id
        for payload in records()
        for event in ev.decode_record(payload)[1]
        if isinstance(event, ev.JobsForgotten)
        for job_id in event.job_ids
    ]


def test_the_story_of_every_job_is_all_that_was_said_of_it(history: History) -> None:
    last_job = max(state.next_job_id for state in states()) - 1
    assert last_job > 200, "numbers of one, two and three bytes"
    for job_id in range(1, last_job + 1, 5):
        assert pages(history, Wanted(job_id=job_id)) == slowly(job_id)


def test_it_comes_in_pages_of_whole_records(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story_module, "PAGE_EVENTS", 1)
    job_id = max(range(1, 100), key=lambda each: len(slowly(each)))
    assert pages(history, Wanted(job_id=job_id)) == slowly(job_id)
    page, has_more = page_of_story(history.directory / "wal", Wanted(job_id=job_id), 2)
    assert [each.lsn for each in page.events] == [lsn for lsn, *_ in slowly(job_id)[:2]]
    assert has_more or len(page.events) == 2


def test_it_can_be_bounded_by_record_and_by_time(history: History) -> None:
    told = slowly(20)
    middle = told[len(told) // 2][0]
    time_us, _ = ev.decode_record(records()[middle - 1])
    assert pages(history, Wanted(job_id=20, last_lsn=middle)) == [
        each for each in told if each[0] <= middle
    ]
    assert pages(history, Wanted(job_id=20, after_lsn=middle)) == [
        each for each in told if each[0] > middle
    ]
    until = [each for each in told if ev.decode_record(records()[each[0] - 1])[0] <= time_us]
    assert pages(history, Wanted(job_id=20, last_time_us=time_us)) == until


def test_the_story_of_a_task_leaves_the_other_tasks_out(history: History) -> None:
    arrays = [
        event.job_id
        for payload in records()
        for event in ev.decode_record(payload)[1]
        if isinstance(event, ev.JobSubmitted) and event.array
    ]
    for job_id in arrays[:10]:
        told = pages(history, Wanted(job_id=job_id, indexes=(IndexRange(2, 3),)))
        indexes = {json.loads(fields).get("index", 2) for _, _, fields in told}
        assert indexes == {2}
        assert [kind for _, kind, _ in told] == [
            kind for _, kind, fields in slowly(job_id) if json.loads(fields).get("index", 2) == 2
        ]


def test_of_a_story_that_began_before_the_log_the_rest_is_told(history: History) -> None:
    told = {job_id: slowly(job_id) for job_id in range(1, 150)}
    middle = len(records()) // 2
    wal.remove_segments_before(history.directory / "wal", middle)
    first = find_first_lsn(history.directory / "wal")
    assert 1 < first <= middle
    gone = 0
    for job_id, events in told.items():
        left = [each for each in events if each[0] >= first]
        if left:
            assert pages(history, Wanted(job_id=job_id)) == left
        else:
            gone += 1
            with pytest.raises(OutOfRange, match=f"begins with LSN {first}"):
                pages(history, Wanted(job_id=job_id))
    assert gone


@pytest.mark.parametrize("job_id", [1, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, 1 << 40])
def test_a_number_is_found_however_long_it_is(job_id: int) -> None:
    mentions = find_mentions(job_id)
    for event in (
        ev.CancelRequested(job_id, (), 0),
        ev.TaskAssigned(job_id, 0, 1, 1, False, 1, 1, 0),
        ev.TaskStarted(job_id, 0, 1, 5),
        ev.JobsForgotten((3, job_id)),
        ev.JobSubmitted(job_id, "u", "n", (b"true",), b"/", b"e", 1000, 0, (), 0, ()),
    ):
        assert mentions(ev.encode_record(1_700_000_000_000_000, [event]))


def test_every_forgotten_job_is_found_as_it_was(history: History, past: Past) -> None:
    gone = forgotten_ids()
    assert len(gone) > 20
    history.take_snapshots(len(records()) // 3, len(records()) // 2)
    before: dict[int, manager_pb2.GetJobStatusResponse] = {}
    for state in states():
        for job_id in gone:
            job = state.jobs.get(job_id)
            if job is not None and job.has_ended and job_id not in before:
                before[job_id] = status(reads.get_job_status(state, request(job_id)))
    answers = Answers(past)
    for job_id in gone[:: len(gone) // 12]:
        assert status(answers.get_forgotten_job(request(job_id))) == before[job_id]
        assert status(answers.get_job_status(request(job_id))) == before[job_id]


def test_where_a_job_was_forgotten_is_found_from_the_end(history: History, past: Past) -> None:
    job_id = forgotten_ids()[0]
    found = find_forgetting(history.directory / "wal", past.list_segments(), job_id)
    assert found == next(lsn for lsn, kind, _ in slowly(job_id) if kind == "JobsForgotten")
    assert find_forgetting(history.directory / "wal", past.list_segments(), 99_999) is None


def test_a_job_that_ended_and_was_forgotten_in_one_record_is_found(tmp_path: Path) -> None:
    history = History(tmp_path / "manager")
    time_us = 1_700_000_000_000_000
    history.append(
        (
            ev.encode_record(time_us, [ev.ClusterCreated(b"C" * 16)]),
            ev.encode_record(
                time_us + 1,
                [
                    ev.EnvironmentStored(b"e", (), ()),
                    ev.JobSubmitted(1, "u", "n", (b"true",), b"/", b"e", 1000, 0, (), 0, ()),
                ],
            ),
            ev.encode_record(time_us + 2, [ev.CancelRequested(1, (), 0), ev.JobsForgotten((1,))]),
        )
    )
    past = Past(history.directory)
    response = Answers(past).get_job_status(request(1))
    assert response.job.state == types_pb2.CANCELLED
    assert (response.lsn, response.at_us) == (3, time_us + 2)
    # The state of LSN 2 is what it was all the same.
    assert not past.state_at(lsn=2).get_job(1).has_ended
    with pytest.raises(NotFound, match="there is no job 2"):
        Answers(past).get_job_status(request(2))
    assert state_with_job(past, 1).get_job(1).has_ended
    past.close()
    history.close()


def request(job_id: int) -> manager_pb2.GetJobStatusRequest:
    """All about a job."""
    return manager_pb2.GetJobStatusRequest(
        job=manager_pb2.JobSelector(job_id=job_id), attempts_limit=1000
    )


def status(response: manager_pb2.GetJobStatusResponse) -> manager_pb2.GetJobStatusResponse:
    """Without what tells of the state that it was read in."""
    response.lsn = response.at_us = 0
    return response
