"""Starting a worker: its directory, its server, its agent."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio

from titan import logs
from titan.isolation import find_reserved
from titan.logs import LogLine
from titan.metrics.server import MetricsServer, MetricsUnavailable
from titan.model import Resources, named_resources
from titan.rpc import access, channel, tokens
from titan.rpc.addresses import split_addresses
from titan.rpc.guarded import add_guarded_services
from titan.rpc.reload import reload_on_hangup
from titan.rpc.v1 import task_pb2
from titan.tls.identity import worker_host
from titan.tls.pem import PemFiles
from titan.worker import directory, processes, protocol
from titan.worker.agent import node
from titan.worker.agent.agent import Agent, OnStop
from titan.worker.agent.callers import Callers, TlsCallers, TokenCallers
from titan.worker.agent.capacity import Offer
from titan.worker.agent.disk_room import DEFAULT_MINIMUM, DiskMinimum, DiskRoom
from titan.worker.agent.host_process import HostProcess
from titan.worker.agent.manager_link import ManagerLink
from titan.worker.agent.metrics import WorkerMetrics
from titan.worker.agent.registration import Identity
from titan.worker.agent.task_service import TaskService, add_task_service
from titan.worker.host import copies
from titan.worker.messages import DeviceIds
from titan.worker.output.shelf import Limits
from titan.worker.run_as import LivePolicy, PolicyError, load_policy

if TYPE_CHECKING:
    from titan.tls.peers import Peers

# Of the disk.
DEFAULT_RETAINED: Final = DiskMinimum(per_mille=100)

# Where a server listens on all addresses of its machine.
_ANYWHERE: Final = ("0.0.0.0", "::")

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
    tls: PemFiles | None = None
    """Its certificates; with them `access_file` does not count, and `name` is theirs."""
    is_insecure: bool = False
    """Whether it may listen where other machines can reach it, without certificates."""
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
    metrics_listen: str | None = None
    """Where Prometheus finds its numbers; None: nowhere."""
    log_level: str = "info"
    log_format: str = "text"


def run_worker(options: WorkerOptions) -> int:
    """Run a worker until SIGTERM (`options.on_stop`) or SIGINT (tasks are handed back).

    Returns the exit code; what was wrong is on stderr. Must be called in the main thread.
    """
    logs.set_up(options.log_level, options.log_format)
    try:
        peers = _peers(options)
        if reserved := find_reserved(name for name, _ in options.labels):
            raise ValueError(f"--label {reserved}: it is one of Titan's own")
        _check_policy(options.run_as_policy)
        addresses = split_addresses(options.manager)
        path = options.data_directory.absolute()
        lock = directory.lock(path)
    except (directory.DirectoryError, OSError, PolicyError, ValueError) as error:
        _log.error("%s", error)
        return 1
    metrics: MetricsServer | None = None
    try:
        metrics = _open_metrics(options, peers)
        copies.disown(path)
        worker_id = directory.open_identity(path)
        return asyncio.run(_run(options, peers, addresses, path, worker_id, metrics))
    except (directory.DirectoryError, MetricsUnavailable, OSError, ValueError) as error:
        _log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        # Before the agent could catch it: nothing has been started.
        return 130
    finally:
        if metrics is not None:
            metrics.stop()
        lock.release()


def _open_metrics(options: WorkerOptions, peers: Peers | None) -> MetricsServer | None:
    """Raises MetricsUnavailable, ValueError."""
    if options.metrics_listen is None:
        return None
    return MetricsServer(options.metrics_listen, peers=peers, is_insecure=options.is_insecure)


def _peers(options: WorkerOptions) -> Peers | None:
    """The server's side of the certificates. Raises ValueError where there ought to be some."""
    if options.tls is None:
        if options.listen is not None and not options.is_insecure:
            channel.check_loopback(options.listen)
        return None
    # What this loads is an extra of the package.
    from titan.tls.peers import Peers  # noqa: PLC0415

    peers = Peers(options.tls)
    if options.name and options.name != peers.own.name:
        raise ValueError(
            f"the certificate is that of the worker {peers.own.name!r}, not of {options.name!r}"
        )
    return peers


async def _run(
    options: WorkerOptions,
    peers: Peers | None,
    addresses: tuple[str, ...],
    path: Path,
    worker_id: bytes,
    metrics: MetricsServer | None,
) -> int:
    name = peers.own.name if peers else options.name
    door = None if options.listen is None else _open_door(options.listen, peers)
    identity = Identity(
        name,
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
        name,
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
        ManagerLink(addresses, options.access_file, options.tls),
        HostProcess(path, hello, (options.log_level, options.log_format)),
        disk_room=DiskRoom(options.disk_free_min, str(path)),
        output_limits=Limits(
            options.output_retain_seconds,
            options.output_retain_bytes.of(node.disk_use(path).total_bytes),
            options.output_retain_files,
        ),
        on_stop=options.on_stop,
        run_as=LivePolicy(options.run_as_policy),
    )
    if metrics is not None:
        metrics.start(WorkerMetrics(agent).read)
    reload_on_hangup(asyncio.get_running_loop(), peers)
    looking = asyncio.create_task(peers.keep_looking()) if peers else None
    try:
        return await _run_agent(agent, name, path, door, peers)
    finally:
        if looking is not None:
            looking.cancel()
        if metrics is not None:
            await asyncio.to_thread(metrics.stop)


async def _run_agent(
    agent: Agent, name: str, path: Path, door: _Door | None, peers: Peers | None
) -> int:
    if door is None:
        _log.info(LogLine("the worker listens nowhere", worker=name, directory=path))
        _take_token(path)
        return await agent.run()
    _log.info(LogLine("the worker listens", worker=name, address=door.address, directory=path))
    callers: Callers = TlsCallers(peers) if peers else TokenCallers(door.token)
    service = TaskService(agent, agent.questions, agent.outputs, agent.statuses)
    await _serve(door.server, service, callers)
    _leave_token(path, door, worker_host(name) if peers else "")
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


def _open_door(listen: str, peers: Peers | None) -> _Door:
    """A server that holds the port and does not serve yet. Raises OSError."""
    server = channel.new_aio_server(is_bounded=True)
    try:
        if peers is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(
                listen, channel.server_credentials(peers.files, peers.look)
            )
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}: {error}") from error
    host, _ = channel.split_address(listen)
    if host in _ANYWHERE:
        # No address to be called at.
        host = socket.gethostname()
    address = channel.join_address(host, port)
    return _Door(server, address, "" if peers else tokens.new_token())


def _leave_token(path: Path, door: _Door, host: str) -> None:
    """So that this user may call the worker; a full disk is no reason not to run tasks."""
    try:
        access.remove_token(path)
        access.write_token(path, door.address, door.token, is_passing=True, host=host)
    except OSError as error:
        _log.warning("the access token was not written, only the manager can call: %s", error)


def _take_token(path: Path) -> None:
    try:
        access.remove_token(path)
    except OSError as error:
        _log.warning("the access token was not removed: %s", error)


async def _serve(server: grpc.aio.Server, service: TaskService, callers: Callers) -> None:
    add_task_service(server, service, callers)
    name = task_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
    await add_guarded_services(server, (name,), callers.lets_in_open)
    await server.start()


def _check_policy(path: Path | None) -> None:
    """Raises PolicyError."""
    if path is None:
        return
    if os.geteuid() != 0:
        raise PolicyError("--run-as-policy: only a worker that is root can run tasks as others")
    load_policy(path)


def _version() -> str:
    try:
        return importlib.metadata.version("titan-scheduler")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
