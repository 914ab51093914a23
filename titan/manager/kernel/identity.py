"""Who registers: a worker that is known, a new one, a copy of one, or a host that is dead."""

from __future__ import annotations

import re
from typing import Final

from titan.checks import PATH_BYTES_MAX, check_capacity, check_labels, check_name
from titan.errors import InvalidJob, NoRoom, Refused
from titan.isolation import check_grants, find_reserved
from titan.manager.kernel.commands import RegisterWorker
from titan.manager.kernel.desk import Desk

# Those that have taken their leave count: old attempts refer to them. Each takes some kilobytes.
WORKERS_MAX: Final = 100_000
# So that whoever has the certificate of one does not keep all others out.
WORKERS_OF_NAME_MAX: Final = 10_000
ID_BYTES_MAX: Final = 64
WORD_LENGTH_MAX: Final = 255
_ADDRESS: Final = re.compile(
    r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,32})?\]):[0-9]{1,5}"
)
_TOKEN: Final = re.compile(rf"[ -~]{{0,{WORD_LENGTH_MAX}}}")


def check_registration(desk: Desk, command: RegisterWorker) -> None:
    """Raises Refused, InvalidJob."""
    check_capacity(command.capacity)
    check_labels(command.labels)
    check_name(command.name, "a worker's name")
    _check_what_is_kept(command)
    if reserved := find_reserved(name for name, _ in command.labels):
        raise InvalidJob(f"no worker can be given the label {reserved}: it is one of Titan's own")
    try:
        check_grants(command.run_as)
    except ValueError as error:
        raise InvalidJob(f"the run-as policy of {command.name}: {error}") from error
    foreign = command.cluster_id not in (b"", desk.state.cluster_id)
    if foreign and command.held.attempts:
        raise Refused(
            f"{command.name} holds tasks of the cluster {command.cluster_id.hex()}, and this is "
            f"{desk.state.cluster_id.hex()}; let them end there, or give the worker another "
            "data directory"
        )


def _check_what_is_kept(command: RegisterWorker) -> None:
    if not 0 < len(command.instance) <= ID_BYTES_MAX:
        raise InvalidJob(f"a worker has an instance of 1 to {ID_BYTES_MAX} bytes")
    if len(command.worker_id) > ID_BYTES_MAX:
        raise InvalidJob(f"a worker's id has at most {ID_BYTES_MAX} bytes")
    if max(len(command.boot_id), len(command.version)) > WORD_LENGTH_MAX:
        raise InvalidJob(f"a boot id and a version have at most {WORD_LENGTH_MAX} letters")
    if len(command.output_directory) > PATH_BYTES_MAX or b"\0" in command.output_directory:
        raise InvalidJob(f"an output directory has at most {PATH_BYTES_MAX} bytes, none of them 0")
    # The manager calls it there with that in a header. gRPC would take other schemes than TCP, too,
    # such as a socket of this machine.
    if command.address and not _ADDRESS.fullmatch(command.address):
        raise InvalidJob("a worker's address is HOST:PORT or [HOST]:PORT")
    if not _TOKEN.fullmatch(command.token):
        raise InvalidJob(f"a worker's token has at most {WORD_LENGTH_MAX} letters of ASCII")


def identify(desk: Desk, command: RegisterWorker) -> tuple[int, bytes, str]:
    """The worker's number and id, and a warning where a clone of a worker got a new id.

    Raises Refused for a registration that may be late, of a host before the one that is known, and
    NoRoom.
    """
    state = desk.state
    worker_id = command.worker_id or _find_given_id(desk, command) or command.new_worker_id
    number = state.worker_numbers.get(worker_id)
    if number is None:
        return _next_number(desk, command), worker_id, ""
    if _is_earlier(desk, number, command):
        instance, refused_us = desk.refused_earlier.get(number, (b"", 0))
        if instance != command.instance:
            desk.refused_earlier[number] = (command.instance, desk.turned_us)
            raise Refused(
                f"a later task host of {command.name} has registered; call again if this one lives"
            )
        # It lives. If the other one does, too, this is the copy: it has been started fewer times.
        is_clone = desk.heard_us.get(number, -1) > refused_us
    else:
        instance, replaced_us = desk.replaced.get(number, (b"", 0))
        recently = desk.turned_us - replaced_us <= 2 * desk.settings.heartbeat_interval_us
        # It is heard again right after another took its place: there are two of it.
        is_clone = instance == command.instance and recently
    if not is_clone:
        return number, worker_id, ""
    other = state.get_worker(number)
    warning = (
        f"two workers use the id {worker_id.hex()}: {other.name} at {other.address} and "
        f"{command.name} at {command.address}; was a data directory copied? "
        f"{command.name} gets a new id"
    )
    return _next_number(desk, command), command.new_worker_id, warning


def _next_number(desk: Desk, command: RegisterWorker) -> int:
    """That of a worker that is not known yet. Raises NoRoom."""
    workers = desk.state.workers
    if len(workers) >= WORKERS_MAX:
        raise NoRoom(f"{WORKERS_MAX} workers have registered here, and more are not taken")
    most = WORKERS_OF_NAME_MAX
    # Few clusters have so many that it needs counting.
    if len(workers) >= most and sum(w.name == command.name for w in workers.values()) >= most:
        raise NoRoom(
            f"{most} workers called {command.name} have registered here, each with "
            "a data directory of its own, and more are not taken: give it another name"
        )
    return desk.state.next_worker


def _find_given_id(desk: Desk, command: RegisterWorker) -> bytes:
    """The id that this host was given before; empty: none. The answer may not have come there."""
    number = desk.first_calls.get(command.instance)
    if number is None:
        return b""
    worker = desk.state.get_worker(number)
    # Who calls may have proven that it is the one of that name, and of no other.
    return worker.worker_id if worker.name == command.name else b""


def _is_earlier(desk: Desk, number: int, command: RegisterWorker) -> bool:
    """Whether its host was started before the one that registered last.

    A call of a host that is dead may be read after that of the next one.
    """
    instance, starts = desk.hosts.get(number, (b"", 0))
    return instance != command.instance and 0 < command.host_starts < starts
