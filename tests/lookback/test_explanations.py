"""How tasks came to be where they are, from the log: as it was just before, whoever asks when."""

from __future__ import annotations

import pytest

import wal
from tests.lookback.builders import History, records, states
from titan import events as ev
from titan.errors import NotFound, OutOfRange, StillReading
from titan.lookback.answers import Answers
from titan.lookback.past import Past
from titan.lookback.placements import Placements
from titan.lookback.story import find_first_lsn
from titan.model import WorkerState
from titan.queries.explanations import Placing
from titan.queries.selection import JobForgotten
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.scheduler.policies import POLICY_OF_CODE, RULE_NAMES
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.worker import Worker

Told = tuple[str, int, int, bool, bool]


def ask(job_id: int, index: int = 0, lsn: int = 0) -> manager_pb2.ExplainJobRequest:
    return manager_pb2.ExplainJobRequest(
        job=manager_pb2.JobSelector(
            job_id=job_id,
            indexes=[types_pb2.IndexRange(start=index, stop=index + 1, step=1)],
        ),
        at=manager_pb2.Moment(lsn=lsn) if lsn else None,
    )


def could_take(worker: Worker, state: ClusterState, job_id: int) -> bool:
    """In the dumbest way; the jobs of this history ask for no more than that."""
    job = state.get_job(job_id)
    return (
        worker.state is WorkerState.HEALTHY
        and not worker.is_draining
        and job.on in ("", worker.name)
        and job.demand.fits_in(worker.capacity)
    )


def assignments() -> list[tuple[int, int, ev.TaskAssigned, list[Told]]]:
    """Each of the history with LSN, time, and the candidates just before, by a plain replay."""
    found = []
    state = ClusterState()
    for lsn, payload in enumerate(records(), 1):
        time_us, events = ev.decode_record(payload)
        state.begin_record(lsn, time_us)
        for event in events:
            if type(event) is ev.TaskAssigned:
                job = state.get_job(event.job_id)
                told = [
                    (w.name, w.free.cpus_milli, w.free.memory_bytes, _fits(w, job.job_class),
                     w.number == event.worker)
                    for w in state.workers.values()
                    if could_take(w, state, event.job_id)
                ]  # fmt: skip
                found.append((lsn, time_us, event, told))
            state.apply(event)
    return found


def _fits(worker: Worker, job_class: JobClass) -> bool:
    slots = [each for each in worker.attempts.values() if not each.ahead]
    is_another_alone = any(each.job_class.exclusive for each in slots)
    wants_to_be_alone = job_class.exclusive and bool(worker.attempts)
    if is_another_alone or wants_to_be_alone:
        return False
    return worker.used.plus(job_class.demand).fits_in(worker.capacity)


def told_by(explanation: manager_pb2.Explanation) -> list[Told]:
    return [
        (each.worker, each.free.cpus_milli, each.free.memory_bytes, each.had_room, each.chosen)
        for each in explanation.candidates
    ]


