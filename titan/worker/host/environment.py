"""The environment of a task: the account's, the submitter's, then Titan's own.

Nothing of the host's environment reaches a task but PATH, LANG and TMPDIR: the host may
have been started by anybody from anywhere.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from typing import Final

from titan.model import AttemptKey, Sandbox
from titan.trace_context import Span, parse_parent, span_id_of
from titan.worker.host.accounts import Account
from titan.worker.host.devices import GPU
from titan.worker.messages import DeviceIds, Environment, Launch

# Jobs that run by turns keep theirs; a flood of one-task jobs pushes out the oldest.
_CACHE_MAX: Final = 64
# AMD's libraries heed it as well. Their own would number what it leaves anew, and the two together
# then name what is not there.
_GPU_VARIABLE: Final = b"CUDA_VISIBLE_DEVICES"


def account_variables(inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """HOME, USER, SHELL of the account this process runs as, LANG and TMPDIR, and PATH."""
    user_id = os.geteuid()
    try:
        account = pwd.getpwuid(user_id)
        home, user, shell = account.pw_dir, account.pw_name, account.pw_shell
    except KeyError:
        # Containers run as numbers that no account has.
        home, user, shell = os.fsdecode(inherited.get(b"HOME", b"/")), str(user_id), "/bin/sh"
    return {
        b"HOME": os.fsencode(home),
        b"USER": os.fsencode(user),
        b"SHELL": os.fsencode(shell or "/bin/sh"),
        b"LANG": inherited.get(b"LANG", b"C.UTF-8"),
        b"TMPDIR": inherited.get(b"TMPDIR", b"/tmp"),
        b"PATH": inherited.get(b"PATH", os.fsencode(os.defpath)),
    }


class TaskEnvironments:
    """Builds environments; what the tasks of a job share is built once."""

    def __init__(self, account: dict[bytes, bytes], worker_name: str, manager: str) -> None:
        """`account` as from `account_variables`; its PATH is the worker's own."""
        self._account = account
        self._worker_name = worker_name.encode()
        self._manager = manager.encode()
        self._shared: dict[tuple[Launch, Environment], dict[bytes, bytes]] = {}
        # To find one takes a look at each word of both; mostly the next is the last one.
        self._last: tuple[Launch, Environment, dict[bytes, bytes]] | None = None

    def build(
        self,
        key: AttemptKey,
        launch: Launch,
        environment: Environment,
        devices: DeviceIds = (),
        account: Account | None = None,
    ) -> dict[bytes, bytes]:
        """The environment of that attempt, with what `Spawn` says of its devices.

        `account` is the one that it runs as, if that is another than this process's.

        The caller may change it.
        """
        last = self._last
        if environment.secrets:
            # Nothing of these is kept.
            chosen = (*environment.chosen, *environment.secrets)
            environment = environment._replace(chosen=chosen, secrets=())
            variables = self._build_shared(launch, environment, account)
        elif last is not None and launch is last[0] and environment is last[1]:
            variables = last[2].copy()
        else:
            variables = self._find_shared(launch, environment, account).copy()
        variables[b"TITAN_TASK_INDEX"] = b"%d" % key.index
        variables[b"TITAN_ATTEMPT"] = b"%d" % key.attempt
        if launch.execution.trace_parent:
            _add_trace(variables, key, launch, environment)
        for name, ids in devices:
            value = ",".join(ids).encode()
            if ids:
                variables[_device_variable(name)] = value
            if name == GPU and all(each != _GPU_VARIABLE for each, _ in environment.chosen):
                variables[_GPU_VARIABLE] = value
        return variables

    def _find_shared(
        self, launch: Launch, environment: Environment, account: Account | None
    ) -> dict[bytes, bytes]:
        shared = self._shared.get((launch, environment))
        if shared is None:
            if len(self._shared) >= _CACHE_MAX:
                del self._shared[next(iter(self._shared))]
            shared = self._build_shared(launch, environment, account)
            self._shared[launch, environment] = shared
        self._last = launch, environment, shared
        return shared

    def _build_shared(
        self, launch: Launch, environment: Environment, account: Account | None
    ) -> dict[bytes, bytes]:
        variables = self._account.copy()
        if launch.execution.sandbox is not Sandbox.NONE:
            variables[b"TMPDIR"] = b"/tmp"
        if account is not None:
            variables.update(account.variables)
        own_path = variables[b"PATH"]
        for name, value in environment.exported:
            # Programs the submitter has and this machine has not may be in ours.
            is_path = name == b"PATH" and value != own_path
            variables[name] = value + b":" + own_path if is_path else value
        variables.update(environment.chosen)
        variables[b"TITAN_JOB_ID"] = b"%d" % launch.job_id
        variables[b"TITAN_JOB_NAME"] = launch.job_name.encode(errors="surrogateescape")
        if launch.array_count:
            variables[b"TITAN_ARRAY_COUNT"] = b"%d" % launch.array_count
        variables[b"TITAN_WORKER"] = self._worker_name
        variables[b"TITAN_CPUS"] = _cpus(launch.cpus_milli)
        variables[b"TITAN_MEMORY_BYTES"] = b"%d" % launch.memory_bytes
        variables[b"TITAN_MANAGER"] = self._manager
        return variables


def _add_trace(
    variables: dict[bytes, bytes], key: AttemptKey, launch: Launch, environment: Environment
) -> None:
    """The trace that it goes on with, unless its user has named another one."""
    if any(name == b"TRACEPARENT" for name, _ in environment.chosen):
        return
    parent, state = launch.execution.trace_parent, launch.execution.trace_state
    context = parse_parent(parent) if launch.traced else None
    if context is not None:
        own = span_id_of(key.epoch, key.job_id, Span.RUNNING, key.index, key.attempt)
        parent = context._replace(span_id=own).header()
    variables[b"TRACEPARENT"] = parent.encode()
    # Of a trace that the submitter had exported, and that this is not.
    variables.pop(b"TRACESTATE", None)
    if state:
        variables[b"TRACESTATE"] = state.encode()


def _device_variable(name: str) -> bytes:
    """`TITAN_DEVICES_GPU`."""
    return b"TITAN_DEVICES_" + re.sub("[^A-Z0-9]", "_", name.upper()).encode()


def _cpus(milli: int) -> bytes:
    """`2`, `0.5`: as it was asked for."""
    whole, thousandths = divmod(milli, 1000)
    return (b"%d.%03d" % (whole, thousandths)).rstrip(b"0").rstrip(b".")
