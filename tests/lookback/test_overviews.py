"""Tasks, workflows and the range of the log, asked of the past."""

from __future__ import annotations

from pathlib import Path

from tests.lookback.builders import History, records, states, time_of
from tests.lookback.test_story import forgotten_ids
from tests.queries.test_tasks import at_once, told_dumbly
from titan.lookback.answers import Answers, handlers
from titan.lookback.past import Past
from titan.queries.workflow import find_workflow
from titan.rpc.v1 import manager_pb2

LAST = len(records())


def named(job_id: int) -> manager_pb2.JobSelector:
    return manager_pb2.JobSelector(job_id=job_id)


def test_tasks_are_told_as_they_were(history: History, past: Past) -> None:
    answer = handlers(Answers(past))["ListTasks"]
    checked = 0
    for state in states():
        if state.lsn % 40:
            continue
        at = manager_pb2.Moment(lsn=state.lsn)
        for job in list(state.jobs.values())[::7]:
            request = manager_pb2.ListTasksRequest(job=named(job.job_id), at=at)
            told = manager_pb2.ListTasksResponse.FromString(answer(request.SerializeToString()))
            assert told.states == told_dumbly(job)
            assert (told.lsn, told.at_us) == (state.lsn, state.time_us)
            checked += 1
    assert checked > 50


def test_tasks_of_a_forgotten_job_are_told_as_they_ended(history: History, past: Past) -> None:
    job_id = forgotten_ids()[0]
    ends = {
        state.lsn: told_dumbly(state.jobs[job_id]) for state in states() if job_id in state.jobs
    }
    known = handlers(Answers(past))
    for method, at in (
        ("ListForgottenTasks", None),
        ("ListTasks", None),
        ("ListTasks", manager_pb2.Moment(lsn=LAST)),
    ):
        request = manager_pb2.ListTasksRequest(job=named(job_id), at=at)
        told = known[method](request.SerializeToString())
        assert manager_pb2.ListTasksResponse.FromString(told).states == ends[max(ends)]


def test_a_workflow_is_told_as_it_was(history: History, past: Past) -> None:
    answer = handlers(Answers(past))["GetWorkflow"]
    for state in states():
        waiting = [each for each in state.dependents if each in state.jobs]
        if state.lsn % 25 or not waiting:
            continue
        job_id = waiting[0]
        jobs, _ = at_once(find_workflow(state, job_id, 1000))
        request = manager_pb2.GetWorkflowRequest(
            job=named(job_id), at=manager_pb2.Moment(lsn=state.lsn)
        )
        told = manager_pb2.GetWorkflowResponse.FromString(answer(request.SerializeToString()))
        assert [each.job_id for each in told.jobs] == jobs
        assert len(jobs) > 1
        assert told.at_us == state.time_us


def test_what_can_be_asked_about_begins_with_the_log_or_a_snapshot(history: History) -> None:
    def asked(directory: Path) -> manager_pb2.GetLogRangeResponse:
        past = Past(directory)
        told = handlers(Answers(past))["GetLogRange"](b"")
        past.close()
        return manager_pb2.GetLogRangeResponse.FromString(told)

    whole = asked(history.directory)
    assert (whole.first_lsn, whole.last_lsn) == (1, LAST)
    assert (whole.first_us, whole.last_us) == (time_of(1), time_of(LAST))
    segments = sorted((history.directory / "wal").glob("*.wal"))
    middle = int(segments[len(segments) // 2].stem.lstrip("0"))
    history.take_snapshots(middle - 1, LAST - 2)
    for each in segments[: len(segments) // 2]:
        each.unlink()
    rest = asked(history.directory)
    assert (rest.first_lsn, rest.first_us) == (middle - 1, time_of(middle - 1))
    assert rest.last_lsn == LAST
