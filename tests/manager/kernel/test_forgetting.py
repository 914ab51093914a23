"""Forgetting: by number of ended tasks and by age, the first that ended first."""

from __future__ import annotations

import pytest

from tests.manager.builders import SECOND_US, FakeHost, Rig, new_job, resources
from titan import events as ev
from titan.errors import NotFound
from titan.manager.kernel import Settings
from titan.manager.kernel.forgetting import FORGOTTEN_AT_ONCE_MAX
from titan.model import State

HOUR_US = 3600 * SECOND_US


def forgotten(events: list[ev.Event]) -> list[int]:
    return [each for event in events if isinstance(event, ev.JobsForgotten) for each in event[0]]


def end_all(rig: Rig, *job_ids: int) -> None:
    for job_id in job_ids:
        rig.cancel(job_id)


def test_over_the_number_those_that_ended_first_go() -> None:
    rig = Rig(settings=Settings(forget_over=4))
    jobs = rig.submit(new_job(), new_job(array=[(0, 16)]), new_job(), new_job())
    end_all(rig, jobs[2], jobs[1])
    assert not forgotten(rig.tick(SECOND_US))
    end_all(rig, jobs[0])
    assert not forgotten(rig.tick(SECOND_US)), "sixteen tasks count as two jobs; four are no more"
    end_all(rig, jobs[3])
    assert forgotten(rig.tick(SECOND_US)) == [jobs[2]]
    assert list(rig.state.jobs) == [jobs[0], jobs[1], jobs[3]]
    assert rig.state.jobs.ended_weight == 4


def test_a_job_that_is_over_the_limit_by_itself_stays_until_another_ends() -> None:
    rig = Rig(settings=Settings(forget_over=4))
    small, large, other = rig.submit(new_job(), new_job(array=[(0, 100)]), new_job())
    end_all(rig, small, large)
    assert forgotten(rig.tick(SECOND_US)) == [small]
    assert not forgotten(rig.tick(SECOND_US))
    end_all(rig, other)
    assert forgotten(rig.tick(SECOND_US)) == [large]


def test_jobs_go_earlier_while_their_scripts_take_too_much_and_no_more_of_them_than_that() -> None:
    rig = Rig(settings=Settings(forget_over_environment_bytes=250))
    own = [(bytes([n]) * 16, (), (), b"#" * 100) for n in range(4)]
    # The first two share one, which goes with the second of them.
    jobs = rig.submit(*(new_job(environment=n) for n in (0, 0, 1, 2, 3)), environments=tuple(own))
    assert rig.state.environment_bytes == 400
    end_all(rig, jobs[0])
    assert not forgotten(rig.tick(SECOND_US)), "the last one to end stays"
    end_all(rig, *jobs[1:])
    assert forgotten(rig.tick(SECOND_US)) == jobs[:3]
    assert (list(rig.state.jobs), rig.state.environment_bytes) == (jobs[3:], 200)
    assert not forgotten(rig.tick(SECOND_US))


def test_jobs_go_earlier_while_their_variables_take_too_much() -> None:
    rig = Rig(settings=Settings(forget_over_environment_bytes=400))
    own = [(bytes([n]) * 16, ((b"A", b"1"),), ((b"B", b"2"),)) for n in range(3)]
    jobs = rig.submit(*(new_job(environment=n) for n in range(3)), environments=tuple(own))
    assert rig.state.environment_bytes == 3 * 2 * (2 + 128)
    end_all(rig, *jobs)
    assert forgotten(rig.tick(SECOND_US)) == jobs[:2]
    assert rig.state.environment_bytes == 260


def test_slots_are_told_though_the_job_that_left_them_is_forgotten() -> None:
    """The notice was kept by job, and asking for its class failed once the job was gone."""
    rig = Rig(settings=Settings(forget_over=0))
    host = rig.worker(cpus=1)
    (job,) = rig.submit(new_job(array=[(0, 2)]))
    rig.schedule()
    assert host.outbox is not None
    # Never sent: ends while it waits in the outbox.
    outbox = host.outbox
    host.deregister()
    end_all(rig, job)
    assert forgotten(rig.tick(SECOND_US)) == [job]
    assert outbox.next_batch(rig.state) is None


def test_an_old_end_is_forgotten_however_few_there_are() -> None:
    rig = Rig(settings=Settings(forget_after_us=HOUR_US))
    first, second, third = rig.submit(new_job(), new_job(), new_job())
    end_all(rig, second)
    rig.tick(HOUR_US // 2)
    end_all(rig, first)
    assert not forgotten(rig.tick(HOUR_US // 2 - 1))
    assert forgotten(rig.tick(1)) == [second]
    assert forgotten(rig.tick(HOUR_US // 2)) == [first]
    assert list(rig.state.jobs) == [third], "what has not ended is never forgotten"


def test_without_room_nothing_is_written_about_it() -> None:
    rig = Rig(settings=Settings(forget_over=0))
    (job,) = rig.submit(new_job())
    end_all(rig, job)
    rig.kernel.room = False
    assert not forgotten(rig.tick(HOUR_US))
    rig.kernel.room = True
    assert forgotten(rig.tick(SECOND_US)) == [job]


def test_so_many_at_once_that_a_tick_stays_short() -> None:
    rig = Rig(checks=False, settings=Settings(forget_over=0))
    jobs = rig.submit(*[new_job()] * (FORGOTTEN_AT_ONCE_MAX + 10))
    end_all(rig, *jobs)
    assert len(forgotten(rig.tick(SECOND_US))) == FORGOTTEN_AT_ONCE_MAX
    assert len(forgotten(rig.tick(SECOND_US))) == 10
    assert not forgotten(rig.tick(SECOND_US))


def test_a_worker_that_comes_back_with_an_attempt_of_a_forgotten_job_is_told_to_stop_it() -> None:
    rig = Rig(settings=Settings(forget_over=0))
    host = FakeHost(rig, resources(1), "w1")
    host.register()
    (job,) = rig.submit(new_job())
    key = rig.start_here(host, job)
    rig.tick(Settings().heartbeat_timeout_us)
    assert rig.task_state(job) is State.PENDING
    end_all(rig, job)
    assert forgotten(rig.tick(SECOND_US)) == [job]
    host.register()
    host.receive_all()
    assert key not in host.running
    host.send_reports()
    rig.check()
    assert rig.state.is_forgotten(job)
    with pytest.raises(NotFound):
        rig.cancel(job)
