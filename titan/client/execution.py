"""How tasks are run, as people ask for it, to the message and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from titan import units
from titan.client.ulimits import Value, format_ulimits, ulimits_of
from titan.errors import InvalidJob
from titan.isolation import check_grant_name
from titan.model import (
    MEMORY_LIMIT_BYTES_MIN,
    PIDS_MAX,
    UMASK_MAX,
    Execution,
    Sandbox,
    ScriptSource,
)
from titan.rpc.execution import execution_of_message
from titan.rpc.v1 import types_pb2
from titan.trace_context import parse_parent

# Where a job's script is: with the job, or on its worker.
_SOURCES: Final = {int(ScriptSource.SENT): "job", int(ScriptSource.ON_WORKER): "worker"}
_SANDBOXES: Final = {each.name.lower(): each for each in Sandbox}
_OCTAL: Final = r"(?:0o)?([0-7]{1,4})"


def limits_of(
    *,
    ulimits: Mapping[str, Value],
    pids_limit: int | None,
    cpu_limit: bool,
    pin: bool,
    cpus_milli: int,
    memory_bytes: int,
) -> Execution:
    """The limits that were asked for, checked against the resources. Raises InvalidJob."""
    if pin and cpus_milli % 1000:
        raise InvalidJob(f"{cpus_milli / 1000:g} cpus cannot be pinned: ask for whole ones")
    if pids_limit is not None and not 0 < pids_limit <= PIDS_MAX:
        raise InvalidJob(f"a limit of {pids_limit} processes: give 1 to {PIDS_MAX}")
    if 0 < memory_bytes < MEMORY_LIMIT_BYTES_MIN:
        raise InvalidJob(
            f"{units.format_size(memory_bytes)} of memory are less than a program's start takes: "
            f"ask for at least {MEMORY_LIMIT_BYTES_MIN >> 20}M, or for 0, which is no limit"
        )
    return Execution(
        ulimits=ulimits_of(ulimits), pids_max=pids_limit or 0, cpu_limit=cpu_limit, pin=pin
    )


def execution_view(message: types_pb2.Execution) -> dict[str, Any]:
    """The fields of `show`; None where nothing was asked for."""
    execution = execution_of_message(message)
    context = parse_parent(execution.trace_parent)
    return {
        "umask": _octal(execution.umask) if execution.umask >= 0 else None,
        "script": _SOURCES.get(execution.script_source),
        "interpreter": [_text(word) for word in execution.interpreter] or None,
        "stdin": _text(execution.stdin) or None,
        "ulimits": {
            name: [None if each < 0 else each for each in limits]
            for name, *limits in execution.ulimits
        },
        "pids_limit": execution.pids_max or None,
        "cpu_limit": execution.cpu_limit,
        "pin": execution.pin,
        "stdout": _text(execution.stdout) or None,
        "stderr": _text(execution.stderr) or None,
        "run_as": execution.run_as or None,
        "sandbox": (None if execution.sandbox is Sandbox.NONE else execution.sandbox.name.lower()),
        "no_network": execution.no_network,
        "trace_id": context.trace_id.hex() if context is not None else None,
    }


def execution_words(message: types_pb2.Execution) -> str:
    """`umask 0027, nofile=1024, pinned to cpus`; empty when nothing was asked for."""
    execution = execution_of_message(message)
    words = [f"umask {_octal(execution.umask)}"] if execution.umask >= 0 else []
    if execution.script_source is not ScriptSource.NONE:
        is_sent = execution.script_source is ScriptSource.SENT
        words.append("a script" if is_sent else "a script of the worker")
    if execution.interpreter:
        import shlex  # noqa: PLC0415 - slow, and only here

        words.append(f"the interpreter {shlex.join(map(_text, execution.interpreter))}")
    if execution.stdin:
        words.append(f"stdin from {_text(execution.stdin)}")
    if execution.stdout:
        words.append(f"stdout to {_text(execution.stdout)}")
    if execution.stderr:
        words.append(f"stderr to {_text(execution.stderr)}")
    words += format_ulimits(execution.ulimits)
    if execution.pids_max:
        words.append(f"at most {execution.pids_max} processes")
    if execution.cpu_limit:
        words.append("no more cpu time than its cpus")
    if execution.pin:
        words.append("cpus of its own")
    if execution.run_as:
        words.append(f"as {execution.run_as}")
    if execution.sandbox is not Sandbox.NONE:
        words.append(f"in {execution.sandbox.name.lower()}")
    if execution.no_network:
        words.append("without network")
    return ", ".join(words)


def umask_of(umask: int | str | None) -> int:
    """A number, or its octal digits as text; -1 for None. Raises InvalidJob."""
    if umask is None:
        return -1
    if isinstance(umask, str):
        match = re.fullmatch(_OCTAL, umask)
        number = int(match[1], 8) if match else -1
    else:
        number = umask
    if not 0 <= number <= UMASK_MAX:
        raise InvalidJob(f"{umask!r} is no umask: write it in octal, such as 027")
    return number


def isolation_of(user: str | None, sandbox: str, *, no_network: bool) -> Execution:
    """As whom and in what it is run. Raises InvalidJob."""
    if user is not None:
        try:
            check_grant_name(user)
        except ValueError as error:
            raise InvalidJob(f"user: {error}") from error
    try:
        chosen = _SANDBOXES[sandbox]
    except KeyError:
        raise InvalidJob(f"{sandbox!r} is no sandbox; there are: {', '.join(_SANDBOXES)}") from None
    if no_network and chosen is Sandbox.NONE:
        raise InvalidJob("only a sandbox can be without network: add --sandbox bubblewrap")
    return Execution(run_as=user or "", sandbox=chosen, no_network=no_network)


def _octal(umask: int) -> str:
    return f"{umask:04o}"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
