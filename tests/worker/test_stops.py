"""What the manager wishes of attempts, on its way to the worker."""

from __future__ import annotations

import grpc
import pytest

from tests.worker.builders import key
from tests.worker.fake_manager import FakeManager, wait_for
from tests.worker.host_driver import state_of
from tests.worker.scenes import Play, run_sleeper, status_of, wait_exit
from tests.worker.worker_process import WorkerProcess
from titan.manager.batches import stop_request_of
from titan.manager.kernel.outbox import Batch
from titan.model import Stop, StopMode
from titan.rpc.v1 import task_pb2, types_pb2
from titan.worker.agent import translate


def test_each_wish_arrives_as_it_was_sent() -> None:
    stops = [
        Stop(key(index=mode), mode, 500, 2, 7_000 if mode is StopMode.LIMIT else 0)
        for mode in StopMode
    ]
    sent = stop_request_of(b"S", Batch(3, [], {}, stops)).SerializeToString()
    arrived = task_pb2.StopTaskRequest.FromString(sent)
    assert (arrived.session, arrived.dispatch_seq) == (b"S", 3)
    assert translate.stops_of(arrived) == tuple(stops)


def test_the_numbers_of_the_modes_are_those_of_the_wire() -> None:
    names = {f"STOP_{mode.name}": int(mode) for mode in StopMode}
    names["STOP_TIME_LIMIT"] = names.pop("STOP_LIMIT")
    assert dict(task_pb2.StopMode.items()) == {"STOP_MODE_UNSPECIFIED": 0, **names}


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        ({"mode": 0}, "0 is not a valid StopMode"),
        ({"mode": 99}, "99 is not a valid StopMode"),
        (
            {"mode": task_pb2.STOP_TIME_LIMIT, "time_limit_ms": -1},
            "-1 ms is no time limit: they are 0 to ten years",
        ),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    play: Play, stop: dict[str, int], sentence: str
) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        code, said = await status_of(manager.wish(key(), **stop))
        assert (code, said) == (grpc.StatusCode.INVALID_ARGUMENT, sentence)

    play(scene)


def test_a_task_is_suspended_resumed_by_the_next_agent_and_given_another_limit(
    play: Play,
) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        await manager.wish(key(), mode=task_pb2.STOP_SUSPEND)
        await wait_for(lambda: state_of(pid) == "T", "the task to stand still")
        worker.kill()
        await wait_exit(worker)
        worker.start()
        await manager.wait_registrations(2)
        await manager.wish(key(), mode=task_pb2.STOP_SUSPEND)
        await manager.wish(key(), mode=task_pb2.STOP_RESUME)
        await wait_for(lambda: state_of(pid) == "S", "the task to go on")
        assert manager.find_report(key()) is None
        await manager.wish(key(), mode=task_pb2.STOP_TIME_LIMIT, time_limit_ms=1)
        report = await manager.wait_report(key())
        assert (report.state, report.reason) == (types_pb2.FAILED, types_pb2.REASON_TIMEOUT)

    play(scene)
