"""What a program to be run must hold to be accepted, whoever accepts it.

Pure. Each raises InvalidJob with a sentence, which is put together only when it is needed: ten
thousand jobs may come in one call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from titan import units
from titan.errors import InvalidJob
from titan.isolation import EVERYBODY, SELF, check_grant_name
from titan.model import (
    ARRAY_TASKS_MAX,
    CPUS_MILLI_MAX,
    GRACE_MS_MAX,
    MEMORY_BYTES_MAX,
    MEMORY_LIMIT_BYTES_MIN,
    NAMED_RESOURCE_MAX,
    OWN_RESOURCES,
    PIDS_MAX,
    PLAIN,
    RETRIES_MAX,
    SCRIPT_BYTES_MAX,
    SIGNAL_MAX,
    TIME_LIMIT_MS_MAX,
    TIME_US_MAX,
    ULIMITS,
    UMASK_MAX,
    Execution,
    Resources,
    Sandbox,
    ScriptSource,
)
from titan.scheduling import PLAIN_SCHEDULING, LabelConstraint, Scheduling
from titan.trace_context import is_state, parse_parent

# The kernel's limit for one argument is 128 KiB (MAX_ARG_STRLEN in execve(2)).
ARGUMENT_BYTES_MAX: Final = 128 * 1024 - 1
_ULIMIT_MAX: Final = (1 << 63) - 1
COMMAND_BYTES_MAX: Final = 1024 * 1024
# Command and environment share what execve(2) takes: 2 MiB where the stack may have 8.
ENVIRONMENT_BYTES_MAX: Final = 1024 * 1024
# PATH_MAX in limits.h counts the final zero.
PATH_BYTES_MAX: Final = 4095
NAME_LENGTH_MAX: Final = 255
NAMED_RESOURCES_MAX: Final = 64
CONSTRAINTS_MAX: Final = 64
# Of all secrets of a job, with their names: what the system takes of one variable. The manager
# can't tell how large they are when it fills a batch, and counts each job's as that.
SECRET_BYTES_MAX: Final = 128 * 1024
LABELS_MAX: Final = 256
# What a sentence repeats of what it is about.
_SHOWN_LENGTH_MAX: Final = 100
# An interpreter and its options.
INTERPRETER_BYTES_MAX: Final = 4096
_PATTERN: Final = re.compile(rb"%(.?)", re.DOTALL)
_SIGNS: Final = (b"j", b"i", b"n", b"a", b"%")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def check_command(command: Sequence[bytes]) -> None:
    """A program and its arguments."""
    if not command or not command[0]:
        raise InvalidJob("the command is empty")
    joined = b"\0".join(command)
    if len(joined) <= ARGUMENT_BYTES_MAX and joined.count(b"\0") == len(command) - 1:
        return
    for argument in command:
        if b"\0" in argument:
            raise InvalidJob("an argument holds a zero byte")
        if len(argument) > ARGUMENT_BYTES_MAX:
            raise InvalidJob(
                f"an argument has {len(argument)} bytes, over the system's limit of "
                f"{ARGUMENT_BYTES_MAX}"
            )
    # Each word ends with a zero byte: of empty ones, too, there may not be any number.
    if len(joined) >= COMMAND_BYTES_MAX:
        raise InvalidJob(f"the command is over the limit of {COMMAND_BYTES_MAX} bytes")


def check_name(name: str, whose: str = "a name") -> None:
    """Of a job, or of what else `whose` says."""
    if not 0 < len(name) <= NAME_LENGTH_MAX:
        raise InvalidJob(f"{whose} has 1 to {NAME_LENGTH_MAX} letters")
    if "\0" in name:
        # Tasks are told it in a variable.
        raise InvalidJob(f"{whose} holds a zero byte")


def check_user(user: str) -> None:
    """Who says something; it may be nobody."""
    if user:
        check_name(user, "a user's name")


def check_directory(cwd: bytes) -> None:
    """Where it runs."""
    if not cwd.startswith(b"/") or b"\0" in cwd or len(cwd) > PATH_BYTES_MAX:
        raise InvalidJob(f"the working directory {_text(cwd)!r} is no absolute path")


def check_variables(variables: Iterable[tuple[bytes, bytes]]) -> None:
    """Of an environment."""
    total = 0
    for name, value in variables:
        if not name or b"=" in name or b"\0" in name or b"\0" in value:
            raise InvalidJob(f"{_text(name)!r} cannot be the name of an environment variable")
        # As a task gets it: NAME=value and a zero byte.
        size = len(name) + len(value) + 2
        total += size
        if size > ARGUMENT_BYTES_MAX:
            raise InvalidJob(
                f"the variable {_text(name)} takes {size} bytes, over the system's limit of "
                f"{ARGUMENT_BYTES_MAX}"
            )
    if total > ENVIRONMENT_BYTES_MAX:
        raise InvalidJob(
            f"the environment takes {total} bytes, over the limit of {ENVIRONMENT_BYTES_MAX}"
        )


def check_secret_names(names: Sequence[bytes], variables: Iterable[tuple[bytes, bytes]]) -> None:
    """Of an environment with these variables set beside its secrets."""
    if not names:
        return
    seen = {name for name, _ in variables}
    for name in names:
        if not name or b"=" in name or b"\0" in name:
            raise InvalidJob(f"{_text(name)!r} cannot be the name of a secret's variable")
        if name in seen:
            raise InvalidJob(f"the variable {_text(name)} is set twice, once as a secret")
        seen.add(name)


def check_secret_values(secrets: Iterable[tuple[bytes, bytes]]) -> None:
    """What no sentence here may ever repeat is the values."""
    size_bytes = 0
    for name, value in secrets:
        if b"\0" in value:
            raise InvalidJob(f"the secret {_text(name)} holds a zero byte: no variable can")
        size_bytes += len(name) + len(value) + 2
    if size_bytes > SECRET_BYTES_MAX:
        raise InvalidJob(
            f"the secrets of a job take {size_bytes} bytes, over the limit of {SECRET_BYTES_MAX}"
        )


def check_resources(demand: Resources) -> None:
    """What a task asks for."""
    cpus_milli, memory_bytes, named = demand
    if cpus_milli <= 0:
        raise InvalidJob("cpus must be more than 0")
    if cpus_milli > CPUS_MILLI_MAX:
        raise InvalidJob(
            f"{cpus_milli / 1000:g} cpus are absurd: there may be {CPUS_MILLI_MAX // 1000}"
        )
    if memory_bytes < 0:
        raise InvalidJob("memory must not be negative")
    if memory_bytes > MEMORY_BYTES_MAX:
        raise InvalidJob(f"so much memory is absurd: there may be {MEMORY_BYTES_MAX} bytes")
    if 0 < memory_bytes < MEMORY_LIMIT_BYTES_MIN:
        raise InvalidJob(
            f"{units.format_size(memory_bytes)} of memory are less than a program's "
            f"start takes: ask for at least {MEMORY_LIMIT_BYTES_MIN >> 20}M, or for 0, which is no "
            "limit"
        )
    if len(named) > NAMED_RESOURCES_MAX:
        raise InvalidJob(f"it asks for over {NAMED_RESOURCES_MAX} kinds of resources")
    for name, count in named:
        if not 0 < len(name) <= NAME_LENGTH_MAX:
            raise InvalidJob(f"a resource has no name or one of over {NAME_LENGTH_MAX} letters")
        if not 0 < count <= NAMED_RESOURCE_MAX:
            raise InvalidJob(f"{name}={count} is out of range: 1 to {NAMED_RESOURCE_MAX}")
        if name in OWN_RESOURCES:
            raise InvalidJob(f"{name} is no named resource: it is asked for with --{name}")


def check_capacity(capacity: Resources) -> None:
    """What a worker has."""
    cpus = capacity.cpus_milli
    if not 0 < cpus <= CPUS_MILLI_MAX:
        raise InvalidJob(f"a worker cannot have {cpus / 1000:g} cpus")
    memory = capacity.memory_bytes
    if not 0 <= memory <= MEMORY_BYTES_MAX:
        raise InvalidJob(f"a worker cannot have {memory} bytes of memory")
    if len(capacity.named) > NAMED_RESOURCES_MAX:
        raise InvalidJob(f"a worker has at most {NAMED_RESOURCES_MAX} kinds of resources")
    for name, count in capacity.named:
        if len(name) > NAME_LENGTH_MAX:
            raise InvalidJob(f"the name of a resource has over {NAME_LENGTH_MAX} letters")
        if not name or name in OWN_RESOURCES or not 0 < count <= NAMED_RESOURCE_MAX:
            raise InvalidJob(f"a worker cannot have {name}={count}")


def check_labels(labels: Sequence[tuple[str, str]]) -> None:
    """Of a worker."""
    if len(labels) > LABELS_MAX:
        raise InvalidJob(f"a worker has at most {LABELS_MAX} labels")
    for name, value in labels:
        if not 0 < len(name) <= NAME_LENGTH_MAX or len(value) > NAME_LENGTH_MAX:
            raise InvalidJob(
                f"a label has a name of 1 to {NAME_LENGTH_MAX} letters and a value of no more"
            )


def check_time_limit(
    time_limit_ms: int, grace_ms: int, end_signal: int, end_signal_before_ms: int
) -> None:
    """0 stands for none."""
    if time_limit_ms < 0:
        raise InvalidJob("a time limit must be more than 0")
    if time_limit_ms > TIME_LIMIT_MS_MAX:
        raise InvalidJob("the time limit is over ten years")
    if not 0 <= grace_ms <= GRACE_MS_MAX:
        raise InvalidJob("the grace after a time limit is 0 to one day")
    if not end_signal:
        if end_signal_before_ms:
            raise InvalidJob("no signal is named to be sent before the end")
        return
    if not 1 <= end_signal <= SIGNAL_MAX:
        raise InvalidJob(f"{end_signal} is no signal: they are 1 to {SIGNAL_MAX}")
    if time_limit_ms <= 0:
        raise InvalidJob("a signal before the end needs a time limit")
    if not 0 < end_signal_before_ms < time_limit_ms:
        raise InvalidJob(
            f"the signal before the end is due {end_signal_before_ms} ms before a time "
            f"limit of {time_limit_ms} ms: it has to come between start and limit"
        )


def check_execution(execution: Execution, demand: Resources) -> None:
    """How it is to be run; what that means is the worker's business."""
    if execution == PLAIN:
        return
    if not -1 <= execution.umask <= UMASK_MAX:
        raise InvalidJob(f"{execution.umask:o} is no umask: they are 0 to {UMASK_MAX:o}, octal")
    check_pattern(execution.stdin, "the name of stdin")
    check_pattern(execution.stdout, "the name of stdout")
    check_pattern(execution.stderr, "the name of stderr")
    if not 0 <= execution.pids_max <= PIDS_MAX:
        raise InvalidJob(f"a limit of {execution.pids_max} processes is out of range")
    if execution.pin and demand.cpus_milli % 1000:
        raise InvalidJob(f"{demand.cpus_milli / 1000:g} cpus cannot be pinned: ask for whole ones")
    _check_isolation(execution)
    if execution.trace_parent and parse_parent(execution.trace_parent) is None:
        raise InvalidJob("its trace parent is none as W3C's Trace Context has it")
    if not is_state(execution.trace_state):
        raise InvalidJob("its trace state is none as W3C's Trace Context has it")
    before = ""
    for name, soft, hard in execution.ulimits:
        if name not in ULIMITS:
            raise InvalidJob(f"{name!r} is no resource limit; there are: {', '.join(ULIMITS)}")
        if name <= before:
            raise InvalidJob("resource limits are sorted and each is there once")
        if not (-1 <= soft <= _ULIMIT_MAX and -1 <= hard <= _ULIMIT_MAX):
            raise InvalidJob(f"the limit {name} is out of range")
        if hard != -1 and not 0 <= soft <= hard:
            raise InvalidJob(f"the limit {name} must not be above its hard limit")
        before = name


