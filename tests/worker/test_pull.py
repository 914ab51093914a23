"""A worker that its manager cannot call: it fetches what it is to do, and pushes what is asked."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from tests.worker.builders import key
from tests.worker.fake_manager import FakeManager, wait_for, wire_key
from tests.worker.scenes import Play, Scene, run_sleeper
from tests.worker.worker_process import WorkerProcess
from titan.model import AttemptKey
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2, worker_pb2


@pytest.fixture
def fetch(tmp_path: Path) -> Iterator[Play]:
    """As `play`, with a worker that listens nowhere."""
    workers: list[WorkerProcess] = []

    async def run(scene: Scene) -> None:
        manager = FakeManager(tmp_path)
        await manager.start()
        worker = WorkerProcess(tmp_path / "worker", manager.address, manager.access_file)
        workers.append(worker)
        try:
            worker.start(listen="")
            await manager.wait_registrations(1)
            await scene(manager, worker)
        finally:
            manager.leave.set()
            await manager.stop()

    yield lambda scene: asyncio.run(run(scene))
    for worker in workers:
        worker.close()


def answer(**fields: object) -> worker_pb2.HeartbeatResponse:
    """Of a manager that waited."""
    return worker_pb2.HeartbeatResponse(waited=True, **fields)  # type: ignore[arg-type]


def output_question(number: int, **fields: object) -> worker_pb2.OutputQuestion:
    request = task_pb2.ReadOutputRequest(key=wire_key(key()), **fields)  # type: ignore[arg-type]
    return worker_pb2.OutputQuestion(number=number, request=request)


def test_it_listens_nowhere_and_says_so(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        (registration,) = manager.registrations
        assert (registration.address, registration.token) == ("", "")
        await wait_for(lambda: manager.heartbeats, "a heartbeat")
        assert worker.process is not None
        connections = psutil.Process(worker.process.pid).net_connections("inet")
        assert not [each for each in connections if each.status == psutil.CONN_LISTEN]
        assert not (worker.path / "access.json").exists()
        assert not (worker.state / "titan" / "access").exists()
        assert "listens nowhere" in worker.log()

    fetch(scene)


def test_the_next_heartbeat_goes_as_soon_as_the_last_is_answered(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await wait_for(lambda: manager.heartbeats, "a heartbeat")
        assert manager.heartbeats[0].wait_ms == 50
        # Longer than the test: what comes in it comes since the one before was answered.
        manager.heartbeat_interval_ms = 60_000
        manager.to_fetch += [answer()] * 3
        manager.session = b"gone"
        await manager.wait_registrations(2)

        def waits() -> list[int]:
            return [each.wait_ms for each in manager.heartbeats if each.wait_ms > 50]

        # One of the answers may have gone to the session before.
        await wait_for(lambda: len(waits()) >= 3, "one and two more")

    fetch(scene)


def test_what_the_answer_brings_is_started_stopped_and_acknowledged(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        manager.to_fetch.append(answer(start=manager.start_request("sleep", "60")))
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        await wait_for(lambda: manager.heartbeats[-1].held.dispatch_seq == 1, "the number")
        stop = task_pb2.TaskStop(key=wire_key(key()), mode=task_pb2.STOP_CANCEL)
        request = task_pb2.StopTaskRequest(session=manager.session, dispatch_seq=2, stops=[stop])
        manager.to_fetch.append(answer(stop=request))
        assert (await manager.wait_report(key())).state == types_pb2.CANCELLED
        await wait_for(lambda: manager.heartbeats[-1].held.dispatch_seq == 2, "the number")

    fetch(scene)


def test_a_batch_that_comes_twice_runs_once(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        gate = worker.path.with_name("gate")
        command = ("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.01; done")
        first = manager.start_request(*command)
        manager.to_fetch += [
            answer(start=first),
            answer(start=first),
            answer(start=manager.start_request(*command)),
        ]
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        await wait_for(lambda: manager.heartbeats[-1].held.dispatch_seq == 2, "the number")
        gate.touch()
        await manager.wait_report(key())
        await manager.wait_report(await start(manager, "true", job_id=2))
        assert manager.report_seq == 4

    fetch(scene)


def test_a_batch_that_makes_no_sense_is_said_and_not_asked_for_in_a_tight_loop(
    fetch: Play,
) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        wrong = manager.start_request("true")
        wrong.starts[0].spec = 7
        # Far more than the bound below: one that goes late comes nearer to the next.
        manager.heartbeat_interval_ms = 1_000
        manager.session = b"gone"
        await manager.wait_registrations(2)
        wrong.session = manager.session
        beats = len(manager.heartbeats)
        manager.to_fetch += [answer(start=wrong)] * 2
        before = asyncio.get_running_loop().time()
        await wait_for(lambda: not manager.to_fetch, "both")
        await wait_for(lambda: len(manager.heartbeats) >= beats + 3, "a third")
        assert asyncio.get_running_loop().time() - before > 0.25
        await manager.wait_report(await start(manager, "true"))

    fetch(scene)


async def start(manager: FakeManager, *command: str, job_id: int = 1) -> AttemptKey:
    manager.to_fetch.append(answer(start=manager.start_request(*command, job_id=job_id)))
    return key(job_id)


def chunks_of(manager: FakeManager, number: int) -> bytes:
    return b"".join(each.chunk.data for each in manager.pushed.get(number, []))


def test_output_is_pushed_from_where_it_was_asked_for_and_followed(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        gate = worker.path.with_name("gate")
        script = f"echo one; while [ ! -e {gate} ]; do sleep 0.01; done; echo two"
        await start(manager, "sh", "-c", script)
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        manager.to_fetch.append(answer(outputs=[output_question(1, follow=True)]))
        await wait_for(lambda: chunks_of(manager, 1) == b"one\n", "the first line")
        # The same question again is the same stream.
        manager.to_fetch.append(answer(outputs=[output_question(1, follow=True)]))
        await wait_for(lambda: not manager.to_fetch, "the answer")
        # It has been looked at when the next heartbeat comes; after the end it were another stream.
        beats = len(manager.heartbeats)
        await wait_for(lambda: len(manager.heartbeats) > beats, "a heartbeat")
        gate.touch()
        await wait_for(lambda: manager.pushed[1][-1].HasField("end"), "the end")
        assert chunks_of(manager, 1) == b"one\ntwo\n"
        assert manager.pushed[1][-1].end == worker_pb2.PushOutputEnd()
        assert manager.push_calls == 1
        await manager.wait_report(key())
        questions = [
            output_question(2, stdout_offset=4), output_question(3, tail_lines=1),
            output_question(4, streams=[manager_pb2.STDERR]),
        ]  # fmt: skip
        manager.to_fetch.append(answer(outputs=questions))
        for number, expected in ((2, b"two\n"), (3, b"two\n"), (4, b"")):
            await wait_for(lambda: manager.pushed.get(number), "something")  # noqa: B023
            await wait_for(lambda: manager.pushed[number][-1].HasField("end"), "it")  # noqa: B023
            assert chunks_of(manager, number) == expected

    fetch(scene)


def test_output_that_is_not_here_is_said_so(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        manager.to_fetch.append(answer(outputs=[output_question(1)]))
        (end,) = await wait_for(lambda: manager.pushed.get(1), "the answer")
        assert end.end.not_found
        assert "no output of attempt 1 of task 1.0" in end.end.failure

    fetch(scene)


def test_a_stream_that_nobody_reads_any_more_ends_on_the_worker_too(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await start(manager, "sh", "-c", "echo one; exec sleep 60")
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        manager.to_fetch.append(answer(outputs=[output_question(1, follow=True)]))
        await wait_for(lambda: chunks_of(manager, 1) == b"one\n", "the line")
        assert worker.process is not None
        agent = psutil.Process(worker.process.pid)
        output = str(worker.path / "output" / "1" / "0" / "0.1.out")

        def is_open() -> bool:
            return output in [each.path for each in agent.open_files()]

        assert is_open()
        manager.leave.set()
        await wait_for(lambda: not is_open(), "the file is closed")

    fetch(scene)


def test_what_tasks_use_is_pushed(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await start(manager, "sleep", "60")
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        request = task_pb2.GetTaskStatusRequest(keys=[wire_key(key())])
        for number in itertools.count(5):
            question = worker_pb2.TaskStatusQuestion(number=number, request=request)
            manager.to_fetch.append(answer(statuses=[question]))
            (pushed,) = await wait_for(lambda: manager.statuses, "the answer")
            manager.statuses.clear()
            assert (pushed.session, pushed.number) == (manager.session, number)
            (task,) = pushed.status.tasks
            assert (task.key, task.state) == (wire_key(key()), types_pb2.RUNNING)
            # Of what just became another program the kernel may have counted nothing yet.
            if task.rss_bytes > 0:
                break

    fetch(scene)


def test_a_killed_agent_goes_on_fetching_with_its_tasks(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await start(manager, "sleep", "60")
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        worker.kill()
        worker.start(listen="")
        again = await manager.wait_registrations(2)
        assert again.address == ""
        assert [each.state for each in again.held.attempts] == [worker_pb2.HELD_RUNNING]
        await manager.wait_report(await start(manager, "true", job_id=2))

    fetch(scene)


def test_one_that_cannot_be_called_learns_it_and_registers_without_an_address(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        assert manager.heartbeats == [] or manager.heartbeats[-1].wait_ms == 0
        address = manager.registrations[0].address
        manager.to_fetch.append(worker_pb2.HeartbeatResponse(cannot_call="connection refused"))
        again = await manager.wait_registrations(2)
        assert again.address == ""
        assert [each.key.job_id for each in again.held.attempts] == [1]
        assert (
            "WARNING the manager cannot call this worker (connection refused): from now on it "
            "fetches its tasks from the manager"
        ) in worker.log()
        await manager.wait_report(await start(manager, "true", job_id=2))
        assert psutil.pid_exists(pid)
        # Its user may call it all the same, and the manager's new session changes nothing.
        content = json.loads((worker.path / "access.json").read_text())
        assert content["address"] == address
        manager.session = b"gone"
        assert (await manager.wait_registrations(3)).address == ""

    play(scene)


def test_an_answer_that_takes_too_long_is_given_up_and_asked_for_again(fetch: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        manager.refuse["Heartbeat"] = [grpc.StatusCode.UNAVAILABLE] * 3
        await wait_for(lambda: not manager.refuse["Heartbeat"], "the refusals")
        await manager.wait_report(await start(manager, "true"))

    fetch(scene)
