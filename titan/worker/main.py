"""Starting a worker: its directory, its server, its agent."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from titan import logs
from titan.isolation import find_reserved
from titan.model import Resources, named_resources
from titan.rpc import access, channel, tokens
from titan.rpc.v1 import task_pb2, task_pb2_grpc
from titan.worker import directory, processes, protocol
from titan.worker.agent import node
from titan.worker.agent.agent import Agent, Identity, OnStop
from titan.worker.agent.capacity import Offer
from titan.worker.agent.disk_room import DEFAULT_MINIMUM, DiskMinimum, DiskRoom
from titan.worker.agent.host_process import HostProcess
from titan.worker.agent.manager_link import ManagerLink
from titan.worker.agent.task_service import TaskService
from titan.worker.host import copies
from titan.worker.messages import DeviceIds
from titan.worker.output.shelf import Limits
from titan.worker.run_as import LivePolicy, PolicyError, load_policy

# Of the disk.
DEFAULT_RETAINED: Final = DiskMinimum(per_mille=100)

_log = logging.getLogger("titan.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker is started."""

    data_directory: Path
    name: str
    manager: str
    """HOST:PORT, or several with commas between; tasks see it as TITAN_MANAGER."""
    access_file: Path | None = None
    """Where the manager's token is; None: found by its address."""
    listen: str | None = "127.0.0.1:0"
    """None: nowhere, and the worker fetches its tasks from the manager."""
    advertise: str | None = None
    """What the manager calls; None: where it listens."""
    cpus_milli: int | None = None
    """None: the processors that this process may use."""
    memory_bytes: int | None = None
    """None: the machine's memory, or the cgroup's limit."""
    named: tuple[tuple[str, int], ...] = ()
    """Other resources by name and count."""
    devices: DeviceIds = ()
    """The devices of those of them whose are not 0 to count - 1; as many as the count."""
    labels: tuple[tuple[str, str], ...] = ()
    detach_limit_seconds: float = 600
    """Without an agent for so long the task host stops the tasks and ends."""
    output_max_bytes: int = 1 << 30
    """How much of each output file may be on the disk; 0: all."""
    output_retain_seconds: float = 7 * 86_400
    """How long the output of a task that has ended is kept; 0, here and below: without limit."""
    output_retain_bytes: DiskMinimum = DEFAULT_RETAINED
    """How much of it, of all such tasks."""
    output_retain_files: int = 200_000
    """In how many files."""
    disk_free_min: DiskMinimum = DEFAULT_MINIMUM
    """With less on the disk of the data directory it takes no tasks."""
    on_stop: OnStop = OnStop.KEEP
    """What SIGTERM asks for."""
    script_directory: Path | None = None
    """Where scripts live that jobs may name; an absolute path."""
    run_as_policy: Path | None = None
    """Who may run tasks as whom (`run_as.py`); an absolute path. None: nobody as anybody else."""
    log_level: str = "info"


def run_worker(options: WorkerOptions) -> int:
    """Run a worker until SIGTERM (`options.on_stop`) or SIGINT (tasks are handed back).

    Returns the exit code; what was wrong is on stderr. Must be called in the main thread.
    """
    logs.set_up(options.log_level)
    try:
        if options.listen is not None:
            channel.check_loopback(options.listen)
        if reserved := find_reserved(name for name, _ in options.labels):
            raise ValueError(f"--label {reserved}: it is one of Titan's own")
        _check_policy(options.run_as_policy)
        addresses = _addresses(options.manager)
        path = options.data_directory.absolute()
        lock = directory.lock(path)
    except (directory.DirectoryError, OSError, PolicyError, ValueError) as error:
        _log.error("%s", error)
        return 1
    try:
        copies.disown(path)
        worker_id = directory.open_identity(path)
        return asyncio.run(_run(options, addresses, path, worker_id))
    except (directory.DirectoryError, OSError) as error:
        _log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        # Before the agent could catch it: nothing has been started.
        return 130
    finally:
        lock.release()


