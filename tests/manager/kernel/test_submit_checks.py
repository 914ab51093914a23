"""What is wrong with a job and what is just within the limits."""

from __future__ import annotations

import pytest

from tests.manager.builders import Rig, check_refused, new_job, submit
from tests.manager.kernel.submits import (
    JOB,
    demanding,
    limited,
    limits_of,
    on_worker,
    reading,
    with_environment,
    with_script,
)
from titan.errors import InvalidJob
from titan.manager.kernel.commands import NewJob, SubmitJobs
from titan.model import ARRAY_TASKS_MAX, INDEX_MAX, Execution, ScriptSource
from titan.state import digest

ON_WORKER = ScriptSource.ON_WORKER


# (what, the command, a word that the sentence has to hold)
BAD: list[tuple[str, SubmitJobs, str]] = [
    ("no job", submit(), "no job"),
    ("no command", submit(new_job(command=())), "command is empty"),
    ("an empty program", submit(new_job(command=(b"", b"x"))), "command is empty"),
    ("a zero byte in an argument", submit(new_job(command=(b"a", b"b\0c"))), "zero byte"),
    ("a zero byte in the program", submit(new_job(command=(b"\0",))), "zero byte"),
    ("an argument too long", submit(new_job(command=(b"a" * (1 << 17),))), "131071"),
    ("a command too long", submit(new_job(command=(b"a" * 100_000,) * 11)), "1048576 bytes"),
    ("no name", submit(new_job(name="")), "a name has"),
    ("a long name", submit(new_job(name="n" * 256)), "a name has"),
    ("a relative cwd", submit(new_job(cwd=b"tmp")), "'tmp' is no absolute path"),
    ("no cwd", submit(new_job(cwd=b"")), "absolute path"),
    ("a zero byte in the cwd", submit(new_job(cwd=b"/\0")), "absolute path"),
    ("a long cwd", submit(new_job(cwd=b"/" * 4096)), "absolute path"),
    ("no such environment", submit(new_job(environment=1)), "environment"),
    ("a negative environment", submit(new_job(environment=-1)), "environment"),
    ("a high priority", submit(new_job(priority=1_000_000_001)), "priority"),
    ("a low priority", submit(new_job(priority=-1_000_000_001)), "priority"),
    ("no cpus", submit(demanding(cpus_milli=0)), "more than 0"),
    ("negative cpus", submit(demanding(cpus_milli=-1)), "more than 0"),
    ("absurd cpus", submit(demanding(cpus_milli=1_000_000_001)), "absurd"),
    ("negative memory", submit(demanding(memory_bytes=-1)), "negative"),
    ("absurd memory", submit(demanding(memory_bytes=(1 << 60) + 1)), "absurd"),
    ("a resource without a name", submit(demanding(named=(("", 1),))), "no name"),
    ("a resource with a long name", submit(demanding(named=(("g" * 256, 1),))), "no name"),
    ("none of a resource", submit(demanding(named=(("gpu", 0),))), "gpu=0"),
    ("less than none", submit(demanding(named=(("gpu", -2),))), "gpu=-2"),
    ("an absurd count", submit(demanding(named=(("gpu", 1 << 41),))), "out of range"),
    ("cpus as a resource", submit(demanding(named=(("cpus", 2),))), "cpus"),
    ("memory as a resource", submit(demanding(named=(("memory", 2),))), "memory"),
    (
        "too many resources",
        submit(demanding(named=tuple((f"r{i:02}", 1) for i in range(65)))),
        "over 64 kinds",
    ),
    ("an empty range", submit(new_job(array=[(3, 3)])), "empty"),
    ("a falling range", submit(new_job(array=[(5, 2)])), "empty"),
    ("a range without a step", submit(new_job(array=[(0, 5, 0)])), "empty"),
    ("a range that steps back", submit(new_job(array=[(5, 0, -1)])), "empty"),
    ("a negative index", submit(new_job(array=[(-1, 3)])), "empty"),
    ("an index too high", submit(new_job(array=[(INDEX_MAX, INDEX_MAX + 2)])), str(INDEX_MAX)),
    ("ranges that overlap", submit(new_job(array=[(0, 5), (4, 9)])), "rise and not overlap"),
    ("ranges that interleave", submit(new_job(array=[(0, 9, 2), (1, 9, 2)])), "not overlap"),
    ("ranges that fall", submit(new_job(array=[(5, 9), (0, 2)])), "rise"),
    ("a range twice", submit(new_job(array=[(0, 2), (0, 2)])), "rise"),
    ("too many tasks", submit(new_job(array=[(0, ARRAY_TASKS_MAX + 1)])), "10000001 tasks"),
    (
        "too many tasks in two ranges",
        submit(new_job(array=[(0, ARRAY_TASKS_MAX), (ARRAY_TASKS_MAX, ARRAY_TASKS_MAX + 1)])),
        "10000001 tasks",
    ),
    (
        "too many ranges",
        submit(new_job(array=[(2 * i, 2 * i + 1) for i in range(10_001)])),
        "10000 ranges",
    ),
    ("a negative time limit", submit(new_job(time_limit_ms=-1)), "more than 0"),
    ("an endless time limit", submit(limited(time_limit_ms=315_360_000_001)), "ten years"),
    ("a negative grace", submit(limited(grace_ms=-1)), "one day"),
    ("a long grace", submit(limited(grace_ms=86_400_001)), "one day"),
    ("a negative signal", submit(limited(end_signal=-1)), "-1 is no signal"),
    ("a signal beyond the last", submit(limited(end_signal=65)), "they are 1 to 64"),
    ("a signal before no end", submit(limited(time_limit_ms=0)), "needs a time limit"),
    ("a signal at the end", submit(limited(end_signal_before_ms=0)), "due 0 ms before"),
    ("a signal before the start", submit(limited(end_signal_before_ms=-1)), "between start"),
    ("a signal at the start", submit(limited(end_signal_before_ms=9_000)), "between start"),
    ("a time for no signal", submit(limited(end_signal=0)), "no signal is named"),
    ("less memory than a start", submit(demanding(memory_bytes=(16 << 20) - 1)), "at least 16M"),
    ("half a cpu pinned", submit(new_job(cpus=0.5, execution=Execution(pin=True))), "whole ones"),
    ("negative pids", submit(new_job(execution=Execution(pids_max=-1))), "-1 processes"),
    ("no such limit", submit(limits_of(("files", 1, 1))), "'files' is no resource limit"),
    ("a limit twice", submit(limits_of(("as", 1, 1), ("as", 2, 2))), "is there once"),
    ("soft above hard", submit(limits_of(("core", 2, 1))), "not be above its hard"),
    ("unlimited above hard", submit(limits_of(("core", -1, 1))), "not be above its hard"),
    ("a limit beyond all", submit(limits_of(("core", 1 << 63, -1))), "out of range"),
    ("a umask beyond the last", submit(new_job(execution=Execution(umask=0o1000))), "1000 is no"),
    ("a zero byte in stdin", reading(b"a\0"), "the name of stdin holds a zero byte"),
    ("a long stdin", reading(b"a" * 4096), "the name of stdin is over the limit"),
    ("a stdin for nothing", reading(b"%i.%x"), "the name of stdin holds %x, which stands"),
    ("a stdout for nothing", submit(new_job(execution=Execution(stdout=b"%"))), "of stdout holds"),
    (
        "a long stderr",
        submit(new_job(execution=Execution(stderr=b"a" * 4096))),
        "of stderr is over",
    ),
    ("half a sign", reading(b"%%%"), "the name of stdin holds %, which stands"),
    ("no script", with_script(b""), "the script job.sh is empty"),
    ("a script without a first line", with_script(b"echo x\n"), "--interpreter bash"),
    ("a script from Windows", with_script(b"#!/bin/sh\r\necho\r\n"), "'/bin/sh'\\r"),
    ("a script with a mark", with_script(b"\xef\xbb\xbf#!/bin/sh\n"), "byte order mark"),
    ("a program as a script", with_script(b"#!/bin\0\n"), "zero byte"),
    ("a script that no program runs", with_script(b"#! \necho\n"), "names no program"),
    ("a script too large", with_script(b"#!/bin/sh\n" + b"#" * (1 << 20)), "1048576"),
    ("no name of an interpreter", with_script(b"x", b"", b"-e"), "empty name"),
    ("a zero byte in the interpreter", with_script(b"x", b"a", b"\0"), "holds a zero byte"),
    ("a long interpreter", with_script(b"x", b"a" * 4097), "4096 bytes"),
    ("an interpreter of no script", on_worker(b"a", ScriptSource.NONE, b"sh"), "but no script"),
    ("a script outside", on_worker(b"/bin/ls"), "without a / at the beginning"),
    ("a script above", on_worker(b"a/../../b"), "'a/../../b'"),
    ("too many jobs", submit(*[JOB] * 10_001), "use an array"),
    ("too many bytes", submit(JOB, size_bytes=12 * 1024 * 1024 + 1), "send several requests"),
    ("no user", submit(JOB, user=""), "no user"),
    ("a user with a long name", submit(JOB, user="u" * 256), "1 to 255 letters"),
    ("a short request id", submit(JOB, request_id=b"1"), "16 bytes"),
    ("a long request id", submit(JOB, request_id=b"1" * 17), "16 bytes"),
    ("a variable without a name", with_environment(((b"", b"x"),)), "name of an environment"),
    ("an = in a variable's name", with_environment((), ((b"A=B", b"x"),)), "'A=B'"),
    ("a zero byte in a variable's name", with_environment(((b"A\0", b""),)), "environment"),
    ("a zero byte in a variable", with_environment((), ((b"A", b"\0"),)), "'A'"),
]


