"""What a program to be run must hold to be accepted, whoever accepts it.

Pure. Each raises InvalidJob with a sentence that begins with the `prefix` it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from titan import units
from titan.errors import InvalidJob
from titan.model import (
    ARRAY_TASKS_MAX,
    CPUS_MILLI_MAX,
    GRACE_MS_MAX,
    MEMORY_BYTES_MAX,
    MEMORY_LIMIT_BYTES_MIN,
    NAMED_RESOURCE_MAX,
    OWN_RESOURCES,
    PIDS_MAX,
    RETRIES_MAX,
    SCRIPT_BYTES_MAX,
    SIGNAL_MAX,
    TIME_LIMIT_MS_MAX,
    TIME_US_MAX,
    ULIMITS,
    UMASK_MAX,
    Execution,
    Resources,
    ScriptSource,
)
from titan.scheduling import Scheduling

# The kernel's limit for one argument is 128 KiB (MAX_ARG_STRLEN in execve(2)).
ARGUMENT_BYTES_MAX: Final = 128 * 1024 - 1
_ULIMIT_MAX: Final = (1 << 63) - 1
COMMAND_BYTES_MAX: Final = 1024 * 1024
# PATH_MAX in limits.h counts the final zero.
PATH_BYTES_MAX: Final = 4095
NAME_LENGTH_MAX: Final = 255
NAMED_RESOURCES_MAX: Final = 64
CONSTRAINTS_MAX: Final = 64
# An interpreter and its options.
INTERPRETER_BYTES_MAX: Final = 4096
_PATTERN: Final = re.compile(rb"%(.?)", re.DOTALL)
_SIGNS: Final = (b"j", b"i", b"n", b"a", b"%")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


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
    _check(
        not 0 < demand.memory_bytes < MEMORY_LIMIT_BYTES_MIN,
        f"{prefix}{units.format_size(demand.memory_bytes)} of memory are less than a program's "
        f"start takes: ask for at least {MEMORY_LIMIT_BYTES_MIN >> 20}M, or for 0, which is no "
        "limit",
    )
    _check(len(demand.named) <= NAMED_RESOURCES_MAX, f"{prefix}too many kinds of resources")
    for name, count in demand.named:
        _check(0 < len(name) <= NAME_LENGTH_MAX, f"{prefix}a resource has no name or a long one")
        _check(0 < count <= NAMED_RESOURCE_MAX, f"{prefix}{name}={count} is out of range")
        _check(
            name not in OWN_RESOURCES,
            f"{prefix}{name} is no named resource: it is asked for with --{name}",
        )


def check_capacity(capacity: Resources) -> None:
    """What a worker has."""
    cpus = capacity.cpus_milli
    _check(0 < cpus <= CPUS_MILLI_MAX, f"a worker cannot have {cpus / 1000:g} cpus")
    memory = capacity.memory_bytes
    _check(0 <= memory <= MEMORY_BYTES_MAX, f"a worker cannot have {memory} bytes of memory")
    for name, count in capacity.named:
        holds = name and name not in OWN_RESOURCES and 0 < count <= NAMED_RESOURCE_MAX
        _check(bool(holds), f"a worker cannot have {name}={count}")


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


def check_execution(execution: Execution, demand: Resources, prefix: str) -> None:
    """How it is to be run; what that means is the worker's business."""
    _check(
        -1 <= execution.umask <= UMASK_MAX,
        f"{prefix}{execution.umask:o} is no umask: they are 0 to {UMASK_MAX:o}, octal",
    )
    check_pattern(execution.stdin, f"{prefix}the name of stdin")
    check_pattern(execution.stdout, f"{prefix}the name of stdout")
    check_pattern(execution.stderr, f"{prefix}the name of stderr")
    _check(
        0 <= execution.pids_max <= PIDS_MAX,
        f"{prefix}a limit of {execution.pids_max} processes is out of range",
    )
    _check(
        not execution.pin or demand.cpus_milli % 1000 == 0,
        f"{prefix}{demand.cpus_milli / 1000:g} cpus cannot be pinned: ask for whole ones",
    )
    before = ""
    for name, soft, hard in execution.ulimits:
        _check(
            name in ULIMITS,
            f"{prefix}{name!r} is no resource limit; there are: {', '.join(ULIMITS)}",
        )
        _check(name > before, f"{prefix}resource limits are sorted and each is there once")
        _check(
            -1 <= soft <= _ULIMIT_MAX and -1 <= hard <= _ULIMIT_MAX,
            f"{prefix}the limit {name} is out of range",
        )
        _check(
            hard == -1 or 0 <= soft <= hard,
            f"{prefix}the limit {name} must not be above its hard limit",
        )
        before = name


