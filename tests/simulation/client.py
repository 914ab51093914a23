"""A client for each job: submits, sends again until it is answered, and may cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import grpc

from tests.simulation.checks import Witness
from tests.simulation.network import MANAGER, Answer, Network
from tests.simulation.plan import USERS, CancelPlan, JobPlan
from tests.simulation.world import World, check
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.scheduling import SAME_INDEX, WHOLE_JOB, Dependency

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
        self,
        number: int,
        job: JobPlan,
        world: World,
        network: Network,
        witness: Witness,
        others: Sequence[Client],
        find_time_us: Callable[[], int | None],
    ) -> None:
        """`others` are those before it; `find_time_us` is the manager's time while it is up."""
        self._number = number
        self._job = job
        self._world = world
        self._network = network
        self._witness = witness
        self._others = list(others)
        self._find_time_us = find_time_us
        self._request_id = world.random.randbytes(16)
        self._request: manager_pb2.SubmitJobRequest | None = None
        self._after: list[Dependency] = []
        self.is_given_up = False
        # Only some say what they want under another name each: the others share a class.
        self._user = USERS[number % 2]
        self._job_id = 0
        self.is_done = False
        self._world.after(job.submit_ms * 1000, self._submit)

    def _make_request(self) -> manager_pb2.SubmitJobRequest | None:
        """None while it cannot be made: a job to wait for is not there yet, or no clock to read."""
        scheduling = self._scheduling()
        if scheduling is None:
            return None
        job = self._job
        array = [types_pb2.IndexRange(start=0, stop=job.tasks, step=1)] if job.tasks else []
        return manager_pb2.SubmitJobRequest(
            request_id=self._request_id,
            user=self._user,
            environments=[types_pb2.Environment()],
            jobs=[
                manager_pb2.JobSpec(
                    name=f"job{self._number}",
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
                    scheduling=scheduling,
                )
            ],
        )

    def _scheduling(self) -> manager_pb2.Scheduling | None:
        wanted, now_us = self._job.scheduling, self._find_time_us()
        # Whoever was refused for good is waited for no more.
        after = [each for each in wanted.after if not self._others[each.job].is_given_up]
        if now_us is None or not all(self._others[each.job].job_id for each in after):
            return None
        self._after = [
            Dependency(
                self._others[each.job].job_id,
                each.condition,
                SAME_INDEX if each.is_same_index else WHOLE_JOB,
            )
            for each in after
        ]
        zone = manager_pb2.LabelConstraint(label="zone", values=[wanted.zone])
        return manager_pb2.Scheduling(
            constraints=[zone] if wanted.zone else [],
            exclusive=wanted.is_exclusive,
            array_limit=wanted.array_limit,
            max_fails=wanted.max_fails,
            retries=wanted.retries,
            retry_on=wanted.retry_on,
            after=[
                manager_pb2.Dependency(
                    job=manager_pb2.JobReference(job=manager_pb2.JobSelector(job_id=each.job_id)),
                    condition=manager_pb2.DependencyCondition.ValueType(each.condition),
                    same_index=each.index == SAME_INDEX,
                )
                for each in self._after
            ],
            begin_us=now_us + wanted.begin_ms * 1000 if wanted.begin_ms else 0,
            deadline_us=now_us + wanted.deadline_ms * 1000 if wanted.deadline_ms else 0,
            preemptible=wanted.is_preemptible,
            at_most_once=wanted.at_most_once,
            held=wanted.is_held,
        )

    @property
    def job_id(self) -> int:
        """The number of its job, 0 before it was told."""
        return self._job_id

    def _submit(self) -> None:
        if self._request is None:
            self._request = self._make_request()
        if self._request is None:
            self._again(self._submit)
            return
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
        self._witness.acknowledged(self._request_id, job_id, self._number, self._after)
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
            self.is_given_up = True
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
