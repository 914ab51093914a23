"""A client for each job: submits, sends again until it is answered, and may cancel."""

from __future__ import annotations

from typing import Final

import grpc

from tests.simulation.checks import Witness
from tests.simulation.network import Answer, Network
from tests.simulation.plan import USERS, CancelPlan, JobPlan
from tests.simulation.world import World, check
from titan.rpc.v1 import manager_pb2, types_pb2

MANAGER: Final = "manager"
NODE: Final = "client"
DEADLINE_US: Final = 5_000_000
SIGUSR1: Final = 10
PASSING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Client:
    """One user with one job."""

    def __init__(
        self, number: int, job: JobPlan, world: World, network: Network, witness: Witness
    ) -> None:
        self._number = number
        self._job = job
        self._world = world
        self._network = network
        self._witness = witness
        self._request_id = world.random.randbytes(16)
        # Only some say what they want under another name each: the others share a class.
        user = USERS[number % 2]
        array = [types_pb2.IndexRange(start=0, stop=job.tasks, step=1)] if job.tasks else []
        self._request = manager_pb2.SubmitJobRequest(
            request_id=self._request_id,
            user=user,
            environments=[types_pb2.Environment()],
            jobs=[
                manager_pb2.JobSpec(
                    name=f"job{number}",
                    command=[b"run"],
                    cwd=b"/",
                    resources=types_pb2.Resources(
                        cpus_milli=job.cpus_milli, named={"gpu": job.gpus} if job.gpus else {}
                    ),
                    priority=job.priority,
                    array=array,
                    time_limit_ms=job.time_limit_ms,
                    grace_ms=job.grace_ms,
                    end_signal=SIGUSR1 if job.warn_before_ms else 0,
                    end_signal_before_ms=job.warn_before_ms,
                    on="" if job.on is None else f"worker{job.on}",
                )
            ],
        )
        self._job_id = 0
        self.is_done = False
        self._world.after(job.submit_ms * 1000, self._submit)

    @property
    def job_id(self) -> int:
        """The number of its job, 0 before it was told."""
        return self._job_id

    def _submit(self) -> None:
        self._network.call(NODE, MANAGER, "SubmitJob", self._request, DEADLINE_US, self._submitted)

    def _submitted(self, answer: Answer) -> None:
        if not answer.is_ok and self._is_refused_for_its_worker(answer):
            return
        if not answer.is_ok:
            check(answer.status in PASSING, f"a submit is refused: {answer}")
            self._world.count("submit sent again")
            self._again(self._submit)
            return
        (job_id,) = answer.message.job_ids
        check(self._job_id in (0, job_id), f"request {self._number} made two jobs")
        self._witness.acknowledged(self._request_id, job_id, self._number)
        is_first, self._job_id = not self._job_id, job_id
        if not is_first:
            return
        if self._world.chance(20):
            # Its answer was lost somewhere beyond the network.
            self._world.after(self._world.random.randint(0, 5_000_000), self._submit)
        if self._job.cancel is None:
            self.is_done = True
        else:
            self._world.after(self._job.cancel.after_ms * 1000, self._cancel)

    def _is_refused_for_its_worker(self, answer: Answer) -> bool:
        """It has not registered yet, or left; or it lost its id, and its old self is listed."""
        if self._job.on is None or answer.status is not grpc.StatusCode.INVALID_ARGUMENT:
            return False
        self._world.count("submit refused for its worker")
        if "have the name" in answer.details:
            self._witness.given_up()
            self.is_done = True
        else:
            self._again(self._submit)
        return True

    def _cancel(self) -> None:
        cancel = self._job.cancel
        assert cancel is not None
        self._witness.cancel_sent(self._job_id)
        request = manager_pb2.CancelJobRequest(
            jobs=[manager_pb2.JobSelector(job_id=self._job_id, indexes=self._indexes(cancel))],
            grace_ms=cancel.grace_ms,
        )
        self._network.call(NODE, MANAGER, "CancelJob", request, DEADLINE_US, self._cancelled)

    def _indexes(self, cancel: CancelPlan) -> list[types_pb2.IndexRange]:
        if cancel.first == 0 or cancel.first >= self._job.tasks:
            return []
        return [types_pb2.IndexRange(start=cancel.first, stop=cancel.last + 1, step=1)]

    def _cancelled(self, answer: Answer) -> None:
        if not answer.is_ok:
            check(answer.status in PASSING, f"a cancel is refused: {answer}")
            self._again(self._cancel)
            return
        if not answer.message.already_ended:
            self._witness.cancel_acknowledged(self._job_id)
        self.is_done = True

    def _again(self, what: object) -> None:
        assert callable(what)
        self._world.after(self._world.random.randint(50_000, 1_000_000), what)
