"""Who registers: a worker that is known, a new one, a copy of one, or a host that is dead."""

from __future__ import annotations

from titan.checks import check_capacity
from titan.errors import InvalidJob, Refused
from titan.isolation import check_grants, find_reserved
from titan.manager.kernel.commands import RegisterWorker
from titan.manager.kernel.desk import Desk


def check_registration(desk: Desk, command: RegisterWorker) -> None:
    """Raises Refused, InvalidJob."""
    check_capacity(command.capacity)
    if not command.name or len(command.name) > 255 or not command.instance:
        raise InvalidJob("a worker needs a name of up to 255 letters and an instance")
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


def identify(desk: Desk, command: RegisterWorker) -> tuple[int, bytes, str]:
    """The worker's number and id, and a warning where a clone of a worker got a new id.

    Raises Refused for a registration that may be late, of a host before the one that is known.
    """
    state = desk.state
    worker_id = command.worker_id or _find_given_id(desk, command) or command.new_worker_id
    number = state.worker_numbers.get(worker_id)
    if number is None:
        return state.next_worker, worker_id, ""
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
    return state.next_worker, command.new_worker_id, warning


def _find_given_id(desk: Desk, command: RegisterWorker) -> bytes:
    """The id that this host was given before; empty: none. The answer may not have come there."""
    number = desk.first_calls.get(command.instance)
    return b"" if number is None else desk.state.get_worker(number).worker_id


def _is_earlier(desk: Desk, number: int, command: RegisterWorker) -> bool:
    """Whether its host was started before the one that registered last.

    A call of a host that is dead may be read after that of the next one.
    """
    instance, starts = desk.hosts.get(number, (b"", 0))
    return instance != command.instance and 0 < command.host_starts < starts
