"""What agent and host say to each other over the Unix socket.

A frame is a length and a msgpack array, the message's code and then its fields:

    +----------------+---------------------------+
    | length, u32 LE | [code, field, field, …]   |
    +----------------+---------------------------+

The agent speaks first, with `Hello`; the host answers with `Welcome`, or with `Refused`
and closes. The major version must be equal. Within one, messages, environments and
launches may get new last fields and new codes may come: what the other side does not know it
ignores. `Hello`, `Welcome` and `Refused` keep their first fields for ever. Bytes stay bytes:
arguments, environment and paths need not be text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from titan.model import (
    AttemptKey,
    Execution,
    HeldAttempt,
    HeldState,
    Reason,
    ReportKind,
    State,
    Stop,
    StopMode,
    execution_of,
)
from titan.worker.messages import (
    Description,
    Environment,
    Launch,
    OfferedDevices,
    Report,
    Start,
    StartBatch,
)

VERSION_MAJOR: Final = 1
VERSION_MINOR: Final = 6
# From which on a host starts programs for clients and describes what it has.
MINOR_DIRECT: Final = 3
# From which on it gives devices, suspends, resumes and changes time limits. One before it reads
# only the modes it knows, and nothing at all where there is another.
MINOR_SUSPEND: Final = 4
# From which on it keeps leases; one before it would run on for ever what is to run at most once.
MINOR_LEASE: Final = 5
# From which on it gives tasks their secrets; one before it would run them without.
MINOR_SECRETS: Final = 6

# A StartTask is at most 16 MiB; a Welcome of a million attempts has 50 MB.
FRAME_BYTES_MAX: Final = 256 << 20

_LENGTH: Final = struct.Struct("<I")
# A new one for each message would cost more than the packing.
_PACKER: Final = msgpack.Packer()


class ProtocolError(Exception):
    """The other side sent what this version can't read."""


class Hello(NamedTuple):
    """Agent to host, first: who is there and what tasks are told about it."""

    major: int
    minor: int
    worker_name: str
    manager: str
    """TITAN_MANAGER of the tasks that start from now on."""
    detach_limit_ms: int
    """Without an agent for so long the host stops its tasks and ends."""
    output_max_bytes: int = 0
    """How much of each output file may be on the disk. 0, as from an older agent: all."""
    script_directory: bytes = b""
    """Where scripts live that tasks may name; empty: nowhere."""
    devices: OfferedDevices = None


class OfferDevices(NamedTuple):
    """Agent to host: tasks that start from now on get devices of these."""

    devices: OfferedDevices


class Cluster(NamedTuple):
    """Agent to host: attempts come from that cluster now."""

    cluster_id: bytes


class StartTasks(NamedTuple):
    """Agent to host."""

    batch: StartBatch


class StopTasks(NamedTuple):
    """Agent to host. Those whose mode the host does not know are passed over."""

    stops: tuple[Stop, ...]


class Acknowledge(NamedTuple):
    """Agent to host: the manager has the reports up to this one."""

    report_seq: int


class Leave(NamedTuple):
    """Agent to host: stop all tasks without reporting, say `LeftAll`, end with the agent."""

    grace_ms: int


class Lease(NamedTuple):
    """Agent to host: what is to run at most once may run until then, on CLOCK_BOOTTIME."""

    until_us: int


class StartDirect(NamedTuple):
    """Agent to host: start these for a client; answered by `DirectStarted` of that number."""

    number: int
    environments: tuple[Environment, ...]
    launches: tuple[Launch, ...]


class Describe(NamedTuple):
    """Agent to host: what is known of these; answered by `Described` of that number."""

    number: int
    keys: tuple[AttemptKey, ...]
    """Empty: of all, in the order of their keys."""
    after: AttemptKey | None
    """Of all: only what comes after it."""
    limit: int