def test_a_placed_task_is_told_with_the_workers_in_question_just_before(
    history: History, past: Past
) -> None:
    history.take_snapshots(len(records()) // 2)
    answers = Answers(past)
    for lsn, time_us, event, candidates in assignments()[::11]:
        response = answers.explain_job(ask(event.job_id, event.index, lsn))
        told = response.explanation
        if told.verdict != manager_pb2.VERDICT_PLACED or told.assigned_lsn != lsn:
            # It came back within the same record.
            continue
        assert told_by(told) == candidates
        assert sum(each.chosen for each in told.candidates) <= 1
        policy = POLICY_OF_CODE[event.policy]
        assert (told.job_id, told.index, told.attempt) == event[:3]
        assert (told.assigned_us, told.policy, told.policy_version) == (
            time_us, policy.name, policy.version,
        )  # fmt: skip
        assert told.rule == RULE_NAMES[event.rule]
        assert told.state == types_pb2.SCHEDULED
        assert (response.lsn, response.at_us) == (lsn, time_us)


def test_the_latest_attempt_of_an_ended_job_is_found_without_a_moment(
    history: History, past: Past
) -> None:
    del history
    answers = Answers(past)
    *_, newest = states()
    latest = {(e.job_id, e.index): (lsn, e) for lsn, _, e, _ in assignments()}
    asked = 0
    for (job_id, index), (lsn, event) in list(latest.items())[::9]:
        told = answers.explain_job(ask(job_id, index)).explanation
        job = newest.jobs.get(job_id)
        if job is not None and job.is_pending(index):
            assert told.verdict != manager_pb2.VERDICT_PLACED
            continue
        assert (told.assigned_lsn, told.attempt) == (lsn, event.attempt)
        assert told.worker == newest.get_worker(event.worker).name
        asked += newest.is_forgotten(job_id)
    assert asked, "some were forgotten"


def test_a_task_that_waits_is_explained_from_the_state_of_then(
    history: History, past: Past
) -> None:
    del history
    answers = Answers(past)
    asked = 0
    for state in states():
        if state.lsn % 23:
            continue
        for job in list(state.live_jobs.values())[:3]:
            if job.pending.count:
                index = job.pending.first()
                told = answers.explain_job(ask(job.job_id, index, state.lsn)).explanation
                assert told.state == types_pb2.PENDING
                listed = [
                    w for w in state.workers.values() if w.state is not WorkerState.DEREGISTERED
                ]
                assert told.workers == len(listed)
                turned_away = sum(each.workers for each in told.turned_away)
                assert told.workers_with_room + turned_away == told.workers
                asked += 1
    assert asked


def test_one_that_never_came_to_a_worker_says_how_it_ended(history: History, past: Past) -> None:
    del history
    # A cancel ends what waits at once.
    ended = [
        (lsn, e.job_id)
        for lsn, payload in enumerate(records(), 1)
        for e in ev.decode_record(payload)[1]
        if type(e) is ev.CancelRequested
    ]
    found = 0
    for state in states():
        for job_id in [each for lsn, each in ended if lsn == state.lsn]:
            if job_id not in state.jobs:
                continue
            job = state.get_job(job_id)
            for index in [i for i in job.cancelled or () if not _had_attempts(job, i)][:1]:
                told = Answers(past).explain_job(ask(job_id, index, state.lsn)).explanation
                assert told.verdict == manager_pb2.VERDICT_ENDED
                assert told.sentence == "cancelled before it started"
                assert told.state == types_pb2.CANCELLED
                found += 1
    assert found


def _had_attempts(job: Job, index: int) -> bool:
    return job.ended is not None and bool(job.ended.of_index(index))


def test_unknown_jobs_and_tasks_are_refused(history: History, past: Past) -> None:
    del history
    answers = Answers(past)
    with pytest.raises(NotFound) as caught:
        answers.explain_job(ask(1_000_000))
    assert not isinstance(caught.value, JobForgotten)
    with pytest.raises(NotFound):
        answers.explain_job(ask(1, 999))


def test_a_search_that_takes_too_long_says_so_and_goes_on_when_asked_again(
    history: History, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titan.lookback.story.READ_RECORDS", 20)
    lsn, _, event, _ = assignments()[-1]
    now = iter(range(1_000_000))
    placements = Placements(past, look_seconds=1, clock=lambda: float(next(now)))
    placing = Placing(*event[:3], 0, len(records()), 0)
    told: list[str] = []
    while (found := _find(placements, placing, told)) is None:
        pass
    assert found == (lsn, event)
    assert len(told) > 2
    assert f"how attempt {event.attempt} of {event.job_id}.{event.index} was placed" in told[0]
    del history


def _find(
    placements: Placements, placing: Placing, told: list[str]
) -> tuple[int, ev.TaskAssigned] | None:
    try:
        return placements.find(placing)
    except StillReading as error:
        told.append(str(error))
        return None


def test_a_known_time_spares_the_log_before_it(
    history: History, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    del history
    lsn, time_us, event, _ = assignments()[-1]
    begun: list[int] = []

    class Noted(wal.Reader):
        def __init__(self, *arguments: object, from_lsn: int = 1, **named: object) -> None:
            begun.append(from_lsn)
            super().__init__(*arguments, from_lsn=from_lsn, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(wal, "Reader", Noted)
    placing = Placing(*event[:3], 0, len(records()), time_us)
    assert Placements(past).find(placing) == (lsn, event)
    assert begun[-1] > 1, "the search began behind what is older"


def test_what_the_log_does_not_reach_back_to_is_out_of_range(history: History, past: Past) -> None:
    middle = len(records()) // 2
    history.take_snapshots(middle)
    wal.remove_segments_before(history.directory / "wal", middle)
    state = next(state for state in states() if state.lsn == middle)
    first = find_first_lsn(history.directory / "wal")
    latest = {(e.job_id, e.index): lsn for lsn, _, e, _ in assignments() if lsn <= middle}
    job_id, index = next(
        (job_id, index)
        for (job_id, index), lsn in latest.items()
        if lsn < first and job_id in state.jobs and not state.get_job(job_id).is_pending(index)
    )
    with pytest.raises(OutOfRange, match="not in the log any more"):
        Answers(past).explain_job(ask(job_id, index, middle))