def check_pattern(name: bytes, what: str) -> None:
    """A file name that is another one for each task; the sentence begins with `what`."""
    _check(b"\0" not in name, f"{what} holds a zero byte")
    _check(len(name) <= PATH_BYTES_MAX, f"{what} is over the limit of {PATH_BYTES_MAX} bytes")
    for sign in _PATTERN.findall(name):
        _check(
            sign in _SIGNS,
            f"{what} holds %{_text(sign)}, which stands for nothing: there are %j (job), %i "
            "(index), %n (name), %a (attempt), and %% for a %",
        )


def check_script(execution: Execution, command: Sequence[bytes], text: bytes, prefix: str) -> None:
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
    _check(not fault, prefix + fault)


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
    if sum(map(len, interpreter)) > INTERPRETER_BYTES_MAX:
        return f"the interpreter is over the limit of {INTERPRETER_BYTES_MAX} bytes"
    return ""


def check_scheduling(scheduling: Scheduling, prefix: str, *, is_array: bool) -> None:
    """When and where it is to run, but for the jobs that it names."""
    s = scheduling
    _check(0 <= s.retries <= RETRIES_MAX, f"{prefix}it can be retried 0 to {RETRIES_MAX} times")
    _check(
        len(s.retry_on) <= 256 and all(0 <= code <= 255 for code in s.retry_on),
        f"{prefix}exit codes to retry on are 0 to 255",
    )
    _check(
        not s.retry_on or s.retries > 0, f"{prefix}it names exit codes to retry on and no retries"
    )
    _check(
        not (s.at_most_once and s.retries),
        f"{prefix}what runs at most once is not tried again: give no retries",
    )
    _check(
        0 <= s.array_limit <= ARRAY_TASKS_MAX and -1 <= s.max_fails <= ARRAY_TASKS_MAX,
        f"{prefix}limits of an array are 0 to {ARRAY_TASKS_MAX} tasks",
    )
    _check(
        is_array or (not s.array_limit and s.max_fails < 0),
        f"{prefix}limits of tasks at once, or of failed ones, are for arrays",
    )
    _check(
        min(s.begin_us, s.deadline_us) >= 0 and max(s.begin_us, s.deadline_us) <= TIME_US_MAX,
        f"{prefix}the time to begin, or the deadline, is out of range",
    )
    _check(
        not s.deadline_us or s.begin_us < s.deadline_us,
        f"{prefix}it is to begin when its deadline is over",
    )
    _check(
        len(s.constraints) <= CONSTRAINTS_MAX, f"{prefix}it has over {CONSTRAINTS_MAX} constraints"
    )
    for each in s.constraints:
        texts = (each.label, *each.values)
        _check(
            bool(each.label)
            and 0 < len(each.values) <= CONSTRAINTS_MAX
            and all(len(text) <= NAME_LENGTH_MAX for text in texts),
            f"{prefix}a constraint names a label and 1 to {CONSTRAINTS_MAX} values of up to "
            f"{NAME_LENGTH_MAX} letters, such as zone==a",
        )
    _check(len(s.spread) <= NAME_LENGTH_MAX, f"{prefix}the label to spread over is too long")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidJob(otherwise)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
