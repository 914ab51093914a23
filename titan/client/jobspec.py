"""What a user asks for, in Python values: a JobSpec, checked and made a message.

Pure but for the defaults that `for_this_process` takes from the process: its
directory and its environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

from titan import units
from titan.client.dependencies import REFERENCES_MAX, NamedJob, References, Waited
from titan.client.execution import isolation_of, limits_of, umask_of
from titan.client.moments import TimeToCome
from titan.client.names import to_wire
from titan.client.scheduling import scheduling_of
from titan.client.scripts import Script, interpreter_words, script_of, worker_script_word
from titan.client.time_limit import time_limit_of
from titan.client.ulimits import Value
from titan.errors import InvalidJob, reason_of
from titan.model import (
    CPUS_MILLI_MAX,
    MEMORY_BYTES_MAX,
    NAMED_RESOURCE_MAX,
    Execution,
    IndexRange,
    ScriptSource,
)
from titan.rpc.execution import execution_message
from titan.rpc.v1 import manager_pb2, types_pb2

Text = str | bytes
Word = Text | os.PathLike[str] | os.PathLike[bytes]
SecretEnv = Mapping[str, Text] | Mapping[bytes, Text]

DEFAULT_EXPORT: Final = ("PATH", "LANG", "VIRTUAL_ENV", "CONDA_PREFIX")
_PRIORITY_MAX: Final = 2**31 - 1
# What a shell takes as one, with whatever stands behind it.
_ASSIGNMENT: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*\+?=")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to submit. The names are those of `titan submit`.

    command: the words, executed as given; with `shell` one line for /bin/sh (several
        words are joined by spaces).
    cpus: a number or text as in the CLI, in steps of 0.001.
    memory: bytes, or text with a unit ("4GiB"); 0 promises nothing and limits nothing.
    resources: how many of each named resource, {"gpu": 1}.
    array: a SPEC ("0-9", "1,5,7-9", "0-99:2"), a range or any indexes; None: a plain job. A SPEC
        may end with how many tasks may be under way at once: "0-999%50".
    array_limit: the same for an array of other indexes; None: no limit.
    env: variables set for the job; they win over exported ones.
    secret_env: the same of what nobody else is to see: no log, answer or listing has the values,
        and they are removed once the job has ended. Text or bytes, 128 KiB in all.
    export: names taken from this process's environment, "ALL" or "NONE".
    cwd: where it runs; None: here.
    time_limit: how long each attempt may run, in seconds or as text ("1h30m"); then it gets
        SIGTERM, and after `grace` (10 s) SIGKILL, and has FAILED with the reason TIMEOUT.
    signal_before_end: "USR1@60s" sends that signal once, that long before the time limit.
    on: the one worker where it may run, by name or id; None: any.
    umask: of the files that it makes, a number or octal digits ("027"); None: the worker's.
    script: a file here, or a text (bytes, or with a line break), that goes with the job and is
        run with the words of `command` as its arguments. #TITAN lines in it are for the CLI.
    worker_script: the same with a script that lives on the worker, by its path below the folder
        given to `titan worker --scripts-dir`.
    interpreter: what runs the script, as "bash -e" or words; None: its #! line says.
    stdin: a file on the worker, relative to cwd, that the job reads; %j, %i, %n and %a in it are
        the job's number, the task's index, the job's name, the attempt. None: /dev/null.
    stdout, stderr: files on the worker, named as stdin is, that its output is appended to; both
        may be the same. None: files of the worker's own.
    ulimits: resource limits as setrlimit(2) has them, {"nofile": 1024, "core": (0, "unlimited"),
        "fsize": "10G"}: one value, or a soft and a hard one; -1 or "unlimited": none.
    pids_limit: how many processes and threads it may have at once.
    cpu_limit: it may use no more cpu time than its `cpus`, even where others are idle.
    pin: it runs on whole cpus, which no other pinned task shares while there are enough.
    after: jobs that have to have ended before it starts: 42, "42", "last", "name:fetch", a
        `titan.Job`, or the JobSpec of one that is submitted with it. Text may name a task ("42.7"),
        each task's own index ("42.%i"), and how it has to have ended ("42:any", "42:failed"; else
        "ok"); `titan.After` says the same of a JobSpec.
    constraints: what workers' labels have to be, "zone==a and disk in (ssd,nvme)"; all of them.
    affinity: only workers where tasks of these jobs are, named as for `after`; "self" keeps all
        of its own tasks on one worker.
    anti_affinity: only workers where none are; "self" puts each of its tasks on another.
    spread: a label over whose values its tasks are spread evenly.
    exclusive: nothing else runs on its worker meanwhile.
    retries: how often a task that FAILED is tried again, 0 to 1000.
    retry_on: only after these exit codes; none are: however it failed.
    max_fails: once more tasks of the array than that FAILED, the others are cancelled.
    begin: not before that time: Unix seconds, a datetime, or text ("now+1h", "16:00").
    deadline: what can't end by that time does not start, and what runs then is cancelled.
    preemptible: a job of higher priority may stop its tasks, which then wait again.
    at_most_once: a task that may have begun is never started again; without retries.
    hold: it waits until it is released.
    user: the account of the worker's machine that it runs as, where the worker's --run-as-policy
        allows it for who submits, whose name has to be proven. None: the worker's own.
    sandbox: "bubblewrap" gives it a /tmp, /dev and /proc of its own, and all else read-only but
        `cwd`; "none".
    no_network: of a sandbox: without any network.
    """

    command: Sequence[Word] | str = ()
    name: str | None = None
    cpus: float | str = 1
    memory: int | str = 0
    resources: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0
    array: str | Iterable[int] | None = None
    env: Mapping[str, str] | Mapping[bytes, bytes] = field(default_factory=dict)
    secret_env: SecretEnv = field(default_factory=dict, repr=False)
    export: Iterable[str] | str = DEFAULT_EXPORT
    cwd: Word | None = None
    shell: bool = False
    time_limit: float | str | None = None
    grace: float | str | None = None
    signal_before_end: str | None = None
    on: str | None = None
    umask: int | str | None = None
    script: str | bytes | os.PathLike[str] | os.PathLike[bytes] | Script | None = None
    worker_script: str | os.PathLike[str] | None = None
    interpreter: str | Sequence[str | bytes] | None = None
    stdin: Word | None = None
    stdout: Word | None = None
    stderr: Word | None = None
    ulimits: Mapping[str, Value] = field(default_factory=dict)
    pids_limit: int | None = None
    cpu_limit: bool = False
    pin: bool = False
    array_limit: int | None = None
    after: Sequence[Waited] | Waited = ()
    constraints: Sequence[str] | str = ()
    affinity: Sequence[NamedJob] | NamedJob = ()
    anti_affinity: Sequence[NamedJob] | NamedJob = ()
    spread: str | None = None
    exclusive: bool = False
    retries: int = 0
    retry_on: Sequence[int] = ()
    max_fails: int | None = None
    begin: TimeToCome | None = None
    deadline: TimeToCome | None = None
    preemptible: bool = False
    at_most_once: bool = False
    hold: bool = False
    user: str | None = None
    sandbox: str = "none"
    no_network: bool = False