def _check_isolation(execution: Execution) -> None:
    if execution.run_as:
        try:
            check_grant_name(execution.run_as)
        except ValueError as error:
            raise InvalidJob(f"--user: {error}") from error
        if execution.run_as in (EVERYBODY, SELF):
            raise InvalidJob(f"--user {execution.run_as} names no account")
    if execution.no_network and execution.sandbox is Sandbox.NONE:
        raise InvalidJob("only a sandbox can be without network: add --sandbox bubblewrap")


def check_pattern(name: bytes, what: str) -> None:
    """A file name that is another one for each task; the sentence begins with `what`."""
    if b"\0" in name:
        raise InvalidJob(f"{what} holds a zero byte")
    if len(name) > PATH_BYTES_MAX:
        raise InvalidJob(f"{what} is over the limit of {PATH_BYTES_MAX} bytes")
    for sign in _PATTERN.findall(name):
        if sign not in _SIGNS:
            raise InvalidJob(
                f"{what} holds %{_text(sign)}, which stands for nothing: there are %j (job), %i "
                "(index), %n (name), %a (attempt), and %% for a %"
            )


def check_script(execution: Execution, command: Sequence[bytes], text: bytes) -> None:
    """The script that is run, if one is: that a worker's kernel, or an interpreter, can run it.

    `text` came with it, and counts if the script is to be that.
    """
    interpreter = execution.interpreter
    match execution.script_source:
        case ScriptSource.NONE:
            fault = "an interpreter is named, but no script" if interpreter else ""
        case ScriptSource.SENT:
            fault = _fault_of_text(_text(command[0]), text, has_interpreter=bool(interpreter))
        case ScriptSource.ON_WORKER:
            fault = _fault_of_path(command[0])
        case _:
            assert_never(execution.script_source)
    if len(text) > SCRIPT_BYTES_MAX:
        fault = (
            f"a script of {len(text)} bytes is over the limit of {SCRIPT_BYTES_MAX}: "
            "keep data in files of its own"
        )
    fault = fault or _fault_of_interpreter(interpreter)
    if fault:
        raise InvalidJob(fault)


