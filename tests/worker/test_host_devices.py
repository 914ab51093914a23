"""The devices of real tasks, and what these are told of them, by a real task host and worker."""

from __future__ import annotations

import os
import signal

import grpc
import pytest

from tests.worker.builders import batch, key, launch
from tests.worker.fake_manager import FakeManager, wait_for
from tests.worker.host_driver import HostDriver
from tests.worker.scenes import Play, connection_to, status_of, wait_exit
from tests.worker.worker_process import WorkerProcess
from titan.model import AttemptKey, Reason, State
from titan.rpc.v1 import task_pb2, task_pb2_grpc, types_pb2
from titan.worker import protocol
from titan.worker.messages import OfferedDevices

TWO_GPUS: OfferedDevices = (("gpu", ("0", "1")),)
DEVICES = ("sh", "-c", "env | grep -E '^(CUDA|TITAN_DEVICES|NVIDIA|ROCR)' | sort; echo .")


@pytest.fixture
def gpus(driver: HostDriver) -> HostDriver:
    """A host of a worker with two of them."""
    driver.start()
    driver.connect(devices=TWO_GPUS)
    return driver


def told(host: HostDriver, attempt: AttemptKey) -> list[bytes]:
    """What the task, which ran `DEVICES`, knows of devices."""
    assert host.wait_end(attempt).state is State.COMPLETED
    *lines, dot = host.output(attempt).splitlines()
    assert dot == b"."
    return lines


def held_by(host: HostDriver, attempt: AttemptKey) -> bytes:
    return host.wait_output(attempt).strip()


def hold(host: HostDriver, job_id: int, count: int = 1) -> AttemptKey:
    """Start a task that keeps so many until it is stopped."""
    line = "echo $TITAN_DEVICES_GPU; exec sleep 300"
    named = (("gpu", count),)
    return host.run_launch(launch("sh", "-c", line, job_id=job_id, class_id=job_id, named=named))


def test_tasks_that_run_at_once_have_different_devices_and_later_ones_get_them_again(
    gpus: HostDriver,
) -> None:
    first, second = hold(gpus, 1), hold(gpus, 2)
    assert (held_by(gpus, first), held_by(gpus, second)) == (b"0", b"1")
    gpus.stop(first)
    gpus.wait_end(first)
    assert held_by(gpus, hold(gpus, 3)) == b"0"
    gpus.stop(second, key(3))
    gpus.wait_end(second)
    gpus.wait_end(key(3))
    assert held_by(gpus, hold(gpus, 4, count=2)) == b"0,1"


def test_two_tasks_never_share_a_device_the_second_one_waits(gpus: HostDriver) -> None:
    first = hold(gpus, 1, count=2)
    held_by(gpus, first)
    second = hold(gpus, 2)
    # What asks for none starts.
    gpus.wait_end(gpus.run("true", job_id=3))
    assert gpus.find_end(second) is None
    assert gpus.output(second) == b""
    gpus.stop(first)
    assert held_by(gpus, second) == b"0"


def test_a_task_that_cannot_be_launched_gives_its_devices_back(gpus: HostDriver) -> None:
    for job_id in (1, 2, 3):
        report = gpus.wait_end(
            gpus.run_launch(launch("/no/such", job_id=job_id, named=(("gpu", 2),)))
        )
        assert report.reason is Reason.LAUNCH_ERROR
    assert held_by(gpus, hold(gpus, 4, count=2)) == b"0,1"


def test_an_array_runs_through_the_devices(gpus: HostDriver) -> None:
    gpus.send_batch(batch(launch(*DEVICES, named=(("gpu", 1),)), indexes=range(20), slots=2))
    for index in range(20):
        (cuda, titan) = told(gpus, key(index=index))
        assert cuda.removeprefix(b"CUDA_VISIBLE_DEVICES=") in (b"0", b"1")
        assert titan == b"TITAN_DEVICES_GPU=" + cuda[-1:]


def test_what_a_task_is_told_of_its_devices(driver: HostDriver) -> None:
    driver.start()
    driver.connect(
        devices=(("Tape drive/a", ("st0", "st1")), ("gpu", ("GPU-abc", "7")), ("licence", None))
    )
    named = (("Tape drive/a", 1), ("gpu", 2), ("licence", 5_000))
    assert told(driver, driver.run_launch(launch(*DEVICES, named=named))) == [
        b"CUDA_VISIBLE_DEVICES=GPU-abc,7",
        b"TITAN_DEVICES_GPU=GPU-abc,7",
        b"TITAN_DEVICES_TAPE_DRIVE_A=st0",
    ]
    # So that it cannot take another's.
    assert told(driver, driver.run_launch(launch(*DEVICES, job_id=2, named=named[:1]))) == [
        b"CUDA_VISIBLE_DEVICES=",
        b"TITAN_DEVICES_TAPE_DRIVE_A=st0",
    ]


def test_a_task_on_a_worker_without_devices_is_told_nothing_of_them(host: HostDriver) -> None:
    assert told(host, host.run(*DEVICES)) == []
    exported = {b"CUDA_VISIBLE_DEVICES": b"3"}
    host.run(*DEVICES, job_id=2, exported=exported)
    assert told(host, key(2)) == [b"CUDA_VISIBLE_DEVICES=3"]