def to_message(spec: JobSpec, references: References | None = None) -> manager_pb2.JobSpec:
    """The job without its environment, and with `references` with the jobs that it names.

    Raises InvalidJob.
    """
    try:
        words = _words(spec)
        resources = _resources(spec)
        ranges, array_limit = _array(spec)
        message = manager_pb2.JobSpec(
            name=spec.name if spec.name is not None else default_name(words, shell=spec.shell),
            command=words,
            cwd=os.fsencode(os.path.abspath(spec.cwd) if spec.cwd is not None else os.getcwd()),
            resources=resources,
            priority=_priority(spec.priority),
            array=to_wire(ranges),
            **time_limit_of(spec.time_limit, spec.grace, spec.signal_before_end)._asdict(),
            execution=execution_message(_execution(spec, resources)),
            on=_on(spec),
            scheduling=_scheduling(spec, array_limit, is_array=bool(ranges)),
        )
    except ValueError as error:
        raise InvalidJob(reason_of(error)) from error
    except FileNotFoundError as error:
        raise InvalidJob("this directory no longer exists; give another with cwd") from error
    if references is not None:
        name_jobs(message, spec, references)
    return message


def name_jobs(message: manager_pb2.JobSpec, spec: JobSpec, references: References) -> None:
    """Adds what the job waits for, and the jobs near which it wants to be. Raises InvalidJob."""
    named = len(named_jobs(spec))
    if not named:
        return
    if named > REFERENCES_MAX:
        raise InvalidJob(
            f"it names {named:,} jobs, and {REFERENCES_MAX:,} are the most: make one array of "
            "those that are alike, or let a job in between wait for some of them"
        )
    after = [references.dependency(each) for each in _several(spec.after)]
    if not message.array and any(each.same_index for each in after):
        raise InvalidJob("after: %i is the index of an array's task, and this job is no array")
    near = [references.affinity(each, anti=False) for each in _several(spec.affinity)]
    apart = [references.affinity(each, anti=True) for each in _several(spec.anti_affinity)]
    if after:
        message.scheduling.after.extend(after)
    if near or apart:
        message.scheduling.affinities.extend([*near, *apart])


