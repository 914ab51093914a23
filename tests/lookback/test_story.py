"""A job's story is what the log tells of it, however it is found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import wal
from tests.lookback.builders import History, records, states, time_of
from tests.manager.kernel.story import USERS
from titan import events as ev
from titan.errors import InvalidJob, NotFound, OutOfRange, StillReading, TitanError
from titan.lookback import answers as answers_module
from titan.lookback import forgotten as forgotten_module
from titan.lookback import story as story_module
from titan.lookback.answers import Answers
from titan.lookback.forgotten import ForgottenJobs, find_forgetting
from titan.lookback.past import Past
from titan.lookback.story import find_first_lsn, page_of_story
from titan.model import IndexRange
from titan.queries import reads
from titan.queries.mentions import find_forgetting_mentions, find_mentions
from titan.queries.plain import plain_event
from titan.queries.stories import Story, unpack_story
from titan.rpc.v1 import manager_pb2, types_pb2

Told = list[tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _no_page_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test is about that: this process may stand still for seconds."""
    monkeypatch.setattr(story_module, "PAGE_SECONDS", math.inf)


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


def pages(history: History, story: Story) -> Told:
    """The story, page by page."""
    told: Told = []
    left: Story | None = story
    while left is not None:
        page, left = page_of_story(history.directory / "wal", left)
        told += [(each.lsn, each.event, each.fields) for each in page.events]
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
        assert pages(history, Story(job_id)) == slowly(job_id)


def test_it_comes_in_pages_of_whole_records(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story_module, "PAGE_EVENTS", 1)
    job_id = longest()
    assert pages(history, Story(job_id)) == slowly(job_id)
    page, left = page_of_story(history.directory / "wal", Story(job_id, limit=2))
    # A page of one event ends with its record, however many more of these there are.
    first_record = slowly(job_id)[0][0]
    in_first = [lsn for lsn, *_ in slowly(job_id) if lsn == first_record]
    assert [each.lsn for each in page.events] == in_first[:2]
    assert left is not None or len(page.events) == 2
    for limit in (1, 2, 3, 5):
        assert pages(history, Story(job_id, limit=limit)) == slowly(job_id)[:limit]


def test_a_limit_within_a_record_does_not_say_that_all_of_it_was_told(history: History) -> None:
    job_id = longest()
    lsns = [lsn for lsn, *_ in slowly(job_id)]
    is_within = [lsns[n] == lsns[n - 1] for n in range(1, len(lsns))]
    assert {True, False} == set(is_within)
    for limit, is_cut in enumerate(is_within, 1):
        page, left = page_of_story(history.directory / "wal", Story(job_id, limit=limit))
        assert (page.lsn, left) == (lsns[limit - 1] - is_cut, None)


def test_a_page_ends_within_a_record_that_is_too_large_for_one(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story_module, "PAGE_BYTES", 1)
    job_id = next(
        each for each in range(1, 100) if len({lsn for lsn, *_ in slowly(each)}) < len(slowly(each))
    )
    left: Story | None = Story(job_id)
    told: Told = []
    while left is not None:
        page, left = page_of_story(history.directory / "wal", left)
        assert len(page.events) <= 1
        for each in page.events:
            told.append((each.lsn, each.event, each.fields))
            # Only with the last event of a record all of it is told.
            is_last = len(told) == sum(lsn <= each.lsn for lsn, *_ in slowly(job_id))
            assert page.lsn == each.lsn - (not is_last)
    assert told == slowly(job_id)


def test_a_page_ends_after_some_seconds_and_says_how_far_it_came(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story_module, "PAGE_SECONDS", 0)
    monkeypatch.setattr(story_module, "READ_RECORDS", 10)
    job_id = longest()
    assert pages(history, Story(job_id)) == slowly(job_id)
    # Of a number that is in no record the whole log is read.
    left: Story | None = Story(1 << 40)
    ends = []
    while left is not None:
        page, left = page_of_story(history.directory / "wal", left)
        assert not page.events
        ends.append(page.lsn)
    assert len(ends) > 10
    assert ends == sorted(ends)
    assert ends[-1] == len(records())