@pytest.mark.parametrize(
    ("command", "words"), [row[1:] for row in BAD], ids=[name for name, _, _ in BAD]
)
def test_what_is_wrong_is_refused_with_a_sentence_and_changes_nothing_invariant_10(
    command: SubmitJobs, words: str
) -> None:
    rig = Rig()
    rig.submit(new_job())
    error = check_refused(rig, command, InvalidJob)
    assert words in str(error)


def test_one_bad_job_refuses_all_and_is_named_by_its_place() -> None:
    rig = Rig()
    check_refused(rig, submit(JOB, new_job(cwd=b"x"), JOB), InvalidJob, match="job 2 of 3: ")
    assert rig.state.next_job_id == 1


def test_what_jobs_share_is_looked_at_for_each_that_it_is_wrong_for() -> None:
    on_worker = new_job(command=(b"a.sh",), execution=Execution(script_source=ON_WORKER))
    outside = on_worker._replace(command=(b"/a.sh",))
    check_refused(Rig(), submit(on_worker, on_worker, outside), InvalidJob, match="job 3 of 3: ")
    wrong = new_job(cwd=b"x")
    check_refused(Rig(), submit(wrong, wrong), InvalidJob, match="job 1 of 2: the working")
    nameless = JOB._replace(name="")
    check_refused(Rig(), submit(JOB, nameless), InvalidJob, match="job 2 of 2: a name has 1 to")
    zero = JOB._replace(command=(b"a", b"b\0c"))
    check_refused(Rig(), submit(JOB, zero), InvalidJob, match="job 2 of 2: an argument holds")