def named_jobs(spec: JobSpec) -> list[Waited]:
    """All the jobs that it names."""
    # Of a flood of jobs hardly any names one.
    if spec.after == () and spec.affinity == () and spec.anti_affinity == ():
        return []
    return [
        *_several(spec.after),
        *_several(spec.affinity),
        *_several(spec.anti_affinity),
    ]


def _several(given: Any) -> Sequence[Any]:
    """A single one is as good as a list of it."""
    return given if isinstance(given, list | tuple) else [given]


def environment_of(spec: JobSpec, environ: Mapping[bytes, bytes]) -> types_pb2.Environment:
    """What of `environ` the job takes along, what is set for it, its secrets, and its script.

    Raises InvalidJob.

    Names that are not in `environ` are left out.
    """
    if spec.export == "ALL":
        # What proves who the user is, is for him alone: jobs' environments are kept in the log.
        exported = sorted(set(environ) - {b"TITAN_TOKEN"})
    elif spec.export == "NONE":
        exported = []
    else:
        wanted = spec.export.split(",") if isinstance(spec.export, str) else spec.export
        exported = sorted({os.fsencode(name.strip()) for name in wanted} & set(environ))
    set_here = {os.fsencode(name): os.fsencode(value) for name, value in spec.env.items()}
    for name, value in set_here.items():
        if not name or b"=" in name or b"\0" in name + value:
            raise InvalidJob(f"{os.fsdecode(name)!r} can't be the name of a variable")
    script = script_of(spec.script) if spec.script is not None else None
    secrets: list[tuple[bytes, bytes]] = []
    if spec.secret_env:
        from titan.client.secret_env import secret_variables  # noqa: PLC0415 - few jobs have any

        secrets = secret_variables(spec.secret_env, set_here)
    return types_pb2.Environment(
        exported=[types_pb2.Variable(name=name, value=environ[name]) for name in exported],
        set=[types_pb2.Variable(name=name, value=set_here[name]) for name in sorted(set_here)],
        script=script.text if script else b"",
        secrets=[types_pb2.Variable(name=name, value=value) for name, value in secrets],
    )


def default_name(words: Sequence[bytes], *, shell: bool) -> str:
    """The basename of the command; of a shell line that of its first word.

    Not where that gives a variable a value: names are for everybody and in logs, and `TOKEN=…` is
    for neither.
    """
    first = words[0]
    if shell:
        line = words[-1].split()
        first = line[0] if line and not _ASSIGNMENT.match(line[0]) else b"sh"
    # PurePath("/") has no name.
    return PurePath(os.fsdecode(first)).name.encode("utf-8", "replace").decode() or "job"


def _on(spec: JobSpec) -> str:
    if spec.on == "":
        raise ValueError("on names no worker; `titan workers` lists them")
    return spec.on or ""


def _scheduling(
    spec: JobSpec, array_limit: int, *, is_array: bool
) -> manager_pb2.Scheduling | None:
    """What was asked for beside the jobs that are named; None when nothing was."""
    message = scheduling_of(
        constraints=spec.constraints,
        spread=spec.spread,
        exclusive=spec.exclusive,
        array_limit=array_limit,
        max_fails=spec.max_fails,
        retries=spec.retries,
        retry_on=spec.retry_on,
        begin=spec.begin,
        deadline=spec.deadline,
        preemptible=spec.preemptible,
        at_most_once=spec.at_most_once,
        hold=spec.hold,
        is_array=is_array,
    )
    return message if message.ByteSize() else None


def _execution(spec: JobSpec, resources: types_pb2.Resources) -> Execution:
    source = ScriptSource.NONE
    if spec.script is not None:
        source = ScriptSource.SENT
    elif spec.worker_script is not None:
        source = ScriptSource.ON_WORKER
    elif spec.interpreter is not None:
        raise ValueError("an interpreter runs a script: name one with --script or --worker-script")
    limits = limits_of(
        ulimits=spec.ulimits,
        pids_limit=spec.pids_limit,
        cpu_limit=spec.cpu_limit,
        pin=spec.pin,
        cpus_milli=resources.cpus_milli,
        memory_bytes=resources.memory_bytes,
    )
    isolation = isolation_of(spec.user, spec.sandbox, no_network=spec.no_network)
    return limits._replace(
        run_as=isolation.run_as,
        sandbox=isolation.sandbox,
        no_network=isolation.no_network,
        umask=umask_of(spec.umask),
        script_source=source,
        interpreter=tuple(interpreter_words(spec.interpreter)),
        stdin=_file_name("stdin", spec.stdin, "/dev/null"),
        stdout=_file_name("stdout", spec.stdout, "the worker's own file"),
        stderr=_file_name("stderr", spec.stderr, "the worker's own file"),
    )


