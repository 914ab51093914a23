"""A worker used by its user: programs are started, asked about and stopped without a manager."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.worker.builders import key
from tests.worker.fake_manager import DEADLINE_SECONDS, FakeManager, wait_for, wire_key
from tests.worker.host_driver import is_running
from tests.worker.scenes import Play, connection_to, run_sleeper, status_of, wait_exit
from tests.worker.worker_process import WorkerProcess
from titan import paths
from titan.rpc import access
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc, types_pb2, worker_pb2


class User:
    """Calls the worker as its user does: by what the access file says."""

    def __init__(self, worker: WorkerProcess, open_channel: grpc.aio.Channel, token: str) -> None:
        self.worker = worker
        self.stub = task_pb2_grpc.TaskServiceStub(open_channel)
        self._metadata = access.metadata(token)

    async def start(self, *command: str, **spec: Any) -> types_pb2.AttemptKey:
        """One program."""
        words = [word.encode() for word in command]
        request = task_pb2.StartTaskRequest(specs=[task_pb2.TaskSpec(command=words, **spec)])
        (started,) = (await self.stub.StartTask(request, metadata=self._metadata)).keys
        return started

    async def send(self, request: task_pb2.StartTaskRequest) -> task_pb2.StartTaskResponse:
        return await self.stub.StartTask(request, metadata=self._metadata)

    async def stop(self, *keys: types_pb2.AttemptKey, **stop: Any) -> None:
        stops = [task_pb2.TaskStop(**{"key": each, "mode": task_pb2.STOP_CANCEL, **stop})
                 for each in keys]  # fmt: skip
        request = task_pb2.StopTaskRequest(stops=stops)
        await self.stub.StopTask(request, metadata=self._metadata)

    async def statuses(
        self, *keys: types_pb2.AttemptKey, **page: Any
    ) -> task_pb2.GetTaskStatusResponse:
        request = task_pb2.GetTaskStatusRequest(keys=keys, **page)
        return await self.stub.GetTaskStatus(request, metadata=self._metadata)

    async def status(self, which: types_pb2.AttemptKey) -> task_pb2.TaskStatus:
        (found,) = (await self.statuses(which)).tasks
        return found

    async def wait_status(
        self, which: types_pb2.AttemptKey, find: Callable[[task_pb2.TaskStatus], object]
    ) -> task_pb2.TaskStatus:
        """The status as soon as that is true of it."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not find(found := await self.status(which)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def wait_end(self, which: types_pb2.AttemptKey) -> task_pb2.TaskStatus:
        return await self.wait_status(which, lambda each: each.end_us)

    async def output(self, which: types_pb2.AttemptKey, **fields: Any) -> bytes:
        request = task_pb2.ReadOutputRequest(key=which, **fields)
        chunks = self.stub.StreamOutput(request, metadata=self._metadata)
        return b"".join([chunk.data async for chunk in chunks])


@asynccontextmanager
async def user_of(worker: WorkerProcess) -> AsyncIterator[User]:
    """Its user, once it may be called."""
    path = worker.path / "access.json"
    content = await wait_for(lambda: paths.read_json(path), "the access file")
    async with connection_to(content["address"]) as open_channel:
        yield User(worker, open_channel, content["token"])