@pytest.mark.parametrize(("count", "mine"), [(1, b"0"), (0, b"")])
def test_only_what_is_chosen_by_name_is_above_the_workers_word(
    gpus: HostDriver, count: int, mine: bytes
) -> None:
    named = (("gpu", count),) if count else ()
    variables = {b"CUDA_VISIBLE_DEVICES": b"5", b"TITAN_DEVICES_GPU": b"5"}
    gpus.send_batch(batch(launch(*DEVICES, named=named), exported=variables))
    assert told(gpus, key())[0] == b"CUDA_VISIBLE_DEVICES=" + mine
    gpus.send_batch(batch(launch(*DEVICES, named=named, job_id=2), chosen=variables))
    chosen = told(gpus, key(2))
    assert chosen[0] == b"CUDA_VISIBLE_DEVICES=5"
    assert (chosen[1] == b"TITAN_DEVICES_GPU=5") == (not count)


def test_what_is_offered_later_counts_for_what_starts_later(gpus: HostDriver) -> None:
    first = hold(gpus, 1, count=2)
    held_by(gpus, first)
    second, third = hold(gpus, 2), hold(gpus, 3)
    gpus.send(protocol.OfferDevices((("gpu", ("1", "8")),)))
    assert held_by(gpus, second) == b"8"
    gpus.stop(first)
    assert held_by(gpus, third) == b"1"


def test_the_next_agent_says_which_there_are_and_tasks_keep_theirs(gpus: HostDriver) -> None:
    held_by(gpus, hold(gpus, 1))
    gpus.connect(devices=(("gpu", ("0", "1", "2")),))
    assert held_by(gpus, hold(gpus, 2, count=2)) == b"1,2"


# A worker ---------------------------------------------------------------------------------------


async def output_of(worker: WorkerProcess, attempt: AttemptKey) -> str:
    _, job_id, index, number = attempt
    path = worker.path / "output" / str(job_id) / "0" / f"{index}.{number}.out"
    await wait_for(lambda: path.exists() and path.read_text().endswith("\n"), "output")
    return path.read_text().strip()


def test_a_worker_gives_the_devices_that_it_declares_and_those_of_an_update(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        line = ("sh", "-c", "echo $TITAN_DEVICES_GPU.$CUDA_VISIBLE_DEVICES")
        for job_id, count, expected in [(1, 2, "0,1.0,1"), (2, 1, "0.0"), (3, 0, ".")]:
            attempt = await manager.run(*line, job_id=job_id, named={"gpu": count})
            assert await output_of(worker, attempt) == expected
        request = task_pb2.UpdateWorkerRequest(
            devices={"gpu": task_pb2.DeviceIds(ids=["GPU-a", "5"])}
        )
        async with connection_to(manager.registrations[-1].address) as open_channel:
            stub = task_pb2_grpc.TaskServiceStub(open_channel)
            answer = await stub.UpdateWorker(request, metadata=manager.metadata())
        assert answer.capacity.named == {"gpu": 2}
        attempt = await manager.run(*line, job_id=4, named={"gpu": 2})
        assert await output_of(worker, attempt) == "GPU-a,5.GPU-a,5"
        # The host that takes the place of one that was killed knows it as well.
        os.kill(worker.host_pid(), signal.SIGKILL)
        await manager.wait_registrations(3)
        attempt = await manager.run(*line, job_id=5, named={"gpu": 1})
        assert await output_of(worker, attempt) == "GPU-a.GPU-a"

    play(scene)


def test_a_worker_that_is_started_with_other_devices_keeps_from_giving_those_in_use(
    play: Play,
) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        line = ("sh", "-c", "echo $TITAN_DEVICES_GPU; exec sleep 300")
        assert await output_of(worker, await manager.run(*line, named={"gpu": 1})) == "0"
        worker.kill()
        await wait_exit(worker)
        worker.start(devices=[["gpu", ["0", "9"]]])
        await manager.wait_registrations(2)
        attempt = await manager.run(*line, job_id=2, named={"gpu": 1})
        assert await output_of(worker, attempt) == "9"

    play(scene)


def test_a_program_of_the_workers_own_user_has_no_devices(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        stub = manager.tasks()
        spec = task_pb2.TaskSpec(command=[b"sh", b"-c", b"echo .${CUDA_VISIBLE_DEVICES-unset}."])
        request = task_pb2.StartTaskRequest(specs=[spec])
        call = stub.StartTask(request, metadata=manager.metadata(), wait_for_ready=True)
        (started,) = (await call).keys
        attempt = AttemptKey(started.epoch, started.job_id, started.index, started.attempt)
        assert await output_of(worker, attempt) == ".."
        spec.resources.CopyFrom(types_pb2.Resources(named={"gpu": 1}))
        code, sentence = await status_of(
            stub.StartTask(task_pb2.StartTaskRequest(specs=[spec]), metadata=manager.metadata())
        )
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert sentence == "without a session there are no named resources: the manager gives them"

    play(scene)