def _file_name(stream: str, given: Word | None, default: str) -> bytes:
    if given is None:
        return b""
    name = os.fsencode(given)
    if not name:
        raise ValueError(f"{stream} has an empty name: leave it out for {default}")
    from titan.checks import check_pattern  # noqa: PLC0415 - loads what few jobs need

    check_pattern(name, f"the name of {stream}")
    return name


def _words(spec: JobSpec) -> list[bytes]:
    if spec.script is None and spec.worker_script is None:
        words = _command_words(spec)
    else:
        words = _script_words(spec)
    if any(b"\0" in word for word in words):
        raise ValueError("a command can't hold zero bytes")
    return words


def _script_words(spec: JobSpec) -> list[bytes]:
    if spec.script is not None and spec.worker_script is not None:
        raise ValueError("a job runs one script: leave out --script or --worker-script")
    if spec.shell:
        raise ValueError("a script is no line of shell: leave out --shell")
    if isinstance(spec.command, str):
        raise ValueError("the arguments of a script are a list of words, such as ['--fast', '3']")
    if spec.script is not None:
        first = script_of(spec.script).name
    else:
        assert spec.worker_script is not None
        first = worker_script_word(spec.worker_script)
    return [first, *map(os.fsencode, spec.command)]


def _command_words(spec: JobSpec) -> list[bytes]:
    if isinstance(spec.command, str):
        if not spec.shell:
            raise ValueError(
                "a command is a list of words, such as ['python', 'train.py']; "
                "for a line of shell give shell=True"
            )
        words = [os.fsencode(spec.command)]
    else:
        words = [os.fsencode(word) for word in spec.command]
    if spec.shell:
        words = [b"/bin/sh", b"-c", b" ".join(words)] if b"".join(words).strip() else []
    if not words or not words[0]:
        raise ValueError("no command: say what to run")
    return words


def _resources(spec: JobSpec) -> types_pb2.Resources:
    cpus_milli = _cpus_milli(spec.cpus)
    memory = units.parse_size(spec.memory) if isinstance(spec.memory, str) else spec.memory
    if not 0 <= memory <= MEMORY_BYTES_MAX:
        raise ValueError(f"{memory!r} bytes of memory: give 0 to {MEMORY_BYTES_MAX}")
    for name, count in spec.resources.items():
        if not name or not 0 <= count <= NAMED_RESOURCE_MAX:
            raise ValueError(f"{name}={count} is no resource; write it as gpu=2")
    return types_pb2.Resources(
        cpus_milli=cpus_milli,
        memory_bytes=memory,
        named={name: count for name, count in sorted(spec.resources.items()) if count},
    )


def _cpus_milli(cpus: float | str) -> int:
    if isinstance(cpus, str):
        return units.parse_cpus(cpus)
    milli = round(cpus * 1000)
    if not 0 < milli <= CPUS_MILLI_MAX:
        raise ValueError(f"{cpus!r} cpus: give more than 0, such as 0.5 or 2")
    return milli


def _priority(priority: int) -> int:
    if abs(priority) > _PRIORITY_MAX:
        raise ValueError(f"a priority of {priority}; give -{_PRIORITY_MAX} to {_PRIORITY_MAX}")
    return priority


def _array(spec: JobSpec) -> tuple[tuple[IndexRange, ...], int]:
    """Its ranges, and how many tasks may be under way at once; 0: any."""
    ranges, limit = _ranges(spec.array)
    if spec.array_limit is None:
        return ranges, limit
    if spec.array_limit < 1:
        raise ValueError("with an array_limit below 1 no task would ever start")
    if limit not in {0, spec.array_limit}:
        raise ValueError(f"the array is limited to {limit} and to {spec.array_limit} tasks at once")
    return ranges, spec.array_limit


def _ranges(array: str | Iterable[int] | None) -> tuple[tuple[IndexRange, ...], int]:
    if array is None:
        return (), 0
    from titan.client.arrays import (  # noqa: PLC0415 - most jobs are none
        parse_array_and_limit,
        parse_indexes,
    )

    return parse_array_and_limit(array) if isinstance(array, str) else (parse_indexes(array), 0)
