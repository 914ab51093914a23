"""A real worker, agent and host, against a manager in this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.worker.builders import key
from tests.worker.fake_manager import DEADLINE_SECONDS, FakeManager, wait_for, wire_key
from tests.worker.host_driver import is_running
from tests.worker.scenes import Play, connection_to, run_sleeper, status_of, wait_exit
from tests.worker.worker_process import WorkerProcess
from titan.model import AttemptKey
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc, types_pb2, worker_pb2
from titan.worker import processes


def test_a_worker_says_what_it_is_and_keeps_the_id_it_is_given(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        (request,) = manager.registrations
        assert (request.worker_id, request.name, request.cluster_id) == (b"", "w1", b"")
        assert len(request.instance) == 16
        assert request.boot_id == processes.boot_id()
        assert request.capacity.cpus_milli == 4000
        assert 0 < request.capacity.memory_bytes < 1 << 50
        assert dict(request.capacity.named) == {"gpu": 2}
        assert dict(request.labels) == {"rack": "r1"}
        assert request.output_directory == os.fsencode(worker.path / "output")
        assert request.version
        assert len(request.token) >= 32
        stored = worker.path / "titan.json"
        await wait_for(lambda: json.loads(stored.read_text())["worker_id"], "the id")
        assert json.loads(stored.read_text()) == {
            "role": "worker",
            "format": 1,
            "worker_id": manager.worker_id.hex(),
        }

    play(scene)


def test_a_task_runs_and_its_start_and_end_are_reported(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        attempt = await manager.run("sh", "-c", "echo hello; exit 3")
        report = await manager.wait_report(attempt)
        assert (report.state, report.reason) == (types_pb2.FAILED, types_pb2.REASON_EXIT)
        assert (report.exit_code, report.HasField("signal")) == (3, False)
        assert 0 < report.start_us <= report.end_us
        assert report.detail == "exit code 3"
        # Not one from before the task.
        await wait_for(
            lambda: (
                manager.heartbeats
                and manager.heartbeats[-1].held.dispatch_seq
                and not manager.heartbeats[-1].held.attempts
            ),
            "peace",
        )
        beat = manager.heartbeats[-1]
        assert (beat.held.dispatch_seq, beat.held.report_seq) == (1, 2)
        assert beat.statistics.memory_total_bytes > beat.statistics.memory_used_bytes > 0
        assert beat.statistics.disk_free_bytes > 0

    play(scene)


def test_many_tasks_are_reported_once_each_in_few_calls(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        manager.lose_answers = 2
        await manager.run("/bin/true", indexes=tuple(range(300)), slots=4)
        await wait_for(lambda: manager.report_seq == 600, "all reports")
        ends = [r.key.index for r in manager.reports if r.kind == worker_pb2.REPORT_ENDED]
        assert sorted(ends) == list(range(300))
        assert [r.seq for r in manager.reports] == sorted(r.seq for r in manager.reports)

    play(scene)


def test_a_waiting_and_a_running_attempt_are_held_until_they_are_cancelled(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await manager.run("sleep", "60", indexes=(0, 1), slots=1)
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        states = [worker_pb2.HELD_RUNNING, worker_pb2.HELD_QUEUED]
        await wait_for(
            lambda: (
                manager.heartbeats
                and [each.state for each in manager.heartbeats[-1].held.attempts] == states
            ),
            "both in a heartbeat",
        )
        await manager.cancel(key(index=1))
        await manager.cancel(key(index=0), grace_ms=20_000)
        waiting = await manager.wait_report(key(index=1))
        running = await manager.wait_report(key(index=0))
        for report in (waiting, running):
            assert report.state == types_pb2.CANCELLED
            assert report.reason == types_pb2.REASON_CANCELLED
        assert (waiting.start_us, running.signal) == (0, signal.SIGTERM)

    play(scene)


# Calls to the worker ----------------------------------------------------------------------


def test_a_call_without_the_workers_token_is_turned_away(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with connection_to(manager.registrations[-1].address) as connection:
            tasks = task_pb2_grpc.TaskServiceStub(connection)
            calls: list[Awaitable[object]] = [
                tasks.StartTask(task_pb2.StartTaskRequest()),
                tasks.StopTask(task_pb2.StopTaskRequest(), metadata=(("titan-access-token", "x"),)),
                first_of(tasks.StreamOutput(task_pb2.ReadOutputRequest())),
            ]
            for call in calls:
                code, _ = await status_of(call)
                assert code == grpc.StatusCode.UNAUTHENTICATED

    play(scene)


async def first_of(call: grpc.aio.UnaryStreamCall[Any, Any]) -> object:
    return await call.read()


def test_a_batch_that_comes_again_or_late_is_only_acknowledged(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await manager.run("true", dispatch_seq=5)
        await manager.run("true", dispatch_seq=5)
        await manager.run("true", job_id=2, dispatch_seq=4)
        await manager.wait_report(await manager.run("true", job_id=3, dispatch_seq=6))
        assert {report.key.job_id for report in manager.reports} == {1, 3}

    play(scene)


def test_a_batch_of_another_session_is_refused(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await wait_for(lambda: manager.heartbeats, "a heartbeat")
        code, _ = await status_of(manager.run("true", session=b"another"))
        assert code == grpc.StatusCode.FAILED_PRECONDITION

    play(scene)


def test_a_batch_that_contradicts_itself_is_refused(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        request = task_pb2.StartTaskRequest(
            session=manager.session,
            dispatch_seq=1,
            starts=[task_pb2.TaskStart(spec=3)],
        )
        call = manager.tasks().StartTask(request, metadata=manager.metadata(), wait_for_ready=True)
        assert await status_of(call) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "a start names a spec that is not in the batch",
        )

    play(scene)


def test_health_is_served(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        address = manager.registrations[-1].address
        async with connection_to(address) as connection:
            check = connection.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            for service in ("", "titan.v1.TaskService"):
                answer = await check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    play(scene)


# Output ----------------------------------------------------------------------


def text_of(
    responses: list[manager_pb2.StreamOutputResponse],
    stream: manager_pb2.OutputStream.ValueType = manager_pb2.STDOUT,
) -> bytes:
    return b"".join(each.data for each in responses if each.stream == stream)


def test_output_is_read_from_an_offset_by_stream_or_by_its_last_lines(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        attempt = await manager.run("sh", "-c", "printf 'a\\nb\\nc'; echo e >&2")
        await manager.wait_report(attempt)
        both = await manager.read_output(attempt)
        assert (text_of(both), text_of(both, manager_pb2.STDERR)) == (b"a\nb\nc", b"e\n")
        part = await manager.read_output(attempt, stdout_offset=2, streams=[manager_pb2.STDOUT])
        assert [(each.offset, each.data, each.attempt) for each in part] == [(2, b"b\nc", 1)]
        tail = await manager.read_output(attempt, tail_lines=2)
        assert (text_of(tail), text_of(tail, manager_pb2.STDERR)) == (b"b\nc", b"e\n")

    play(scene)


def test_output_is_followed_until_the_attempt_has_ended(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        gate = worker.path / "gate"
        os.mkfifo(gate)
        await manager.run("sh", "-c", f"echo first; cat {gate}; echo last")
        reading = asyncio.ensure_future(manager.read_output(key(), follow=True))
        output = worker.path / "output" / "1" / "0" / "0.1.out"
        await wait_for(lambda: output.exists() and output.read_bytes(), "the first line")
        assert not reading.done()
        with gate.open("w") as pipe:
            pipe.write("middle\n")
        assert text_of(await reading) == b"first\nmiddle\nlast\n"

    play(scene)


def test_large_output_comes_in_chunks_and_whole(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        attempt = await manager.run("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")
        chunks = await manager.read_output(attempt, follow=True)
        assert text_of(chunks) == b"x" * 1_000_000
        assert max(len(each.data) for each in chunks) <= 256 * 1024

    play(scene)


def test_an_attempt_that_was_never_here_is_not_found_and_one_that_waits_is_empty(
    play: Play,
) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        code, sentence = await status_of(manager.read_output(AttemptKey(1, 77, 5, 2)))
        assert code == grpc.StatusCode.NOT_FOUND
        assert sentence == "no output of attempt 2 of task 77.5 here"
        await manager.run("sleep", "60", slots=0)
        assert await manager.read_output(key()) == []

    play(scene)


# The manager goes away ----------------------------------------------------------------------


def binds(held: socket.socket, port: int) -> bool:
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):
        held.bind(("127.0.0.1", port))
        return True
    return False


def test_tasks_run_on_without_the_manager_and_are_reported_when_it_is_back(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        gate = worker.path / "gate"
        os.mkfifo(gate)
        attempt = await manager.run("sh", "-c", f"cat {gate}; exit 6")
        await manager.wait_report(attempt, worker_pb2.REPORT_STARTED)
        await manager.stop()
        with gate.open("w"):
            pass
        with socket.socket() as held:
            # Without listening, so that nobody else is given the port.
            await wait_for(lambda: binds(held, manager.port), "the port to be free")
            await wait_for(lambda: "lost the manager" in worker.log(), "the agent to notice")
        await manager.start()
        assert (await manager.wait_report(attempt)).exit_code == 6
        again = await manager.wait_registrations(2)
        assert again.worker_id == manager.worker_id
        assert again.cluster_id == manager.cluster_id
        assert [each.key for each in again.held.attempts] == [wire_key(attempt)]
        assert worker.log().count("lost the manager") == 1
        assert worker.log().count("the manager is back") == 1

    play(scene)


def test_an_unknown_session_is_registered_again_without_a_break(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        manager.session = b"gone"
        again = await manager.wait_registrations(2)
        assert [each.state for each in again.held.attempts] == [worker_pb2.HELD_RUNNING]
        assert is_running(pid)

    play(scene)


def test_a_refused_worker_says_why_and_keeps_its_tasks(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        manager.refuse["RegisterWorker"] = [grpc.StatusCode.FAILED_PRECONDITION]
        manager.session = b"gone"
        await wait_for(
            lambda: "ERROR the manager refuses this worker: refused by the test" in worker.log(),
            "the refusal in the log",
        )
        assert is_running(pid)

    play(scene)


def test_a_restarted_managers_new_token_is_read(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        manager.token = "another token"
        manager.write_token()
        again = await manager.wait_registrations(2)
        assert again.worker_id == manager.worker_id

    play(scene)


# The worker goes away ----------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_new_agent_takes_up_the_tasks_of_one_that_ended(play: Play, how: signal.Signals) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        before = time.monotonic()
        worker.send(how)
        assert await wait_exit(worker) == (0 if how == signal.SIGTERM else -how)
        # It waits neither for its tasks, which take a minute, nor in vain for anybody else.
        assert time.monotonic() - before < 30
        assert "do not answer" not in worker.log()
        assert is_running(pid)
        assert manager.deregistered == []
        worker.start()
        again = await manager.wait_registrations(2)
        assert again.instance == manager.registrations[0].instance
        assert again.worker_id == manager.worker_id, "the id it was given at first is its for good"
        assert again.token != manager.registrations[0].token
        assert [each.state for each in again.held.attempts] == [worker_pb2.HELD_RUNNING]
        await manager.cancel(key())
        assert (await manager.wait_report(key())).state == types_pb2.CANCELLED
        assert not is_running(pid)

    play(scene)


def test_sigint_hands_the_tasks_back(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        await manager.run("true", job_id=2, slots=0)
        host_pid = worker.host_pid()
        worker.send(signal.SIGINT)
        assert await wait_exit(worker) == 0
        assert manager.deregistered == [manager.session]
        assert [r for r in manager.reports if r.kind != worker_pb2.REPORT_STARTED] == []
        assert not is_running(pid)
        assert not is_running(host_pid)

    play(scene)


def test_a_second_sigint_does_not_wait_for_the_tasks(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        worker.kill()
        # Longer than anything here is waited for.
        worker.start(leave_grace_ms=600_000)
        await manager.wait_registrations(2)
        ready = worker.path / "output" / "1" / "0" / "0.1.out"
        await manager.run("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.01; done")
        await wait_for(lambda: ready.exists() and ready.read_bytes(), "the task")
        worker.send(signal.SIGINT)
        await wait_for(lambda: "leaving" in worker.log(), "the first signal")
        worker.send(signal.SIGINT)
        pid = int(ready.read_text())
        await wait_for(lambda: not is_running(pid), "the task to be killed")
        assert await wait_exit(worker) == 0

    play(scene)


def test_a_dead_host_is_replaced_and_the_manager_sees_another_instance(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        os.kill(worker.host_pid(), signal.SIGKILL)
        again = await manager.wait_registrations(2)
        assert again.instance != manager.registrations[0].instance
        assert list(again.held.attempts) == []
        assert not is_running(pid)
        await manager.wait_report(await manager.run("true", job_id=2))

    play(scene)


# Directories ----------------------------------------------------------------------


def test_a_second_worker_on_the_directory_is_told_who_has_it(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        assert worker.process is not None
        holder = worker.process.pid
        second = WorkerProcess(worker.path, manager.address, manager.access_file)
        second.start()
        assert await wait_exit(second) == 1
        assert f"is in use by another worker (pid {holder})" in second.log()

    play(scene)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", "mine", "is not empty and has no titan.json"),
        ("titan.json", '{"role": "manager", "format": 1}', "is a manager's directory"),
        ("titan.json", '{"role": "worker", "format": 9}', "has format 9, this version knows 1"),
        ("titan.json", "{", "cannot be read"),
    ],
)
def test_a_directory_that_is_not_a_workers_is_left_alone(
    tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    path = tmp_path / "worker"
    path.mkdir()
    (path / name).write_text(content)
    worker = WorkerProcess(path, "127.0.0.1:1", tmp_path / "access.json")
    worker.start()
    assert worker.process is not None
    assert worker.process.wait(DEADLINE_SECONDS) == 1
    assert sentence in worker.log()
    assert os.listdir(path) == [name]


@pytest.mark.parametrize(
    ("manager", "listen", "sentence"),
    [
        ("nowhere", "127.0.0.1:0", "'nowhere' is not HOST:PORT"),
        ("127.0.0.1:1,", "127.0.0.1:0", "'' is not HOST:PORT"),
        ("127.0.0.1:1", "0.0.0.0:0", "can be reached from other machines"),
    ],
)
def test_an_address_that_cannot_be_used_ends_the_worker_with_a_sentence(
    tmp_path: Path, manager: str, listen: str, sentence: str
) -> None:
    worker = WorkerProcess(tmp_path / "worker", manager, tmp_path / "access.json")
    worker.start(listen=listen)
    assert worker.process is not None
    assert worker.process.wait(DEADLINE_SECONDS) == 1
    assert sentence in worker.log()
    assert not (tmp_path / "worker").exists()


def test_an_address_that_is_taken_ends_the_worker_with_a_sentence(play: Play) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
            second = WorkerProcess(
                worker.path.with_name("second"), manager.address, manager.access_file
            )
            second.start(listen=address)
            assert await wait_exit(second) == 1
            assert f"cannot listen on {address}" in second.log()

        play(scene)