def longest() -> int:
    """A job of which much was said."""
    return max(range(1, 100), key=lambda each: len(slowly(each)))


def test_it_can_be_bounded_by_record(history: History) -> None:
    told = slowly(20)
    middle = told[len(told) // 2][0]
    assert pages(history, Story(20, last_lsn=middle)) == [
        each for each in told if each[0] <= middle
    ]
    assert pages(history, Story(20, after_lsn=middle)) == [
        each for each in told if each[0] > middle
    ]


@pytest.mark.parametrize("which", ["last", "name", "number"])
def test_the_story_at_a_moment_is_of_the_job_that_was_meant_then(past: Past, which: str) -> None:
    answers = Answers(past)
    for lsn in range(1, len(records()), len(records()) // 25):
        at = manager_pb2.Moment(lsn=lsn)
        selector = {
            "last": manager_pb2.JobSelector(last_of_user=USERS[0]),
            "name": manager_pb2.JobSelector(name="true"),
            "number": manager_pb2.JobSelector(job_id=5),
        }[which]
        asked = manager_pb2.GetJobStatusRequest(job=selector, at=at)
        told: object
        try:
            shown: object = answers.get_job_status(asked).job.job_id
        except TitanError as error:
            shown = str(error)
        try:
            story = answers.find_story(manager_pb2.GetEventsRequest(job=selector, at=at))
            told = story.job_id
            assert story.last_lsn <= lsn
        except TitanError as error:
            told = str(error)
        assert told == shown


def test_there_is_no_story_of_a_moment_that_never_was(past: Past) -> None:
    answers = Answers(past)

    def find(**moment: int) -> object:
        at = manager_pb2.Moment(**moment)
        job = manager_pb2.JobSelector(job_id=1)
        return answers.find_story(manager_pb2.GetEventsRequest(job=job, at=at))

    with pytest.raises(NotFound, match="there is no job 1"):
        find(lsn=1)
    with pytest.raises(OutOfRange, match="before the oldest moment"):
        find(time_us=time_of(1) - 1)
    with pytest.raises(InvalidJob, match="no LSN 0: the first is 1"):
        find(lsn=0)


def test_the_story_of_a_task_leaves_the_other_tasks_out(history: History) -> None:
    arrays = [
        event.job_id
        for payload in records()
        for event in ev.decode_record(payload)[1]
        if isinstance(event, ev.JobSubmitted) and event.array
    ]
    for job_id in arrays[:10]:
        told = pages(history, Story(job_id, indexes=(IndexRange(2, 3),)))
        indexes = {json.loads(fields).get("index", 2) for _, _, fields in told}
        assert indexes == {2}
        assert [kind for _, kind, _ in told] == [
            kind for _, kind, fields in slowly(job_id) if json.loads(fields).get("index", 2) == 2
        ]


@pytest.mark.parametrize("page_seconds", [60, 0])
def test_of_a_story_that_began_before_the_log_the_rest_is_told(
    history: History, monkeypatch: pytest.MonkeyPatch, page_seconds: int
) -> None:
    monkeypatch.setattr(story_module, "PAGE_SECONDS", page_seconds)
    monkeypatch.setattr(story_module, "READ_RECORDS", 10)
    told = {job_id: slowly(job_id) for job_id in range(1, 150)}
    middle = len(records()) // 2
    wal.remove_segments_before(history.directory / "wal", middle)
    first = find_first_lsn(history.directory / "wal")
    assert 1 < first <= middle
    gone = 0
    for job_id, events in told.items():
        left = [each for each in events if each[0] >= first]
        if left:
            assert pages(history, Story(job_id)) == left
        else:
            gone += 1
            with pytest.raises(OutOfRange, match=f"begins with LSN {first}"):
                pages(history, Story(job_id))
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
        payload = ev.encode_record(1_700_000_000_000_000, [event])
        assert mentions(payload)
        forgets = isinstance(event, ev.JobsForgotten)
        assert find_forgetting_mentions(job_id)(payload) >= forgets


def test_a_story_comes_back_from_bytes_as_it_was() -> None:
    story = Story(300, (IndexRange(2, 3), IndexRange(5, 9)), 7, 2, 99, 5, 3, True, True)
    assert unpack_story(story.pack()) == story
    assert unpack_story(Story(1).pack()) == Story(1)


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


def test_where_a_job_was_forgotten_is_found(history: History) -> None:
    directory = history.directory / "wal"
    for job_id in forgotten_ids()[::10]:
        lsn = next(lsn for lsn, kind, _ in slowly(job_id) if kind == "JobsForgotten")
        assert find_forgetting(directory, job_id, 1, 0) == lsn
        assert find_forgetting(directory, job_id, lsn, lsn + 1) == lsn
        assert find_forgetting(directory, job_id, 1, lsn) == 0
        assert find_forgetting(directory, job_id, lsn + 1, 0) == 0
    assert find_forgetting(directory, 99_999, 1, 0) == 0


def test_only_records_that_forget_are_decoded_to_find_a_job(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetting = sum(
        any(isinstance(event, ev.JobsForgotten) for event in ev.decode_record(payload)[1])
        for payload in records()
    )
    decoded = []

    def decode(payload: bytes) -> tuple[int, list[ev.Event]]:
        decoded.append(payload)
        return real(payload)

    real = ev.decode_record
    monkeypatch.setattr(ev, "decode_record", decode)
    for job_id in (1, 200):
        decoded.clear()
        find_forgetting(history.directory / "wal", job_id, 1, 0)
        assert len(decoded) <= forgetting + 2


@pytest.fixture
def looked_through(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first LSN of every segment that was looked through for a forgotten job."""
    seen: list[int] = []

    def look(directory: Path, job_id: int, from_lsn: int, before_lsn: int) -> int:
        seen.append(from_lsn)
        return find_forgetting(directory, job_id, from_lsn, before_lsn)

    monkeypatch.setattr(forgotten_module, "find_forgetting", look)
    return seen


def test_a_search_that_takes_too_long_goes_on_with_the_next_question(
    past: Past, looked_through: list[int]
) -> None:
    job_id = forgotten_ids()[0]
    jobs = ForgottenJobs(past, look_seconds=0)
    firsts = past.list_segments()
    refusals = []
    state = None
    while state is None:
        try:
            state = jobs.state_with(job_id)
        except StillReading as error:
            refusals.append(str(error))
    assert [each.split(", ")[-1] for each in refusals] == [
        f"{len(firsts) - number} of {len(firsts)} segments are left"
        for number in range(1, len(looked_through))
    ]
    assert looked_through == firsts[: -len(looked_through) - 1 : -1]
    assert len(looked_through) > 1
    assert state.get_job(job_id).has_ended
    # What was found is known, whatever became of the state.
    looked_through.clear()
    past.close()
    assert jobs.state_with(job_id).get_job(job_id).has_ended
    assert looked_through == []


def test_a_job_whose_record_is_gone_is_not_looked_for_twice(
    history: History, past: Past, looked_through: list[int]
) -> None:
    history.take_snapshots(len(records()) - 20)
    wal.remove_segments_before(history.directory / "wal", len(records()) - 20)
    jobs = ForgottenJobs(past)
    for segments in (len(past.list_segments()), 0):
        with pytest.raises(OutOfRange, match="what the log told of it is gone"):
            jobs.state_with(forgotten_ids()[0])
        assert len(looked_through) == segments
        looked_through.clear()


def test_what_was_said_of_a_forgotten_job_is_said_again_without_reading(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(past)
    first, second = forgotten_ids()[0], forgotten_ids()[-1]
    told = [answers.get_forgotten_job(request(each)) for each in (first, second)]
    past.close()
    monkeypatch.setattr(forgotten_module, "find_forgetting", None)
    assert [answers.get_forgotten_job(request(each)) for each in (first, second)] == told
    # No more is kept than fits.
    monkeypatch.undo()
    monkeypatch.setattr(answers_module, "REPLIES_BYTES_MAX", told[1].ByteSize())
    answers.get_forgotten_job(request(second))
    assert answers.get_forgotten_job(request(first)) == told[0]


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
    assert ForgottenJobs(past).state_with(1).get_job(1).has_ended
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
