"""Some tasks of an array, as if they were a job."""

from typing import Any

from tests.client.fake_manager import array_of
from titan.client.tasks import narrow
from titan.rpc.v1 import manager_pb2, types_pb2

ARRAY = manager_pb2.Job(
    job_id=42, state=types_pb2.RUNNING, array=array_of((0, 100)), worker="x", exit_code=9
)
FAILED = {"state": types_pb2.FAILED, "reason": types_pb2.REASON_EXIT, "exit_code": 3, "end_us": 5}
COMPLETED = {"state": types_pb2.COMPLETED, "exit_code": 0, "end_us": 4}


def tried(index: int, number: int = 1, **fields: Any) -> manager_pb2.Attempt:
    return manager_pb2.Attempt(index=index, attempt=number, worker=f"w{index}", **fields)


def test_one_task_reads_like_a_plain_job() -> None:
    part = narrow(ARRAY, [tried(7, **FAILED)], array_of((7, 8)))
    assert part.state == types_pb2.FAILED
    assert (part.exit_code, part.worker, part.end_us) == (3, "w7", 5)
    assert not part.array
    assert part.tasks == manager_pb2.TaskCounts(failed=1)


def test_a_task_that_was_not_tried_is_pending_while_its_job_runs() -> None:
    part = narrow(ARRAY, [], array_of((0, 3)))
    assert part.state == types_pb2.PENDING
    assert part.tasks.pending == 3
    assert not part.HasField("exit_code")


def test_a_task_that_was_not_tried_is_cancelled_once_its_job_has_ended() -> None:
    job = manager_pb2.Job(state=types_pb2.CANCELLED)
    part = narrow(job, [tried(0, **COMPLETED)], array_of((0, 3)))
    assert part.state == types_pb2.CANCELLED
    assert (part.tasks.completed, part.tasks.cancelled) == (1, 2)


def test_only_the_latest_attempt_of_a_task_counts() -> None:
    lost = tried(0, 1, state=types_pb2.LOST)
    part = narrow(ARRAY, [tried(0, 2, **COMPLETED), lost], array_of((0, 1)))
    assert part.state == types_pb2.COMPLETED
    assert narrow(ARRAY, [lost], array_of((0, 1))).state == types_pb2.PENDING


def test_the_failed_task_with_the_lowest_index_decides() -> None:
    first = tried(2, **{**FAILED, "exit_code": 2})
    part = narrow(ARRAY, [tried(3, **FAILED), first, tried(1, **COMPLETED)], array_of((1, 4)))
    assert part.state == types_pb2.FAILED
    assert part.exit_code == 2


def test_tasks_of_which_some_have_ended_are_running() -> None:
    attempts = [tried(0, **COMPLETED), tried(1, state=types_pb2.SCHEDULED)]
    assert narrow(ARRAY, attempts, array_of((0, 3))).state == types_pb2.RUNNING
    assert narrow(ARRAY, attempts[1:], array_of((1, 3))).state == types_pb2.SCHEDULED


def test_a_task_that_was_never_placed_was_cancelled_by_what_cancelled_its_job() -> None:
    reason = types_pb2.REASON_DEPENDENCY_FAILED
    job = manager_pb2.Job(state=types_pb2.CANCELLED, reason=reason, detail="job 3 FAILED")
    part = narrow(job, [], array_of((7, 8)))
    assert (part.state, part.reason, part.detail) == (types_pb2.CANCELLED, reason, "job 3 FAILED")
    # What became of another task says nothing of it.
    job.state = types_pb2.FAILED
    assert narrow(job, [], array_of((7, 8))).reason == types_pb2.REASON_UNSPECIFIED
