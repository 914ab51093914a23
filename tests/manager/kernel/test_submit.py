"""Submits: numbers, limits, shared things, and what the same request gives again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
from tests.manager.kernel.submits import JOB, limited, with_script
from titan import events as ev
from titan.errors import InvalidJob, NoRoom
from titan.manager.kernel import Settings
from titan.manager.kernel import submit as limits
from titan.manager.kernel.commands import NewAffinity, NewReference
from titan.model import State
from titan.queries.selection import JobSelector
from titan.scheduling import LabelConstraint, Scheduling
from titan.state import digest
from titan.state.request_table import KEPT_US, SLACK_US


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
