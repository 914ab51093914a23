"""How a task is run, between its message and the model: who takes it up reads it here."""

from __future__ import annotations

from typing import cast

from titan.model import Execution, Sandbox, ScriptSource
from titan.rpc.v1 import types_pb2


def execution_message(execution: Execution) -> types_pb2.Execution:
    """On the wire; what is not asked for is absent."""
    message = types_pb2.Execution(
        script_source=cast("types_pb2.ScriptSource.ValueType", int(execution.script_source)),
        interpreter=execution.interpreter,
        stdin=execution.stdin,
        pids_max=execution.pids_max,
        cpu_limit=execution.cpu_limit,
        pin=execution.pin,
        stdout=execution.stdout,
        stderr=execution.stderr,
        run_as=execution.run_as,
        sandbox=cast("types_pb2.Sandbox.ValueType", int(execution.sandbox)),
        no_network=execution.no_network,
        trace_parent=execution.trace_parent,
        trace_state=execution.trace_state,
    )
    if execution.umask >= 0:
        message.umask = execution.umask
    for name, soft, hard in execution.ulimits:
        message.ulimits.add(name=name, soft=soft, hard=hard)
    return message


def execution_of_message(message: types_pb2.Execution) -> Execution:
    """Of the wire, unchecked. Raises ValueError for what only a newer version knows."""
    return Execution(
        message.umask if message.HasField("umask") else -1,
        ScriptSource(message.script_source),
        tuple(message.interpreter),
        message.stdin,
        tuple((each.name, each.soft, each.hard) for each in message.ulimits),
        message.pids_max,
        message.cpu_limit,
        message.pin,
        message.stdout,
        message.stderr,
        message.run_as,
        Sandbox(message.sandbox),
        message.no_network,
        message.trace_parent,
        message.trace_state,
    )
