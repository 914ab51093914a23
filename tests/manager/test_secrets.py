"""Secrets in the manager: from the submit to the worker, and away with the last end."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.manager.harness import (
    DEADLINE_SECONDS,
    FakeWorker,
    Manager,
    fake_worker,
    running_manager,
    settle,
    submit_request,
    until,
)
from titan import events as ev
from titan.checks import SECRET_BYTES_MAX
from titan.errors import NoRoom
from titan.manager import directory, secret_desk, translate
from titan.manager.dispatch import Dispatcher
from titan.manager.kernel import Kernel, Settings
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_files import SecretFiles
from titan.manager.shell import Shell
from titan.rpc.v1 import manager_pb2, types_pb2, worker_pb2
from titan.state.cluster import ClusterState
from titan.state.replay import replay

VALUE = b"hunter2-and-more"
ID = b"R" * 16


def secret_request(
    jobs: int = 1, *, request_id: bytes = b"", value: bytes = VALUE
) -> manager_pb2.SubmitJobRequest:
    request = submit_request(jobs, request_id=request_id)
    request.environments[0].secrets.add(name=b"TOKEN", value=value)
    return request


async def send(manager: Manager, request: manager_pb2.SubmitJobRequest) -> list[int]:
    answer = await manager.users.SubmitJob(request, metadata=manager.metadata)
    return list(answer.job_ids)


async def end_all(manager: Manager, worker: FakeWorker, session: bytes) -> None:
    """Everything that the worker got has completed."""
    reports: list[worker_pb2.TaskReport] = []
    for request in worker.starts:
        for start in request.starts:
            spec = request.specs[start.spec]
            key = types_pb2.AttemptKey(
                epoch=spec.epoch, job_id=spec.job_id, index=start.index, attempt=start.attempt
            )
            reports.append(
                worker_pb2.TaskReport(
                    seq=len(reports) + 1, key=key, kind=worker_pb2.REPORT_ENDED, exit_code=0,
                    state=types_pb2.COMPLETED, reason=types_pb2.REASON_EXIT, start_us=1, end_us=2,
                )
            )  # fmt: skip
    await manager.workers.ReportTaskStatus(
        worker_pb2.ReportTaskStatusRequest(
            session=session, first_seq=1, last_seq=len(reports), reports=reports
        ),
        metadata=manager.metadata,
    )


def secrets_sent(worker: FakeWorker) -> list[tuple[bytes, bytes]]:
    return [
        (each.name, each.value)
        for request in worker.starts
        for environment in request.environments
        for each in environment.secrets
    ]


def stored(manager: Manager) -> list[ev.EnvironmentStored]:
    return list(manager.shell.kernel.state.environments.values())


def state_of(records: list[bytes]) -> ClusterState:
    state = ClusterState()
    replay(enumerate(records, 1), state)
    return state


def desk_on(path: Path, records: list[bytes]) -> SecretDesk:
    """What a manager has that starts on this folder and that log."""
    dispatcher = Dispatcher()
    kernel = Kernel(state_of(records), Settings())
    return SecretDesk(Shell(kernel, Any, dispatcher), SecretFiles(path))  # type: ignore[arg-type]


def test_the_worker_gets_the_value_and_neither_the_log_nor_whoever_asks_does(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager, fake_worker() as worker:
            answer = await manager.register(worker)
            (job_id,) = await send(manager, secret_request(request_id=ID))
            (file,) = path.iterdir()
            assert VALUE in file.read_bytes()
            (environment,) = stored(manager)
            assert (environment.secret_id.hex(), environment.secret_names) == (
                file.name, (b"TOKEN",),
            )  # fmt: skip
            await until(lambda: worker.starts)
            assert secrets_sent(worker) == [(b"TOKEN", VALUE)]
            selector = manager_pb2.JobSelector(job_id=job_id)
            status = await manager.users.GetJobStatus(
                manager_pb2.GetJobStatusRequest(job=selector, attempts_limit=9, script=True),
                metadata=manager.metadata,
            )
            assert status.job.secret_env == [b"TOKEN"]
            listed = await manager.users.ListJobs(
                manager_pb2.ListJobsRequest(), metadata=manager.metadata
            )
            assert listed.jobs[0].secret_env == [b"TOKEN"]
            await end_all(manager, worker, answer.session)
            await until(lambda: not manager.secrets.size_bytes)
            assert not list(path.iterdir())
            told = [status.SerializeToString(), listed.SerializeToString(), *manager.disk.records]
            assert not any(VALUE in each for each in told)

    asyncio.run(scenario())


def test_nobody_can_test_a_guess_against_what_the_log_says() -> None:
    """The same submit with another value has the same hash, and no digest follows from a value."""
    one, same, other = secret_request(), secret_request(), secret_request(value=b"another")
    for each in (one, same, other):
        each.request_id = ID
        translate.take_secrets(each)
    commands = []
    for request, secret_id in ((one, b"1" * 16), (other, b"1" * 16), (same, b"2" * 16)):
        with pytest.raises(StopIteration) as end:
            next(translate.submit_steps(request, [secret_id]))
        commands.append(end.value.value)
    assert len({each.content for each in commands}) == 1
    assert len({each.size_bytes for each in commands}) == 1
    assert commands[0].environments == commands[1].environments
    assert commands[0].environments[0].digest != commands[2].environments[0].digest


def test_the_file_is_there_before_the_record_and_goes_only_once_the_end_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager, fake_worker() as worker:
            answer = await manager.register(worker)
            await settle()
            manager.disk.held = True
            append, there = manager.disk.append, []

            def look_first(payload: bytes) -> int:
                if b"TOKEN" in payload:
                    there.append([each.name for each in path.iterdir()])
                return append(payload)

            monkeypatch.setattr(manager.disk, "append", look_first)
            submitting = asyncio.create_task(send(manager, secret_request()))
            await until(lambda: there)
            assert there == [[stored(manager)[0].secret_id.hex()]]
            await settle()
            assert not submitting.done()
            assert not worker.starts
            manager.disk.release()
            await submitting
            await until(lambda: worker.starts)
            manager.disk.held = True
            ending = asyncio.create_task(end_all(manager, worker, answer.session))
            await until(lambda: not manager.shell.kernel.state.live_jobs)
            await settle()
            assert len(list(path.iterdir())) == 1
            manager.disk.release()
            await ending
            await until(lambda: not list(path.iterdir()))

    asyncio.run(scenario())


def test_what_a_manager_left_that_was_killed_before_its_record_is_removed_by_the_next_start(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            await send(manager, secret_request(2))
            needed = [each.name for each in path.iterdir()]
            durable = list(manager.disk.records)
            manager.disk.held = True
            submitting = asyncio.create_task(send(manager, secret_request()))
            await until(lambda: len(stored(manager)) == 2)
            assert len(list(path.iterdir())) == 2
            # Of the second submit nothing is durable: the log that the next one finds lacks it.
            desk = desk_on(path, durable)
            assert [each.name for each in path.iterdir()] == needed
            assert desk.size_bytes == 4096
            await desk.close()
            manager.disk.release()
            await submitting

    asyncio.run(scenario())


def test_what_is_needed_no_more_is_removed_by_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager, fake_worker() as worker:
            answer = await manager.register(worker)
            await send(manager, secret_request())
            (file,) = path.iterdir()
            content = file.read_bytes()
            await until(lambda: worker.starts)
            await end_all(manager, worker, answer.session)
            await until(lambda: not file.exists())
            # As if it had been killed in between.
            file.write_bytes(content)
            await desk_on(path, manager.disk.records).close()
            assert not list(path.iterdir())

    asyncio.run(scenario())


def test_a_request_that_comes_again_has_the_same_jobs_and_no_second_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            twice = [send(manager, secret_request(3, request_id=ID)) for _ in range(2)]
            assert await asyncio.gather(*twice) == [[1, 2, 3]] * 2
            await until(lambda: len(list(path.iterdir())) == 1)
            assert await send(manager, secret_request(3, request_id=ID)) == [1, 2, 3]
            # Of each that came again the file is removed by and by.
            await until(lambda: len(list(path.iterdir())) == 1)
            (file,) = path.iterdir()
            assert file.name == stored(manager)[0].secret_id.hex()
            with pytest.raises(grpc.aio.AioRpcError, match="used for something else"):
                await send(manager, secret_request(2, request_id=ID))
            await until(lambda: [file] == list(path.iterdir()))

    asyncio.run(scenario())


def test_a_submit_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            wrong = secret_request()
            wrong.jobs[0].priority = 2_000_000_000
            with pytest.raises(grpc.aio.AioRpcError, match="priority"):
                await send(manager, wrong)
            manager.disk.room = False
            with pytest.raises(grpc.aio.AioRpcError, match="disk is full"):
                await send(manager, secret_request())
            await until(lambda: not list(path.iterdir()) and not manager.secrets.size_bytes)
            assert not stored(manager)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (errno.ENOSPC, grpc.StatusCode.RESOURCE_EXHAUSTED, "no room for secrets"),
        (errno.EIO, grpc.StatusCode.FAILED_PRECONDITION, "can't keep secrets"),
    ],
)
def test_a_disk_that_takes_no_secrets_refuses_the_submit_and_serves_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: Any, words: str
) -> None:
    def failing(descriptor: int) -> None:
        del descriptor
        raise OSError(number, os.strerror(number))

    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", failing)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await send(manager, secret_request())
            assert caught.value.code() is status
            assert words in str(caught.value.details())
            await until(lambda: not list(path.iterdir()) and not manager.secrets.size_bytes)
            assert await send(manager, submit_request(1)) == [1]
            assert await send(manager, secret_request()) == [2]

    asyncio.run(scenario())


def test_the_loop_turns_while_a_slow_disk_writes_and_a_caller_who_leaves_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    write = SecretFiles.write

    def slow(self: SecretFiles, secrets: Any) -> None:
        begun.set()
        goes_on.wait(DEADLINE_SECONDS)
        write(self, secrets)

    monkeypatch.setattr(SecretFiles, "write", slow)

    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            call = manager.users.SubmitJob(secret_request(), metadata=manager.metadata)
            waiting = asyncio.ensure_future(_swallow(call))
            await until(begun.is_set)
            assert await send(manager, submit_request(1)) == [1]
            call.cancel()
            await waiting
            await until(lambda: not manager.doors.submits.calls_inside)
            goes_on.set()
            await until(lambda: not manager.secrets.size_bytes)
            assert not list(path.iterdir())
            assert len(manager.shell.kernel.state.live_jobs) == 1

    asyncio.run(scenario())


async def _swallow(call: Any) -> None:
    try:
        await call
    except (asyncio.CancelledError, grpc.aio.AioRpcError):
        return


def test_where_the_file_is_gone_or_damaged_the_worker_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is kept in the memory, as after a restart.
    monkeypatch.setattr(secret_desk, "KEPT_BYTES_MAX", 0)

    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager, fake_worker() as worker:
            await send(manager, secret_request(value=b"1"))
            for each in path.iterdir():
                each.unlink()
            await send(manager, secret_request(value=b"2"))
            for each in path.iterdir():
                each.write_bytes(b"\xc4\x01x")
            await send(manager, secret_request(value=b"3"))
            await manager.register(worker)
            await until(lambda: sum(len(each.starts) for each in worker.starts) == 3)
            faults = [
                (each.secrets_fault, [(v.name, v.value) for v in each.secrets])
                for request in worker.starts
                for each in request.environments
            ]
            gone = "its secrets are gone from the manager's disk: submit it anew"
            unreadable = "its secrets can't be read from the manager's disk: submit it anew"
            assert faults == [(gone, []), (unreadable, []), ("", [(b"TOKEN", b"3")])]

    asyncio.run(scenario())


def test_a_worker_that_fetches_gets_them_with_the_answer_to_its_heartbeat() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            registered = await manager.workers.RegisterWorker(
                worker_pb2.RegisterWorkerRequest(
                    worker_id=b"W" * 16, instance=b"I" * 16, name="w1", takes_secrets=True,
                    capacity=types_pb2.Resources(cpus_milli=4000),
                ),
                metadata=manager.metadata,
            )  # fmt: skip
            await send(manager, secret_request())
            answer = await manager.workers.Heartbeat(
                worker_pb2.HeartbeatRequest(session=registered.session, wait_ms=20_000),
                metadata=manager.metadata,
            )
            (environment,) = answer.start.environments
            assert [(each.name, each.value) for each in environment.secrets] == [(b"TOKEN", VALUE)]

    asyncio.run(scenario())


def test_a_worker_of_an_older_version_is_sent_no_task_that_it_would_run_without() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await send(manager, secret_request())
            await manager.register(worker, takes_secrets=False)
            await manager.submit()
            await until(lambda: worker.starts)
            await settle()
            assert [[spec.job_id for spec in each.specs] for each in worker.starts] == [[2]]
            status = await manager.users.GetJobStatus(
                manager_pb2.GetJobStatusRequest(
                    job=manager_pb2.JobSelector(job_id=1), attempts_limit=9
                ),
                metadata=manager.metadata,
            )
            assert status.job.state == types_pb2.FAILED
            assert [each.reason for each in status.attempts] == [types_pb2.REASON_LAUNCH_ERROR]
            assert "w1 runs an older Titan" in status.attempts[0].detail

    asyncio.run(scenario())


def test_a_job_that_ended_cannot_be_run_again_without_its_secrets(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager, fake_worker() as worker:
            await send(manager, secret_request(2))
            await manager.users.CancelJob(
                manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(job_id=1)]),
                metadata=manager.metadata,
            )
            again = manager_pb2.RequeueJobRequest(
                user="u", jobs=[manager_pb2.JobSelector(job_id=1)]
            )
            with pytest.raises(grpc.aio.AioRpcError, match="its secrets are gone"):
                await manager.users.RequeueJob(again, metadata=manager.metadata)
            # The other one of the submit still needs them.
            await settle()
            assert len(list(path.iterdir())) == 1
            await manager.register(worker)
            await until(lambda: worker.starts)
            assert secrets_sent(worker) == [(b"TOKEN", VALUE)]

    asyncio.run(scenario())


def _many(request: manager_pb2.SubmitJobRequest) -> None:
    for each in range(translate.SECRETS_PER_REQUEST_MAX):
        request.environments.add().secrets.add(name=b"A", value=b"%d" % each)


def _twice(request: manager_pb2.SubmitJobRequest) -> None:
    request.environments[0].set.add(name=b"TOKEN", value=b"x")


def _again(request: manager_pb2.SubmitJobRequest) -> None:
    request.environments[0].secrets.add(name=b"TOKEN", value=VALUE)


def _zero(request: manager_pb2.SubmitJobRequest) -> None:
    request.environments[0].secrets.add(name=b"A", value=VALUE + b"\0")


def _large(request: manager_pb2.SubmitJobRequest) -> None:
    request.environments[0].secrets.add(name=b"A", value=VALUE * (SECRET_BYTES_MAX // len(VALUE)))


def _name(request: manager_pb2.SubmitJobRequest) -> None:
    request.environments[0].secrets.add(name=b"A=B", value=VALUE)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_many, "more than 256 environments"),
        (_twice, "TOKEN is set twice"),
        (_again, "TOKEN is set twice"),
        (_zero, "the secret A holds a zero byte"),
        (_large, "over the limit of 131072"),
        (_name, "'A=B' cannot be the name"),
    ],
)
def test_what_is_wrong_with_secrets_is_said_without_their_values(
    tmp_path: Path, spoil: Any, words: str
) -> None:
    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            request = secret_request()
            spoil(request)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await send(manager, request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in str(caught.value.details())
            assert VALUE.decode() not in str(caught.value.details())
            await until(lambda: not list(path.iterdir()) and not manager.secrets.size_bytes)
            assert not manager.shell.kernel.state.live_jobs

    asyncio.run(scenario())


def test_what_secrets_may_take_of_the_disk_is_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            shell = manager.shell
            desk = SecretDesk(shell, SecretFiles(tmp_path / "few"), bytes_max=8192)
            await desk.keep({b"1" * 16: {b"A": b"1"}, b"2" * 16: {b"A": b"2"}})
            with pytest.raises(NoRoom, match="secrets of jobs take 8192 bytes"):
                desk.keep({b"3" * 16: {b"A": b"3"}})
            desk.settle([b"1" * 16])
            await until(lambda: desk.size_bytes == 4096)
            await desk.keep({b"3" * 16: {b"A": b"3"}})
            await desk.close()

    asyncio.run(scenario())


def test_a_file_that_cannot_be_removed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_desk, "REMOVE_AGAIN_SECONDS", 0.001)
    remove, tries = SecretFiles.remove, []

    def failing(self: SecretFiles, secret_id: bytes) -> None:
        tries.append(secret_id)
        if len(tries) < 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        remove(self, secret_id)

    monkeypatch.setattr(SecretFiles, "remove", failing)

    async def scenario() -> None:
        path = tmp_path / "secrets"
        async with running_manager(secrets_path=path) as manager:
            await send(manager, secret_request())
            await manager.users.CancelJob(
                manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(job_id=1)]),
                metadata=manager.metadata,
            )
            await until(lambda: not list(path.iterdir()))
            assert len(tries) == 3

    asyncio.run(scenario())


def test_a_disk_that_cannot_be_read_for_a_moment_fails_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_desk, "KEPT_BYTES_MAX", 0)
    monkeypatch.setattr(secret_desk, "READ_PAUSE_SECONDS", 0.001)
    read, left = SecretFiles.read, [secret_desk.READ_TRIES - 1]

    def failing(self: SecretFiles, secret_id: bytes) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(self, secret_id)

    monkeypatch.setattr(SecretFiles, "read", failing)

    async def scenario() -> None:
        async with running_manager(secrets_path=tmp_path / "s") as manager, fake_worker() as worker:
            await manager.register(worker)
            await send(manager, secret_request())
            await until(lambda: worker.starts)
            assert secrets_sent(worker) == [(b"TOKEN", VALUE)]
            left[0] = secret_desk.READ_TRIES
            await send(manager, secret_request())
            await until(lambda: len(worker.starts) == 2)
            assert "can't be read" in worker.starts[1].environments[0].secrets_fault

    asyncio.run(scenario())


def test_a_first_start_that_was_killed_before_it_said_whose_directory_it_is_is_taken_up(
    tmp_path: Path,
) -> None:
    for name in ("lock", "wal", "secrets"):
        (tmp_path / name).mkdir()
    directory.prepare(tmp_path)
    (tmp_path / "secret").mkdir()
    with pytest.raises(directory.DirectoryRefused):
        directory.prepare(tmp_path)