class Welcome(NamedTuple):
    """Host to agent, answer to `Hello`."""

    major: int
    minor: int
    pid: int
    instance: bytes
    cluster_id: bytes
    live: tuple[HeldAttempt, ...]
    reports: tuple[Report, ...]
    report_seq: int
    direct: tuple[AttemptKey, ...] = ()
    """What clients started by themselves and has not ended."""
    limits: str = ""
    """How limits are kept, for people."""
    starts: int = 0
    """How many hosts were started in this directory, this one included; 0: not known."""


class Refused(NamedTuple):
    """Host to agent, answer to `Hello`: a sentence, and whether trying again may help."""

    major: int
    minor: int
    pid: int
    sentence: str
    is_passing: bool


class Reports(NamedTuple):
    """Host to agent: what happened since, without starts whose ends are here too."""

    reports: tuple[Report, ...]


class LeftAll(NamedTuple):
    """Host to agent: nothing runs any more."""


class DirectStarted(NamedTuple):
    """Host to agent: the keys of what was started, in order, or a sentence why nothing was."""

    number: int
    keys: tuple[AttemptKey, ...]
    sentence: str
    is_full: bool
    """Nothing was started since too many run."""


class Described(NamedTuple):
    """Host to agent: what is known; nothing of keys that are not."""

    number: int
    descriptions: tuple[Description, ...]
    is_cut: bool
    """There is more than a message takes, or than was asked for."""


class DirectEnded(NamedTuple):
    """Host to agent: a program that a client started is over."""

    key: AttemptKey


Message: TypeAlias = (
    Hello
    | OfferDevices
    | Cluster
    | StartTasks
    | StopTasks
    | Acknowledge
    | Leave
    | Lease
    | Welcome
    | Refused
    | Reports
    | LeftAll
    | StartDirect
    | Describe
    | DirectStarted
    | Described
    | DirectEnded
)

# A code's meaning never changes.
_CODES: Final[dict[type[Message], int]] = {
    Hello: 1,
    Cluster: 2,
    StartTasks: 3,
    StopTasks: 4,
    Acknowledge: 5,
    Leave: 6,
    StartDirect: 7,
    Describe: 8,
    OfferDevices: 9,
    Lease: 10,
    Welcome: 16,
    Refused: 17,
    Reports: 18,
    LeftAll: 19,
    DirectStarted: 20,
    Described: 21,
    DirectEnded: 22,
}
_KINDS: Final = {code: kind for kind, code in _CODES.items()}


def encode(message: Message) -> bytes:
    """The frame of a message."""
    payload: bytes = _PACKER.pack((_CODES[type(message)], *message))
    return _LENGTH.pack(len(payload)) + payload


class Decoder:
    """Cuts what comes from the socket into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now. Raises ProtocolError."""
        self._buffer += data
        start = 0
        size = len(self._buffer)
        try:
            while size - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > FRAME_BYTES_MAX:
                    raise ProtocolError(f"a frame of {length} bytes")
                end = start + _LENGTH.size + length
                if end > size:
                    break
                payload = bytes(self._buffer[start + _LENGTH.size : end])
                start = end
                message = decode(payload)
                if message is not None:
                    yield message
        finally:
            del self._buffer[:start]


def decode(payload: bytes) -> Message | None:
    """The message, None for a code that only newer versions know. Raises ProtocolError."""
    try:
        code, *fields = msgpack.unpackb(payload, use_list=False)
        kind = _KINDS.get(code)
        if kind is None:
            return None
        # A newer minor version may have put fields behind those known here.
        del fields[len(kind._fields) :]
        reader = _READERS.get(kind)
        return kind(*(reader(*fields) if reader else fields))
    except (AttributeError, LookupError, TypeError, ValueError, msgpack.UnpackException) as error:
        # Not its repr, which may hold all that was read, and so secrets; nor does it go on.
        sentence = f"an unreadable message: {type(error).__name__}: {error}"
    raise ProtocolError(sentence)


def report_of(fields: tuple[Any, ...]) -> Report:
    """A report from its fields as msgpack gives them."""
    seq, kind, key, state, reason, *rest = fields
    return Report(
        seq,
        _REPORT_KINDS[kind],
        AttemptKey._make(key),
        None if state is None else _STATES[state],
        _REASONS[reason],
        *rest,
    )


