"""What is told of a task that was placed, beside what the log tells of how it was."""

from __future__ import annotations

from tests.manager.builders import FakeHost, Rig, new_job
from titan.manager.kernel.commands import SuspendJobs, WhichJobs
from titan.queries.explanations import add_state
from titan.queries.selection import JobSelector
from titan.rpc.v1 import manager_pb2, types_pb2

JOB = WhichJobs(selectors=(JobSelector(job_id=1),))


def told(rig: Rig, job_id: int) -> tuple[int, list[str]]:
    message = manager_pb2.Explanation()
    add_state(message, rig.state.get_job(job_id), 0)
    return message.state, list(message.waiting_for)


def settle(rig: Rig, host: FakeHost) -> None:
    rig.schedule()
    host.receive_all()
    host.send_reports()


def test_what_stands_still_is_told_what_it_waits_for() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.submit(new_job())
    settle(rig, host)
    assert told(rig, 1) == (types_pb2.RUNNING, [])
    rig.do(SuspendJobs(which=JOB, resumes=False))
    rig.submit(new_job())
    settle(rig, host)
    assert told(rig, 1)[1] == ["a resume: it is suspended (`titan resume 1`)"]
    assert told(rig, 2) == (types_pb2.RUNNING, [])
    rig.do(SuspendJobs(which=JOB, resumes=True))
    settle(rig, host)
    owed = "its cpus: it is suspended, and runs on once they are free for it again"
    assert told(rig, 1) == (types_pb2.RUNNING, [owed])