GOOD: list[tuple[str, NewJob]] = [
    ("the longest argument", new_job(command=(b"a" * 131_071, b""))),
    ("bytes that are no text", new_job(command=(b"\xff\xfe",), cwd=b"/\xff")),
    ("the least", demanding()),
    ("the most", demanding(cpus_milli=10**9, memory_bytes=1 << 60, named=(("g", 1 << 40),))),
    ("the lowest priority", new_job(priority=-1_000_000_000)),
    ("the highest index", new_job(array=[(INDEX_MAX, INDEX_MAX + 1)])),
    ("the most tasks", new_job(array=[(0, 2 * ARRAY_TASKS_MAX, 2)])),
    ("a range that begins where steps ended", new_job(array=[(0, 10, 3), (10, 12)])),
    ("a range of one", new_job(array=[(7, 8, 1000)])),
    ("the longest time limit", new_job(time_limit_ms=315_360_000_000, grace_ms=86_400_000)),
    ("a millisecond without grace", new_job(time_limit_ms=1, grace_ms=0)),
    ("a signal right after the start", limited(end_signal=64, end_signal_before_ms=8_999)),
]


@pytest.mark.parametrize("job", [job for _, job in GOOD], ids=[name for name, _ in GOOD])
def test_what_is_just_within_the_limits_is_accepted(job: NewJob) -> None:
    rig = Rig(checks=False)
    assert rig.submit(job) == [1]
    assert digest(rig.state) == digest(rig.twin)
    total = sum(len(each.indexes) for each in job.terms.array) or 1
    assert list(rig.state.get_job(1).counts) == [total, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "command",
    [
        with_script(b"#!/bin/sh\necho \0\r\n"),
        with_script(b"#! /usr/bin/env -S python3 -u"),
        with_script(b"print(1)\r\n", b"python3"),
        with_script(b"#" * (1 << 20), b"cat"),
        on_worker(b"some/where"),
        on_worker(b"..a/b.."),
    ],
)
def test_a_script_that_something_can_run_is_accepted(command: SubmitJobs) -> None:
    rig = Rig()
    rig.do(command)
    job = rig.state.get_job(1)
    assert job.execution == command.jobs[0].terms.execution
    assert rig.state.environments[job.environment].script == command.environments[0].script