async def _run(
    options: WorkerOptions, addresses: tuple[str, ...], path: Path, worker_id: bytes
) -> int:
    door = None if options.listen is None else _open_door(options.listen)
    identity = Identity(
        options.name,
        (options.advertise or door.address) if door else "",
        door.token if door else "",
        processes.boot_id(),
        _version(),
        Offer(
            Resources(
                node.cpus_milli() if options.cpus_milli is None else options.cpus_milli,
                node.memory_bytes() if options.memory_bytes is None else options.memory_bytes,
                named_resources(options.named),
            ),
            options.labels,
            options.devices,
        ),
    )
    hello = protocol.Hello(
        protocol.VERSION_MAJOR,
        protocol.VERSION_MINOR,
        options.name,
        options.manager,
        int(options.detach_limit_seconds * 1000),
        options.output_max_bytes,
        os.fsencode(options.script_directory) if options.script_directory else b"",
        identity.offer.devices,
        os.fsencode(options.run_as_policy) if options.run_as_policy else b"",
    )
    agent = Agent(
        path,
        identity,
        worker_id,
        ManagerLink(addresses, options.access_file),
        HostProcess(path, hello),
        disk_room=DiskRoom(options.disk_free_min, str(path)),
        output_limits=Limits(
            options.output_retain_seconds,
            options.output_retain_bytes.of(node.disk_use(path).total_bytes),
            options.output_retain_files,
        ),
        on_stop=options.on_stop,
        run_as=LivePolicy(options.run_as_policy),
    )
    if door is None:
        _log.info("worker %s listens nowhere, data in %s", options.name, path)
        _take_token(path)
        return await agent.run()
    _log.info("worker %s listens on %s, data in %s", options.name, door.address, path)
    service = TaskService(agent, agent.questions, door.token, agent.outputs, agent.statuses)
    await _serve(door.server, service)
    _leave_token(path, door)
    try:
        return await agent.run()
    finally:
        _take_token(path)
        await door.server.stop(0.2)


class _Door(NamedTuple):
    """Where the worker is called."""

    server: grpc.aio.Server
    address: str
    token: str


def _open_door(listen: str) -> _Door:
    """A server that holds the port and does not serve yet. Raises OSError."""
    server = channel.new_aio_server()
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}: {error}") from error
    host, _ = channel.split_address(listen)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return _Door(server, address, tokens.new_token())


def _leave_token(path: Path, door: _Door) -> None:
    """So that this user may call the worker; a full disk is no reason not to run tasks."""
    try:
        access.remove_token(path)
        access.write_token(path, door.address, door.token, is_passing=True)
    except OSError as error:
        _log.warning("the access token was not written, only the manager can call: %s", error)


def _take_token(path: Path) -> None:
    try:
        access.remove_token(path)
    except OSError as error:
        _log.warning("the access token was not removed: %s", error)


async def _serve(server: grpc.aio.Server, service: TaskService) -> None:
    task_pb2_grpc.add_TaskServiceServicer_to_server(service, server)
    name = task_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
    checker = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    reflection.enable_server_reflection(
        (name, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    for served in ("", name):
        await checker.set(served, health_pb2.HealthCheckResponse.SERVING)
    await server.start()


def _check_policy(path: Path | None) -> None:
    """Raises PolicyError."""
    if path is None:
        return
    if os.geteuid() != 0:
        raise PolicyError("--run-as-policy: only a worker that is root can run tasks as others")
    load_policy(path)


def _addresses(manager: str) -> tuple[str, ...]:
    """The manager's addresses. Raises ValueError with a sentence."""
    addresses = tuple(part.strip() for part in manager.split(","))
    for address in addresses:
        channel.split_address(address)
    return addresses


def _version() -> str:
    try:
        return importlib.metadata.version("titan-scheduler")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