def _fault_of_text(name: str, script: bytes, *, has_interpreter: bool) -> str:
    if not script:
        return f"the script {name} is empty"
    if has_interpreter:
        return ""
    first, _, _ = script.partition(b"\n")
    if first.startswith(_BYTE_ORDER_MARK):
        return f"{name} begins with a byte order mark, which hides its first line: save it without"
    if not first.startswith(b"#!"):
        return (
            f"{name} does not begin with a #! line that says what runs it: add one, such as "
            "#!/bin/sh, or name an interpreter, as --interpreter bash"
        )
    if first.endswith(b"\r"):
        return (
            f"the lines of {name} end as on Windows (CR LF), and no program is called "
            rf"{_text(first[2:].strip())!r}\r: convert it, as by "
            r"sed -i 's/\r$//'"
        )
    if b"\0" in first:
        return f"the first line of {name} holds a zero byte: it is no script"
    if not first[2:].strip():
        return f"the #! line of {name} names no program: write it as #!/bin/sh"
    return ""


def _fault_of_path(path: bytes) -> str:
    if path.startswith(b"/") or b".." in path.split(b"/"):
        return (
            f"the worker's script {_text(path)!r} has to be a path below the "
            "worker's folder of scripts: without a / at the beginning, and without .."
        )
    return ""