def test_a_program_runs_now_and_how_it_ended_is_known_afterwards(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            started = await user.start("sh", "-c", "echo $TITAN_JOB_ID; pwd; exit 3", cwd=b"/usr")
            assert started == types_pb2.AttemptKey(epoch=0, job_id=-1, index=0, attempt=1)
            end = await user.wait_end(started)
            assert (end.state, end.reason) == (types_pb2.FAILED, types_pb2.REASON_EXIT)
            assert (end.exit_code, end.HasField("signal"), end.detail) == (3, False, "exit code 3")
            assert list(end.command) == [b"sh", b"-c", b"echo $TITAN_JOB_ID; pwd; exit 3"]
            assert end.cwd == b"/usr"
            assert 0 < end.start_us <= end.end_us
            assert (end.pid, end.processes, end.HasField("rss_bytes")) == (0, 0, False)
            assert end.max_rss_bytes > 0
            written = await asyncio.to_thread(Path(os.fsdecode(end.stdout_path)).read_bytes)
            assert written == b"-1\n/usr\n"
            assert await user.output(started) == b"-1\n/usr\n"
            assert await user.start("true") == types_pb2.AttemptKey(job_id=-2, attempt=1)

    play(scene)


def test_the_manager_hears_nothing_of_it_and_its_own_reports_have_no_gaps(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            before = await user.start("true")
            await user.wait_end(before)
            running = await user.start("sleep", "60")
            # No slot is left for the manager's second task, and none is taken by the program.
            attempt = await manager.run("true", indexes=(0,), slots=1)
            await manager.wait_report(attempt)
            await user.wait_end(await user.start("false"))
            await manager.wait_report(await manager.run("true", job_id=2))
            beats = len(manager.heartbeats)
            await wait_for(lambda: len(manager.heartbeats) > beats + 1, "heartbeats")
            # Two starts and two ends; a start may be told by its end.
            assert {report.seq for report in manager.reports} - {1, 3} == {2, 4}
            assert manager.report_seq == 4
            assert all(report.key.job_id > 0 for report in manager.reports)
            assert not any(
                each.key.job_id < 0 for beat in manager.heartbeats for each in beat.held.attempts
            )
            assert manager.heartbeats[-1].held.report_seq == 4
            assert (await user.status(running)).state == types_pb2.RUNNING

    play(scene)


def test_what_runs_is_measured_with_its_children(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            code = "x = bytearray(64 << 20)\nwhile True: pass"
            script = f"python3 -c '{code}' & sleep 60; wait"
            started = await user.start("sh", "-c", script)
            found = await user.wait_status(
                started,
                lambda each: (
                    each.processes >= 3 and each.rss_bytes > 64 << 20 and each.cpu_user_us > 200_000
                ),
            )
            assert found.state == types_pb2.RUNNING
            assert found.pid > 1
            assert found.start_us > 0
            assert found.processes == 3
            assert found.max_rss_bytes >= found.rss_bytes
            later = await user.wait_status(
                started, lambda each: each.cpu_user_us > found.cpu_user_us
            )
            assert later.cpu_system_us >= found.cpu_system_us
            await user.stop(started)
            end = await user.wait_end(started)
            assert (end.state, end.reason) == (types_pb2.CANCELLED, types_pb2.REASON_CANCELLED)

    play(scene)


def test_the_managers_attempts_are_told_too_and_are_not_a_users_to_stop(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        await manager.run("true", job_id=7, slots=0)
        async with user_of(worker) as user:
            direct = await user.start("sleep", "60")
            found = (await user.statuses()).tasks
            assert [(each.key.job_id, each.state) for each in found] == [
                (-1, types_pb2.RUNNING),
                (1, types_pb2.RUNNING),
                (7, types_pb2.SCHEDULED),
            ]
            assert found[1].pid == pid
            assert found[1].processes == 1
            # Of what just became another program the kernel may have counted nothing yet.
            await user.wait_status(wire_key(key()), lambda each: each.rss_bytes > 0)
            assert list(found[2].command) == [b"true"]
            code, sentence = await status_of(user.stop(wire_key(key())))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert "`titan cancel`" in sentence
            page = await user.statuses(limit=1)
            assert (page.tasks[0].key, page.more) == (direct, True)
            page = await user.statuses(limit=2, after=direct)
            assert ([each.key.job_id for each in page.tasks], page.more) == ([1, 7], False)
            unknown = types_pb2.AttemptKey(job_id=-99, attempt=1)
            assert not (await user.statuses(unknown)).tasks

    play(scene)


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            script = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
            started = await user.start("sh", "-c", script)
            chunks = user.stub.StreamOutput(
                task_pb2.ReadOutputRequest(key=started, follow=True), metadata=user._metadata
            )
            chunk = await chunks.read()
            assert isinstance(chunk, manager_pb2.StreamOutputResponse)
            pid = int(chunk.data)
            await user.stop(started, grace_ms=100)
            # The follower is told that it is over.
            assert await chunks.read() == grpc.aio.EOF
            end = await user.wait_end(started)
            assert (end.state, end.signal) == (types_pb2.CANCELLED, signal.SIGKILL)
            assert not is_running(pid)
            # Again: it has ended.
            await user.stop(started)
            unknown = types_pb2.AttemptKey(job_id=-99, attempt=1)
            code, sentence = await status_of(user.stop(unknown))
            assert (code, sentence) == (
                grpc.StatusCode.NOT_FOUND, "no program -99 was started here",
            )  # fmt: skip

    play(scene)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_new_agent_knows_what_runs_and_what_ended(play: Play, how: signal.Signals) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            ended = await user.start("sh", "-c", "exit 5")
            await user.wait_end(ended)
            running = await user.start("sleep", "60")
            pid = (await user.wait_status(running, lambda each: each.pid)).pid
        worker.send(how)
        await wait_exit(worker)
        assert is_running(pid)
        (worker.path / "access.json").unlink(missing_ok=True)
        worker.start()
        again = await manager.wait_registrations(2)
        assert not again.held.attempts
        assert not again.cluster_id
        async with user_of(worker) as user:
            assert (await user.status(ended)).exit_code == 5
            found = await user.status(running)
            assert (found.state, found.pid) == (types_pb2.RUNNING, pid)
            await user.stop(running)
            assert (await user.wait_end(running)).state == types_pb2.CANCELLED
            # A number is never given twice.
            assert (await user.start("true")).job_id == -3

    play(scene)


def test_what_a_killed_host_ran_is_stopped_and_told_as_lost(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            ended = await user.start("sh", "-c", "exit 5")
            await user.wait_end(ended)
            running = await user.start("sleep", "60")
            pid = (await user.wait_status(running, lambda each: each.pid)).pid
            os.kill(worker.host_pid(), signal.SIGKILL)
            again = await manager.wait_registrations(2)
            assert not again.held.attempts
            assert not is_running(pid)
            lost = await user.status(running)
            assert (lost.state, lost.reason) == (types_pb2.LOST, types_pb2.REASON_WORKER_LOST)
            assert lost.detail == "its task host was killed; it was stopped"
            assert list(lost.command) == [b"sleep", b"60"]
            assert (await user.status(ended)).exit_code == 5
            assert (await user.start("true")).job_id == -3
            assert not manager.reports

    play(scene)


def test_a_worker_that_leaves_stops_its_programs_and_remembers_that(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            started = await user.start("sleep", "60")
            pid = (await user.wait_status(started, lambda each: each.pid)).pid
        worker.send(signal.SIGINT)
        assert await wait_exit(worker) == 0
        assert not is_running(pid)
        worker.start()
        await manager.wait_registrations(2)
        async with user_of(worker) as user:
            end = await user.status(started)
            assert (end.state, end.signal) == (types_pb2.CANCELLED, signal.SIGTERM)

    play(scene)


def test_a_time_limit_and_an_environment_hold_for_a_program(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            variable = types_pb2.Variable(name=b"A", value=b"b")
            request = request_of(
                # Not both in one: the limit may be over before a shell has said a word.
                spec(b"sh", b"-c", b"echo $A"),
                spec(b"sleep", b"60", time_limit_ms=200),
                spec(b"/no/such/program"),
                environments=[types_pb2.Environment(set=[variable])],
            )
            speaking, limited, missing = (await user.send(request)).keys
            end = await user.wait_end(limited)
            assert (end.state, end.reason) == (types_pb2.FAILED, types_pb2.REASON_TIMEOUT)
            await user.wait_end(speaking)
            assert await user.output(speaking) == b"b\n"
            end = await user.wait_end(missing)
            assert end.reason == types_pb2.REASON_LAUNCH_ERROR
            assert end.detail == "cannot run /no/such/program on w1: No such file or directory"
            assert end.start_us == 0

    play(scene)


def test_a_program_may_be_a_script_that_is_sent_with_it(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            request = request_of(
                spec(b"job.sh", b"x", execution=SENT),
                environments=[types_pb2.Environment(script=b'#!/bin/sh\necho "$1"\n')],
            )
            (key,) = (await user.send(request)).keys
            assert (await user.wait_end(key)).state == types_pb2.COMPLETED
            assert await user.output(key) == b"x\n"

    play(scene)


SENT = types_pb2.Execution(script_source=types_pb2.SCRIPT_SENT)


def request_of(*specs: task_pb2.TaskSpec, **fields: Any) -> task_pb2.StartTaskRequest:
    return task_pb2.StartTaskRequest(specs=specs, **fields)


def spec(*command: bytes, **fields: Any) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(command=command, **fields)


AS_BATCH = types_pb2.Execution(run_as="batch")
NO_NETWORK = types_pb2.Execution(no_network=True)
WRONG = [
    (request_of(), "1 to 1000 specs"),
    (request_of(*[spec(b"a")] * 1_001), "1 to 1000 specs"),
    (request_of(spec()), "the command is empty"),
    (request_of(spec(b"a\0")), "an argument holds a zero byte"),
    (request_of(spec(b"a", cwd=b"x")), "the working directory 'x' is no absolute path"),
    (request_of(spec(b"a", job_id=7)), "are the worker's to give"),
    (request_of(spec(b"a", environment=1)), "an environment that is not in the request"),
    (request_of(spec(b"a", time_limit_ms=9, end_signal=99)), "99 is no signal"),
    (request_of(spec(b"a"), starts=[task_pb2.TaskStart()]), "no starts, slots and dispatch_seq"),
    (request_of(spec(b"job.sh", execution=SENT)), "the script job.sh is empty"),
    (request_of(spec(b"a", execution=types_pb2.Execution(script_source=9))), "no known way"),  # type: ignore[arg-type]
    (request_of(spec(b"a", user="ada", execution=AS_BATCH)), "nobody's name is proven"),
    (request_of(spec(b"a", execution=NO_NETWORK)), "add --sandbox bubblewrap"),
    (request_of(spec(b"a"), dispatch_seq=1), "no starts, slots and dispatch_seq"),
]


def test_what_cannot_be_started_is_refused_with_what_is_wrong(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            for request, sentence in WRONG:
                code, said = await status_of(user.send(request))
                assert code == grpc.StatusCode.INVALID_ARGUMENT, request
                assert sentence in said
            assert not (await user.statuses()).tasks

    play(scene)


def test_more_programs_than_a_worker_runs_at_once_are_refused(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            spec = task_pb2.TaskSpec(command=[b"sleep", b"60"])
            first = (await user.send(task_pb2.StartTaskRequest(specs=[spec]))).keys[0]
            code, said = await status_of(user.send(task_pb2.StartTaskRequest(specs=[spec] * 1_000)))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert said == (
                "no more than 1000 programs run at once that clients started; nothing was started"
            )
            assert [each.key for each in (await user.statuses()).tasks] == [first]

    play(scene)


def test_the_service_describes_itself(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        address = manager.registrations[0].address
        async with connection_to(address) as open_channel:
            # Its stubs know nothing of asyncio.
            untyped: Any = open_channel
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            answers = stub.ServerReflectionInfo(iter([ask]))
            listed = (await answers.read()).list_services_response.service
            assert "titan.v1.TaskService" in [each.name for each in listed]

    play(scene)


def test_a_manager_is_answered_while_programs_are_measured(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        async with user_of(worker) as user:
            for _ in range(20):
                await user.start("sleep", "60")
            attempt = await manager.run("sleep", "60")
            await manager.wait_report(attempt, worker_pb2.REPORT_STARTED)
            found = (await user.statuses()).tasks
            assert len(found) == 21
            assert all(each.processes == 1 for each in found)
            for each in found:
                # Of what was just started the kernel may have counted nothing yet.
                await user.wait_status(each.key, lambda status: status.rss_bytes > 0)

    play(scene)
