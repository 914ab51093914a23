"""Who may call a worker directly: its user, by the token that it leaves for him."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from tests.worker.fake_manager import FakeManager, wait_for
from tests.worker.scenes import Play, connection_to, status_of, wait_exit
from tests.worker.worker_process import WorkerProcess
from titan.rpc import access
from titan.rpc.v1 import task_pb2, task_pb2_grpc


def files(worker: WorkerProcess) -> list[Path]:
    """The access files that are there: the worker's own first, then those by address."""
    own = worker.path / "access.json"
    by_address = worker.state / "titan" / "access"
    found = sorted(by_address.iterdir()) if by_address.exists() else []
    return [*([own] if own.exists() else []), *found]


async def read_access(worker: WorkerProcess) -> dict[str, Any]:
    """What both files say, which is the same."""
    await wait_for(lambda: len(files(worker)) == 2, "the access files")
    own, by_address = files(worker)
    content: dict[str, Any] = json.loads(own.read_text())
    assert json.loads(by_address.read_text()) == content
    assert by_address.name == f"{content['address']}.json"
    return content


def test_its_user_finds_where_and_with_what_to_call_it(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        content = await read_access(worker)
        (registration,) = manager.registrations
        assert content == {
            "address": registration.address,
            "token": registration.token,
            "directory": str(worker.path),
        }
        assert [path.stat().st_mode & 0o777 for path in files(worker)] == [0o600, 0o600]

    play(scene)


def test_without_the_token_every_call_is_turned_away_with_what_to_do(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        service = task_pb2.DESCRIPTOR.services_by_name["TaskService"]
        async with connection_to(manager.registrations[0].address) as open_channel:
            stub = task_pb2_grpc.TaskServiceStub(open_channel)
            for method in service.methods:
                request = message_factory.GetMessageClass(method.input_type)()
                for metadata in ((), access.metadata("x" * 43)):
                    call = getattr(stub, method.name)(request, metadata=metadata)
                    if method.server_streaming:
                        call = call.read()
                    code, sentence = await status_of(call)
                    assert code == grpc.StatusCode.UNAUTHENTICATED, method.name
                    assert "access.json in the worker's data directory" in sentence
                    assert "titan-access-token" in sentence

    play(scene)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_ends_takes_its_files_away(play: Play, how: signal.Signals) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await read_access(worker)
        worker.send(how)
        assert await wait_exit(worker) == 0
        assert files(worker) == []

    play(scene)


def test_what_a_killed_worker_left_is_replaced_at_its_next_start(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        before = await read_access(worker)
        worker.kill()
        assert len(files(worker)) == 2
        worker.start()
        await manager.wait_registrations(2)
        await wait_for(
            lambda: before != json.loads((worker.path / "access.json").read_text()), "new files"
        )
        after = await read_access(worker)
        assert after["token"] == manager.registrations[1].token != before["token"]

    play(scene)


def test_a_copied_directory_leaves_the_files_of_the_original_alone(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        before = await read_access(worker)
        copy = worker.path.with_name("copy")
        copy.mkdir()
        for name in ("titan.json", "access.json"):
            shutil.copy(worker.path / name, copy / name)
        other = WorkerProcess(copy, manager.address, manager.access_file)
        try:
            other.start(name="w2")
            await manager.wait_registrations(2)
            await wait_for(lambda: len(files(worker)) == 3, "the files of both")
            by_address = worker.state / "titan" / "access" / f"{before['address']}.json"
            assert json.loads(by_address.read_text()) == before
        finally:
            other.close()

    play(scene)


def test_a_token_that_cannot_be_written_keeps_no_worker_from_working(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await read_access(worker)
        worker.send(signal.SIGTERM)
        await wait_exit(worker)
        (worker.path / "access.json").mkdir()
        worker.start()
        await manager.wait_registrations(2)
        await manager.wait_report(await manager.run("true"))
        assert "the access token was not written" in worker.log()

    play(scene)