def _fault_of_interpreter(interpreter: tuple[bytes, ...]) -> str:
    if interpreter and not interpreter[0]:
        return "the interpreter has an empty name"
    if any(b"\0" in word for word in interpreter):
        return "the interpreter holds a zero byte"
    if sum(len(word) + 1 for word in interpreter) > INTERPRETER_BYTES_MAX:
        return f"the interpreter is over the limit of {INTERPRETER_BYTES_MAX} bytes"
    return ""


def check_scheduling(scheduling: Scheduling, *, is_array: bool) -> None:
    """When and where it is to run, but for the jobs that it names."""
    s = scheduling
    if s == PLAIN_SCHEDULING:
        return
    if not 0 <= s.retries <= RETRIES_MAX:
        raise InvalidJob(f"it can be retried 0 to {RETRIES_MAX} times")
    if len(s.retry_on) > 256 or not all(0 <= code <= 255 for code in s.retry_on):
        raise InvalidJob("exit codes to retry on are 0 to 255")
    if s.retry_on and s.retries <= 0:
        raise InvalidJob("it names exit codes to retry on and no retries")
    if s.at_most_once and s.retries:
        raise InvalidJob("what runs at most once is not tried again: give no retries")
    if not (0 <= s.array_limit <= ARRAY_TASKS_MAX and -1 <= s.max_fails <= ARRAY_TASKS_MAX):
        raise InvalidJob(f"limits of an array are 0 to {ARRAY_TASKS_MAX} tasks")
    if not is_array and (s.array_limit or s.max_fails >= 0):
        raise InvalidJob("limits of tasks at once, or of failed ones, are for arrays")
    if min(s.begin_us, s.deadline_us) < 0 or max(s.begin_us, s.deadline_us) > TIME_US_MAX:
        raise InvalidJob("the time to begin, or the deadline, is out of range")
    if s.deadline_us and s.begin_us >= s.deadline_us:
        raise InvalidJob("it is to begin when its deadline is over")
    _check_constraints(s.constraints)
    if len(s.spread) > NAME_LENGTH_MAX:
        raise InvalidJob("the label to spread over is too long")


def _check_constraints(constraints: tuple[LabelConstraint, ...]) -> None:
    if len(constraints) > CONSTRAINTS_MAX:
        raise InvalidJob(f"it has over {CONSTRAINTS_MAX} constraints")
    for each in constraints:
        texts = (each.label, *each.values)
        if (
            not each.label
            or not 0 < len(each.values) <= CONSTRAINTS_MAX
            or any(len(text) > NAME_LENGTH_MAX for text in texts)
        ):
            raise InvalidJob(
                f"a constraint names a label and 1 to {CONSTRAINTS_MAX} values of up to "
                f"{NAME_LENGTH_MAX} letters, such as zone==a"
            )


def _text(value: bytes) -> str:
    """For a sentence, which a hundred letters of it are enough for."""
    text = value.decode(errors="replace")
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[:_SHOWN_LENGTH_MAX]}…"
