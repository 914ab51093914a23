"""Submits: what is refused, with which words, and what the same request gives again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.manager.builders import (
    NO_ENVIRONMENT,
    TIMEOUT_US,
    FakeHost,
    Rig,
    after,
    check_refused,
    new_job,
    only,
    resources,
    submit,
    with_terms,
)
from titan import events as ev
from titan.errors import InvalidJob, NoRoom
from titan.manager.kernel import Settings
from titan.manager.kernel import submit as limits
from titan.manager.kernel.commands import (
    NewAffinity,
    NewJob,
    NewReference,
    NewTerms,
    SubmitJobs,
    Variables,
)
from titan.model import ARRAY_TASKS_MAX, INDEX_MAX, Execution, Resources, ScriptSource, State
from titan.queries.selection import JobSelector
from titan.scheduling import LabelConstraint, Scheduling
from titan.state import digest
from titan.state.request_table import KEPT_US, SLACK_US

JOB = new_job()
ON_WORKER = ScriptSource.ON_WORKER


def demanding(**fields: Any) -> NewJob:
    asked = Resources(**({"cpus_milli": 1} | fields))
    terms = NewTerms(cwd=b"/", environment=0, resources=asked, priority=0, array=())
    return NewJob("n", (b"c",), terms)


def limited(**fields: Any) -> NewJob:
    """A job of at most nine seconds that is warned a second before."""
    good = new_job(time_limit_ms=9_000, end_signal=10, end_signal_before_ms=1_000)
    return with_terms(good, **fields)


def limits_of(*ulimits: tuple[str, int, int]) -> NewJob:
    return new_job(execution=Execution(ulimits=ulimits))


def with_environment(exported: Variables = (), variables: Variables = ()) -> SubmitJobs:
    return submit(JOB, environments=((b"d" * 16, exported, variables),))


def with_script(text: bytes, *interpreter: bytes) -> SubmitJobs:
    execution = Execution(script_source=ScriptSource.SENT, interpreter=interpreter)
    job = new_job(command=(b"job.sh", b"1"), execution=execution)
    return submit(job, environments=((b"d" * 16, (), (), text),))


def on_worker(
    path: bytes, source: ScriptSource = ScriptSource.ON_WORKER, *interpreter: bytes
) -> SubmitJobs:
    execution = Execution(script_source=source, interpreter=interpreter)
    return submit(new_job(command=(path,), execution=execution))


def reading(stdin: bytes) -> SubmitJobs:
    return submit(new_job(execution=Execution(stdin=stdin)))


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


def test_a_job_keeps_its_time_limit_and_what_belongs_to_it() -> None:
    rig = Rig()
    rig.submit(limited(grace_ms=500))
    job = rig.state.get_job(1)
    assert (job.time_limit_ms, job.grace_ms) == (9_000, 500)
    assert (job.end_signal, job.end_signal_before_ms) == (10, 1_000)


def test_jobs_are_numbered_from_1_without_gaps_refusals_included() -> None:
    rig = Rig()
    assert rig.submit(JOB, JOB) == [1, 2]
    check_refused(rig, submit(), InvalidJob)
    assert rig.submit(JOB) == [3]


def test_ten_thousand_jobs_are_one_record() -> None:
    rig = Rig(checks=False)
    records = len(rig.records)
    assert rig.submit(*[JOB] * limits.JOBS_PER_REQUEST_MAX) == list(range(1, 10_001))
    assert len(rig.records) == records + 1


def test_without_room_no_job_is_accepted_and_nothing_is_assigned() -> None:
    rig = Rig()
    rig.worker()
    rig.submit(JOB)
    rig.kernel.room = False
    check_refused(rig, submit(JOB), NoRoom, match="disk is full")
    assert rig.schedule() == []
    rig.kernel.room = True
    assert len(only(rig.schedule(), ev.TaskAssigned)) == 1


def test_more_jobs_that_have_not_ended_than_the_manager_takes_are_refused() -> None:
    rig = Rig(settings=Settings(jobs_max=4))
    rig.submit(JOB, JOB)
    # An array counts as one for eight tasks, and a long command for each KiB.
    check_refused(rig, submit(new_job(array=[(0, 17)])), NoRoom, match=r"^2 jobs have .*max 4, an")
    rig.submit(new_job(array=[(0, 16)]), request_id=ID)
    check_refused(rig, submit(JOB), NoRoom, match="try again when some have ended")
    # What was accepted is told again, whatever has come since.
    assert rig.submit(new_job(array=[(0, 16)]), request_id=ID) == [3]
    rig.cancel(3)
    assert rig.submit(new_job(command=(b"c", b"x" * 1024))) == [4]
    assert rig.state.jobs.live_weight == 4
    check_refused(rig, submit(JOB), NoRoom)
    rig.restart()
    assert rig.state.jobs.live_weight == 4
    rig.cancel(4)
    assert rig.submit(JOB, JOB) == [5, 6]


def test_a_job_that_names_many_others_counts_for_more_of_those_that_the_manager_takes() -> None:
    rig = Rig(settings=Settings(jobs_max=20))
    first = rig.submit(*[JOB] * 12)
    many = new_job(after=tuple(map(after, first[:10])))
    assert rig.submit(many) == [13]
    assert rig.state.jobs.live_weight == 12 + 3
    near = tuple(NewAffinity(NewReference(JobSelector(job_id=each)), True) for each in first[:5])
    assert rig.submit(with_terms(many, affinities=near)) == [14]
    assert rig.state.jobs.live_weight == 15 + 4
    # What it names is looked at before it is there.
    check_refused(rig, submit(new_job(after=tuple(map(after, first[:5])))), NoRoom)
    rig.restart()
    assert rig.state.jobs.live_weight == 19
    rig.cancel(13)
    assert rig.state.jobs.live_weight == 16
    assert rig.submit(many) == [15]


def test_labels_count_for_more_as_well_and_a_long_directory() -> None:
    rig = Rig()
    zones = LabelConstraint("zone", tuple(f"z{each}" for each in range(20)))
    rig.submit(new_job(scheduling=Scheduling(constraints=(zones,))))
    assert rig.state.jobs.live_weight == 1 + 4
    rig.submit(new_job(cwd=b"/" + b"d" * 2048))
    assert rig.state.jobs.live_weight == 5 + 1 + 2
    rig.restart()
    assert rig.state.jobs.live_weight == 8


def own(*numbers: int, size_bytes: int = 100) -> tuple[tuple[Any, ...], ...]:
    """Environments with nothing but a script each, and each with one of its own."""
    return tuple((bytes([each]) * 16, (), (), b"#" * size_bytes) for each in numbers)


def test_environments_and_scripts_beyond_what_the_manager_takes_are_refused() -> None:
    rig = Rig(settings=Settings(environment_bytes_max=1000))
    three = [new_job(environment=each) for each in range(3)]
    rig.submit(*three, environments=own(1, 2, 3))
    variables = (NO_ENVIRONMENT[0], ((b"A", b"1" * 99),), ((b"B", b"2" * 99),))
    rig.submit(JOB, environments=(variables,))
    # Each variable takes more than its bytes.
    assert rig.state.environment_bytes == 300 + 2 * (100 + 128)
    too_much = submit(JOB, environments=own(4, size_bytes=245))
    check_refused(rig, too_much, NoRoom, match=r"take 756 bytes, .*1001, more .* 1000; try")
    rig.restart()
    assert rig.state.environment_bytes == 756
    check_refused(rig, too_much, NoRoom)
    # What counts is what is new, once, and what a job has.
    several = (*own(1, 4, 4), *own(5, size_bytes=900))
    rig.submit(*three, environments=several)
    assert rig.state.environment_bytes == 856
    rig.submit(JOB, environments=own(6, size_bytes=144))
    rig.submit(JOB, environments=own(6, size_bytes=144))
    rig.restart()
    assert rig.state.environment_bytes == 1000


def test_there_is_room_for_environments_again_when_jobs_are_forgotten() -> None:
    rig = Rig(settings=Settings(environment_bytes_max=1000, forget_over_environment_bytes=500))
    rig.submit(JOB, environments=own(1, size_bytes=900))
    rig.submit(JOB, environments=own(2))
    check_refused(rig, submit(JOB, environments=own(3)), NoRoom)
    rig.cancel(1)
    rig.cancel(2)
    rig.tick(1_000_000)
    assert rig.state.environment_bytes == 100
    assert rig.submit(JOB, environments=own(3)) == [3]


# Request ids -------------------------------------------------------------------------------

ID = b"r" * 16


def test_the_same_request_gives_the_same_jobs_and_no_event() -> None:
    rig = Rig()
    first = rig.submit(JOB, JOB, request_id=ID, content=b"1")
    before = (rig.state.lsn, digest(rig.state))
    assert rig.submit(JOB, JOB, request_id=ID, content=b"1") == first == [1, 2]
    rig.kernel.room = False
    assert rig.submit(JOB, JOB, request_id=ID, content=b"1") == first
    assert (rig.state.lsn, digest(rig.state)) == before
    rig.restart()
    assert rig.submit(JOB, JOB, request_id=ID, content=b"1") == first


def test_a_request_id_used_for_something_else_is_refused() -> None:
    rig = Rig()
    rig.submit(JOB, request_id=ID, content=b"1")
    command = submit(JOB, request_id=ID, content=b"2")
    check_refused(rig, command, InvalidJob, match="submitted job 1")


def test_request_ids_are_each_users_own() -> None:
    rig = Rig()
    assert rig.submit(JOB, request_id=ID, content=b"1", user="ada") == [1]
    assert rig.submit(JOB, request_id=ID, content=b"2", user="grace") == [2]


def test_without_a_request_id_each_submit_is_a_new_one() -> None:
    rig = Rig()
    assert rig.submit(JOB) == [1]
    assert rig.submit(JOB) == [2]
    assert not rig.state.requests


def test_a_request_id_is_forgotten_a_day_later() -> None:
    rig = Rig()
    rig.submit(JOB, request_id=ID, content=b"1")
    rig.now_us += KEPT_US + SLACK_US
    assert rig.submit(JOB, request_id=ID, content=b"1") == [1]
    rig.now_us += 1
    rig.submit(JOB, request_id=b"o" * 16, content=b"2")
    assert rig.submit(JOB, request_id=ID, content=b"3") == [3]


# Environments ------------------------------------------------------------------------------


def test_an_environment_is_stored_once_however_many_jobs_share_it() -> None:
    rig = Rig()
    environments = (NO_ENVIRONMENT, (b"x" * 16, ((b"PATH", b"/bin"),), ((b"A", b"\xff"),)))
    jobs = [new_job(environment=each) for each in (0, 1, 1)]
    rig.submit(*jobs, environments=environments)
    rig.submit(new_job(environment=0), environments=(environments[1],))
    stored = [
        event
        for payload in rig.records
        for event in ev.decode_record(payload)[1]
        if isinstance(event, ev.EnvironmentStored)
    ]
    assert [each.digest for each in stored] == [b"\0" * 16, b"x" * 16]
    assert stored[1].exported == ((b"PATH", b"/bin"),)
    assert stored[1].set == ((b"A", b"\xff"),)
    assert rig.state.get_job(3).environment == rig.state.get_job(4).environment == b"x" * 16


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


def test_a_script_is_stored_once_however_many_jobs_run_it() -> None:
    rig = Rig()
    command = with_script(b"#!/bin/sh\n")
    rig.do(command)
    rig.do(command)
    rig.submit(JOB)
    events = [each for payload in rig.records for each in ev.decode_record(payload)[1]]
    assert [bool(each.script) for each in only(events, ev.EnvironmentStored)] == [True, False]
    assert rig.state.environment_jobs[b"d" * 16] == 2


def test_an_environment_that_comes_twice_in_one_request_is_stored_once() -> None:
    rig = Rig()
    rig.submit(JOB, environments=(NO_ENVIRONMENT, NO_ENVIRONMENT))
    events = ev.decode_record(rig.records[-1])[1]
    assert len(only(events, ev.EnvironmentStored)) == 1


def test_jobs_of_one_class_share_it_and_others_do_not() -> None:
    rig = Rig()
    rig.submit(JOB, new_job(array=[(0, 5)]), new_job(priority=1), new_job(cpus=2))
    rig.submit(JOB, user="grace")
    classes = [rig.state.get_job(each).job_class.class_id for each in range(1, 6)]
    assert classes == [1, 1, 2, 3, 4]
    assert rig.state.classes[3].demand == resources(2)


def test_an_environment_that_no_job_refers_to_is_not_stored() -> None:
    """It stayed for ever, and a snapshot of it could not be taken."""
    rig = Rig()
    rig.submit(JOB, environments=(NO_ENVIRONMENT, (b"x" * 16, ((b"PATH", b"/bin"),), ())))
    assert list(rig.state.environments) == [NO_ENVIRONMENT[0]]


# On one worker -----------------------------------------------------------------------------


def test_a_job_for_one_worker_remembers_its_name_or_the_id_that_was_given() -> None:
    rig = Rig()
    host = rig.worker()
    dashed = f"{host.worker_id.hex()[:8]}-{host.worker_id.hex()[8:]}"
    ids = rig.submit(new_job(on=host.name), new_job(on=dashed.upper()), new_job())
    on = [rig.state.get_job(each).on for each in ids]
    assert on == [host.name, host.worker_id.hex(), ""]


def test_an_unknown_worker_is_refused_with_those_there_are() -> None:
    rig = Rig()
    check_refused(rig, submit(new_job(on="w9")), InvalidJob, match="no worker has registered")
    host = rig.worker()
    command = submit(new_job(), new_job(on="w9"))
    check_refused(rig, command, InvalidJob, match=f"no worker 'w9'; there are {host.name}$")
    check_refused(rig, submit(new_job(on="w" * 256)), InvalidJob, match="1 to 255 letters")
    host.deregister()
    check_refused(rig, submit(new_job(on=host.name)), InvalidJob, match="no worker")


def test_a_worker_that_shares_its_name_is_to_be_named_by_its_id() -> None:
    rig = Rig()
    one, two = FakeHost(rig, resources(), "twin"), FakeHost(rig, resources(), "twin")
    one.register()
    two.register()
    check_refused(rig, submit(new_job(on="twin")), InvalidJob, match="give the id of one")
    rig.submit(new_job(on=two.worker_id.hex()))
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [two.number]


def test_a_job_waits_for_its_worker_wherever_that_is() -> None:
    rig = Rig()
    one, _ = rig.worker(), rig.worker()
    rig.tick(TIMEOUT_US - 1)
    (job_id,) = rig.submit(new_job(on=one.name))
    rig.tick(1)
    assert only(rig.schedule(), ev.TaskAssigned) == []
    one.register()
    rig.start_here(one, job_id)
    one.restart_host()
    one.register()
    one.deregister()
    assert only(rig.schedule(), ev.TaskAssigned) == []
    rig.restart()
    one.register()
    key = rig.start_here(one, job_id)
    one.end(key)
    one.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


def test_the_same_request_is_answered_though_its_worker_is_gone() -> None:
    rig = Rig()
    host = rig.worker()
    command = submit(new_job(on=host.name), request_id=b"r" * 16)
    first = rig.do(command)
    host.deregister()
    assert rig.do(command) == first


def test_a_request_counts_with_its_user_once_for_each_job() -> None:
    rig = Rig()
    command = submit(
        *[new_job()] * 10, user="\N{EURO SIGN}" * 255, size_bytes=12 * 1024 * 1024 - 7649
    )
    check_refused(rig, command, InvalidJob, match="over the limit of 12582912")
    rig.do(replace(command, size_bytes=12 * 1024 * 1024 - 7650))
