"""How tasks are run, as people ask for it, to the message. Pure."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

from titan.errors import InvalidJob
from titan.model import UMASK_MAX, ScriptSource
from titan.rpc.v1 import types_pb2

# Where a job's script is: with the job, or on its worker.
_SOURCES: Final = {int(ScriptSource.SENT): "job", int(ScriptSource.ON_WORKER): "worker"}
_OCTAL: Final = re.compile(r"(?:0o)?([0-7]{1,4})")


def umask_of(umask: int | str | None) -> int:
    """A number, or its octal digits as text; -1 for None. Raises InvalidJob."""
    if umask is None:
        return -1
    if isinstance(umask, str):
        match = _OCTAL.fullmatch(umask)
        number = int(match[1], 8) if match else -1
    else:
        number = umask
    if not 0 <= number <= UMASK_MAX:
        raise InvalidJob(f"{umask!r} is no umask: write it in octal, such as 027")
    return number


def execution_view(message: types_pb2.Execution) -> dict[str, Any]:
    """The fields of `show`; None where nothing was asked for."""
    words = [word.decode("utf-8", "replace") for word in message.interpreter]
    return {
        "umask": f"{message.umask:04o}" if message.HasField("umask") else None,
        "script": _SOURCES.get(message.script_source),
        "interpreter": words or None,
        "stdin": message.stdin.decode("utf-8", "replace") or None,
    }


def execution_words(message: types_pb2.Execution) -> str:
    """`umask 0027, bash -e`; empty when nothing was asked for."""
    view = execution_view(message)
    words = []
    if view["umask"]:
        words.append(f"umask {view['umask']}")
    if view["script"]:
        words.append("a script of the worker" if view["script"] == "worker" else "a script")
    if view["interpreter"]:
        words.append(f"the interpreter {shlex.join(view['interpreter'])}")
    if view["stdin"]:
        words.append(f"stdin from {view['stdin']}")
    return ", ".join(words)
