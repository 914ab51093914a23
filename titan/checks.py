"""What a program to be run must hold to be accepted, whoever accepts it.

Pure. Each raises InvalidJob with a sentence that begins with the `prefix` it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from titan.errors import InvalidJob
from titan.model import (
    CPUS_MILLI_MAX,
    GRACE_MS_MAX,
    MEMORY_BYTES_MAX,
    NAMED_RESOURCE_MAX,
    OWN_RESOURCES,
    SIGNAL_MAX,
    TIME_LIMIT_MS_MAX,
    UMASK_MAX,
    Execution,
    Resources,
)

# The kernel's limit for one argument is 128 KiB (MAX_ARG_STRLEN in execve(2)).
ARGUMENT_BYTES_MAX: Final = 128 * 1024 - 1
COMMAND_BYTES_MAX: Final = 1024 * 1024
# PATH_MAX in limits.h counts the final zero.
PATH_BYTES_MAX: Final = 4095
NAME_LENGTH_MAX: Final = 255
NAMED_RESOURCES_MAX: Final = 64


def check_command(command: Sequence[bytes], prefix: str) -> None:
    """A program and its arguments."""
    _check(bool(command) and bool(command[0]), f"{prefix}the command is empty")
    for argument in command:
        _check(b"\0" not in argument, f"{prefix}an argument holds a zero byte")
        _check(
            len(argument) <= ARGUMENT_BYTES_MAX,
            f"{prefix}an argument has {len(argument)} bytes, over the system's limit of "
            f"{ARGUMENT_BYTES_MAX}",
        )
    _check(
        sum(map(len, command)) <= COMMAND_BYTES_MAX,
        f"{prefix}the command is over the limit of {COMMAND_BYTES_MAX} bytes",
    )


def check_directory(cwd: bytes, prefix: str) -> None:
    """Where it runs."""
    cwd_is_path = cwd.startswith(b"/") and b"\0" not in cwd
    _check(
        cwd_is_path and len(cwd) <= PATH_BYTES_MAX,
        f"{prefix}the working directory {_text(cwd)!r} is no absolute path",
    )


def check_variables(variables: Iterable[tuple[bytes, bytes]]) -> None:
    """Of an environment."""
    for name, value in variables:
        if not name or b"=" in name or b"\0" in name or b"\0" in value:
            raise InvalidJob(f"{_text(name)!r} cannot be the name of an environment variable")


def check_resources(demand: Resources, prefix: str) -> None:
    """What a task asks for."""
    _check(demand.cpus_milli > 0, f"{prefix}cpus must be more than 0")
    _check(
        demand.cpus_milli <= CPUS_MILLI_MAX, f"{prefix}{demand.cpus_milli / 1000:g} cpus are absurd"
    )
    _check(demand.memory_bytes >= 0, f"{prefix}memory must not be negative")
    _check(demand.memory_bytes <= MEMORY_BYTES_MAX, f"{prefix}so much memory is absurd")
    _check(len(demand.named) <= NAMED_RESOURCES_MAX, f"{prefix}too many kinds of resources")
    for name, count in demand.named:
        _check(0 < len(name) <= NAME_LENGTH_MAX, f"{prefix}a resource has no name or a long one")
        _check(0 < count <= NAMED_RESOURCE_MAX, f"{prefix}{name}={count} is out of range")
        _check(
            name not in OWN_RESOURCES,
            f"{prefix}{name} is no named resource: it is asked for with --{name}",
        )


def check_time_limit(
    time_limit_ms: int, grace_ms: int, end_signal: int, end_signal_before_ms: int, prefix: str
) -> None:
    """0 stands for none."""
    _check(time_limit_ms >= 0, f"{prefix}a time limit must be more than 0")
    _check(time_limit_ms <= TIME_LIMIT_MS_MAX, f"{prefix}the time limit is over ten years")
    _check(0 <= grace_ms <= GRACE_MS_MAX, f"{prefix}the grace after a time limit is 0 to one day")
    if not end_signal:
        _check(not end_signal_before_ms, f"{prefix}no signal is named to be sent before the end")
        return
    _check(
        1 <= end_signal <= SIGNAL_MAX,
        f"{prefix}{end_signal} is no signal: they are 1 to {SIGNAL_MAX}",
    )
    _check(time_limit_ms > 0, f"{prefix}a signal before the end needs a time limit")
    _check(
        0 < end_signal_before_ms < time_limit_ms,
        f"{prefix}the signal before the end is due {end_signal_before_ms} ms before a time "
        f"limit of {time_limit_ms} ms: it has to come between start and limit",
    )


def check_execution(execution: Execution, prefix: str) -> None:
    """How it is to be run; what that means is the worker's business."""
    _check(
        -1 <= execution.umask <= UMASK_MAX,
        f"{prefix}{execution.umask:o} is no umask: they are 0 to {UMASK_MAX:o}, octal",
    )


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidJob(otherwise)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
