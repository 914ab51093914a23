"""How a task is run, between its message and the model: who takes it up reads it here."""

from __future__ import annotations

from titan.model import Execution
from titan.rpc.v1 import types_pb2


def execution_message(execution: Execution) -> types_pb2.Execution:
    """On the wire; what is not asked for is absent."""
    message = types_pb2.Execution()
    if execution.umask >= 0:
        message.umask = execution.umask
    return message


def execution_of_message(message: types_pb2.Execution) -> Execution:
    """Of the wire, unchecked."""
    return Execution(message.umask if message.HasField("umask") else -1)