# Calling an enum costs a microsecond, a lookup a twentieth of it.
_REPORT_KINDS: Final = {int(kind): kind for kind in ReportKind}
_STATES: Final = {int(state): state for state in State}
_REASONS: Final = {int(reason): reason for reason in Reason}
_STOP_MODES: Final = {int(mode): mode for mode in StopMode}


def _held_of(fields: tuple[Any, ...]) -> HeldAttempt:
    key, state, start_us = fields
    return HeldAttempt(AttemptKey._make(key), HeldState(state), start_us)


def _stop_of(fields: tuple[Any, ...]) -> Stop:
    key, mode, *rest = fields[: len(Stop._fields)]
    return Stop(AttemptKey._make(key), _STOP_MODES[mode], *rest)


def _read_start_tasks(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    environments, launches, starts, slots = batch
    return (
        StartBatch(
            tuple(map(_environment_of, environments)),
            tuple(map(_launch_of, launches)),
            tuple(map(Start._make, starts)),
            slots,
        ),
    )


def _launch_of(fields: tuple[Any, ...]) -> Launch:
    """From an older agent with fewer fields, from a newer one with more."""
    launch = Launch(*fields[: len(Launch._fields)])
    execution = launch.execution[: len(Execution._fields)]
    return launch._replace(execution=execution_of(execution))


def _environment_of(fields: tuple[Any, ...]) -> Environment:
    return Environment(*fields[: len(Environment._fields)])


def _read_stop_tasks(stops: tuple[Any, ...]) -> tuple[Any, ...]:
    return (tuple(_stop_of(each) for each in stops if each[1] in _STOP_MODES),)


def _read_welcome(*fields: Any) -> tuple[Any, ...]:
    major, minor, pid, instance, cluster_id, live, reports, report_seq, *rest = fields
    direct, *later = rest or ((),)
    return (
        *(major, minor, pid, instance, cluster_id),
        tuple(map(_held_of, live)),
        tuple(map(report_of, reports)),
        report_seq,
        _keys_of(direct),
        *later,
    )


def _read_reports(reports: tuple[Any, ...]) -> tuple[Any, ...]:
    return (tuple(map(report_of, reports)),)


def _keys_of(keys: tuple[Any, ...]) -> tuple[AttemptKey, ...]:
    return tuple(map(AttemptKey._make, keys))


def _read_start_direct(*fields: Any) -> tuple[Any, ...]:
    number, environments, launches = fields
    return (
        number,
        tuple(map(_environment_of, environments)),
        tuple(map(_launch_of, launches)),
    )


def _read_describe(*fields: Any) -> tuple[Any, ...]:
    number, keys, after, limit = fields
    return number, _keys_of(keys), after and AttemptKey._make(after), limit


def _read_direct_started(*fields: Any) -> tuple[Any, ...]:
    number, keys, sentence, is_full = fields
    return number, _keys_of(keys), sentence, is_full


def _read_described(*fields: Any) -> tuple[Any, ...]:
    number, descriptions, is_cut = fields
    return number, tuple(map(_description_of, descriptions)), is_cut


def _description_of(fields: tuple[Any, ...]) -> Description:
    """From an older host with fewer fields, from a newer one with more."""
    given = Description(*fields[: len(Description._fields)])
    return given._replace(
        key=AttemptKey._make(given.key),
        state=HeldState(given.state),
        end=given.end and report_of(given.end),
    )


def _read_direct_ended(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (AttemptKey._make(key),)


# Messages whose fields are more than plain values.
_READERS: Final[dict[type[Message], Any]] = {
    StartTasks: _read_start_tasks,
    StopTasks: _read_stop_tasks,
    Welcome: _read_welcome,
    Reports: _read_reports,
    StartDirect: _read_start_direct,
    Describe: _read_describe,
    DirectStarted: _read_direct_started,
    Described: _read_described,
    DirectEnded: _read_direct_ended,
}
