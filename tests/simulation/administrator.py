"""Who drains workers and gives them tasks again, sending each wish until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import grpc

from tests.simulation.client import DEADLINE_US, PASSING
from tests.simulation.network import MANAGER, Answer, Network
from tests.simulation.plan import DrainPlan
from tests.simulation.world import World, check
from titan.rpc.v1 import manager_pb2

NODE: Final = "administrator"
# Never registered so far, gone, or come back under another id while the old one is still listed.
_NOT_NOW: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)


class Administrator:
    """One drain of one worker, and its end."""

    def __init__(self, plan: DrainPlan, worker: str, world: World, network: Network) -> None:
        self._plan = plan
        self._worker = worker
        self._world = world
        self._network = network
        self.is_done = False
        world.after(plan.at_ms * 1000, self._drain)

    def lift_what_came_late(self, worker_ids: list[bytes]) -> None:
        """A drain may arrive after its end; whoever sees it there lifts it again."""
        if self.is_done and worker_ids:
            self.is_done = False
            self._undrain([each.hex() for each in worker_ids])

    def _drain(self) -> None:
        request = manager_pb2.DrainWorkerRequest(
            workers=[self._worker], reason="new kernel", user="root"
        )
        self._call(request, self._drained, self._drain)

    def _drained(self, answer: Answer) -> None:
        (worker,) = answer.message.workers
        check(worker.draining, "a drain was answered and is not there")
        self._world.count("drained")
        worker_id = worker.worker_id.hex()
        self._world.after(self._plan.for_ms * 1000, partial(self._undrain, [worker_id]))

    def _undrain(self, worker_ids: list[str]) -> None:
        request = manager_pb2.DrainWorkerRequest(workers=worker_ids, undrain=True, user="root")
        self._call(request, self._undrained, partial(self._undrain, worker_ids))

    def _undrained(self, answer: Answer) -> None:
        self._world.count("undrained")
        self.is_done = True

    def _call(
        self,
        request: manager_pb2.DrainWorkerRequest,
        on_answer: Callable[[Answer], None],
        again: Callable[[], None],
    ) -> None:
        def answered(answer: Answer) -> None:
            if answer.is_ok:
                on_answer(answer)
                return
            is_early = answer.status in _NOT_NOW and not request.undrain
            check(is_early or answer.status in PASSING, f"a drain is refused: {answer}")
            if is_early:
                self._world.count("drain refused")
                self.is_done = True
            else:
                self._world.after(self._world.random.randint(50_000, 1_000_000), again)

        self._network.call(NODE, MANAGER, "DrainWorker", request, DEADLINE_US, answered)
