"""The order of the queue: priority, then submission; who finds no room is skipped."""

from __future__ import annotations

import pytest

from tests.manager.builders import SECOND_US, FakeHost, Rig, new_job, only, prove_short, resources
from tests.manager.could_start import could_start
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.kernel.schedule import ASSIGNMENTS_PER_RECORD_MAX
from titan.model import State
from titan.scheduler.policies import POLICIES


def assigned(events: list[ev.Event]) -> list[int]:
    """The jobs of the assignments, in order."""
    return [each.job_id for each in only(events, ev.TaskAssigned)]


def drain(rig: Rig, host: FakeHost) -> list[int]:
    """The jobs in the order in which one slot after the other takes them."""
    order = []
    while jobs := assigned(rig.schedule()):
        order += jobs
        host.receive_all()
        for key in host.running:
            rig.now_us += 1_000_000
            host.end(key)
        host.send_reports()
    return order


def test_the_highest_priority_goes_first() -> None:
    rig = Rig()
    host = rig.worker(1)
    ids = {rig.submit(new_job(priority=each))[0]: each for each in (10, 30, 20)}
    assert [ids[job_id] for job_id in drain(rig, host)] == [30, 20, 10]


def test_equal_priorities_go_in_the_order_of_their_submits() -> None:
    rig = Rig()
    host = rig.worker(1)
    for priority, user in ((0, "ada"), (0, "grace"), (-1, "ada"), (0, "ada"), (0, "grace")):
        rig.submit(new_job(priority=priority), user=user)
    assert drain(rig, host) == [1, 2, 4, 5, 3]


def test_the_tasks_of_an_array_go_by_index_before_a_later_job() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.submit(new_job(array=[(0, 6, 2), (7, 8)]), new_job(), user="ada")
    indexes = []
    for _ in range(5):
        (event,) = only(rig.schedule(), ev.TaskAssigned)
        indexes.append((event.job_id, event.index))
        host.receive_all()
        rig.now_us += 1_000_000
        host.end(host.running[0])
        host.send_reports()
    assert indexes == [(1, 0), (1, 2), (1, 4), (1, 7), (2, 0)]


def test_a_task_that_was_lost_goes_before_the_later_ones_of_its_array() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(array=[(0, 9)]))
    rig.start_here(host, 1, 1)
    host.restart_host()
    host.register()
    assert [each.index for each in only(rig.schedule(), ev.TaskAssigned)] == [0, 1]


def test_a_job_that_finds_no_room_is_gone_past() -> None:
    rig = Rig()
    rig.worker(4)
    rig.submit(new_job(cpus=3), new_job(cpus=3, priority=9), new_job(cpus=1))
    assert assigned(rig.schedule()) == [2, 3]


def test_a_job_larger_than_any_worker_waits_and_others_go_past_it() -> None:
    rig = Rig()
    rig.worker(4)
    rig.submit(new_job(cpus=64, priority=100), new_job(cpus=4))
    assert assigned(rig.schedule()) == [2]
    assert rig.task_state(1) is State.PENDING
    host = FakeHost(rig, resources(64), "large")
    host.register()
    assert assigned(rig.schedule()) == [1]


def test_nothing_goes_where_a_named_resource_is_missing() -> None:
    rig = Rig()
    rig.worker(8, gpu=1)
    rig.submit(new_job(named={"gpu": 2}), new_job(named={"gpu": 1}), new_job(named={"licence": 1}))
    assert assigned(rig.schedule()) == [2]


def test_a_pass_is_a_record_of_at_most_10000_assignments_and_goes_on_in_the_next() -> None:
    rig = Rig(checks=False)
    rig.worker(20_000)
    rig.submit(new_job(array=[(0, ASSIGNMENTS_PER_RECORD_MAX + 1)]))
    assert len(assigned(rig.schedule())) == ASSIGNMENTS_PER_RECORD_MAX
    wanted = [rig.kernel.schedule_wanted]
    assert len(assigned(rig.schedule())) == 1
    wanted.append(rig.kernel.schedule_wanted)
    assert wanted == [True, False]
    assert rig.schedule() == []


def test_an_assignment_names_the_policy_its_version_and_its_rule() -> None:
    for policy in POLICIES.values():
        rig = Rig(settings=Settings(policy=policy.name))
        rig.worker(1)
        rig.submit(new_job())
        (event,) = only(rig.schedule(), ev.TaskAssigned)
        assert (event.policy, event.policy_version) == (policy.code, policy.version)
        assert event.rule == (1 if policy.name.startswith("round-robin") else 2)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("round-robin-then-bin-packing", [1, 2, 1, 2, 1, 2]),
        ("round-robin", [1, 2, 1, 2, 1, 2]),
        ("bin-packing", [1, 1, 1, 2, 2, 2]),
        ("spread", [2, 1, 2, 1, 2, 1]),
    ],
)
def test_each_policy_fills_two_workers_in_its_own_way(policy: str, expected: list[int]) -> None:
    """Workers of 3 and 4 cpus, tasks of one."""
    rig = Rig(settings=Settings(policy=policy))
    rig.worker(3)
    rig.worker(4)
    rig.submit(new_job(array=[(0, 6)]))
    workers = [each.worker for each in only(rig.schedule(), ev.TaskAssigned)]
    assert workers == expected


def test_the_round_robin_pointer_outlives_a_restart() -> None:
    rig = Rig()
    hosts = [rig.worker(9) for _ in range(3)]
    rig.submit(new_job())
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [1]
    rig.restart()
    for host in hosts:
        host.register()
    rig.submit(new_job())
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [2]


def test_best_fit_does_not_move_the_round_robin_pointer() -> None:
    rig = Rig()
    for _ in range(2):
        rig.worker(1)
    rig.submit(new_job(), new_job())
    assert [(e.worker, e.rule) for e in only(rig.schedule(), ev.TaskAssigned)] == [(1, 1), (2, 2)]
    assert rig.state.round_robin == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_job_for_one_worker_goes_there_or_waits_and_others_go_past_it(policy: str) -> None:
    rig = Rig(settings=Settings(policy=policy))
    one, two = rig.worker(2), rig.worker(2)
    rig.submit(
        new_job(array=[(0, 3)], on=two.name),
        new_job(array=[(0, 3)], on=one.worker_id.hex().upper()),
        new_job(),
    )
    placed = [(e.job_id, e.worker) for e in only(rig.schedule(), ev.TaskAssigned)]
    assert placed == [(1, 2), (1, 2), (2, 1), (2, 1)]
    assert could_start(rig) == []
    rig.worker(1)
    assert assigned(rig.schedule()) == [3], "a new worker is no help to the others"


def test_jobs_for_one_worker_are_a_class_of_their_own() -> None:
    rig = Rig()
    one, two = rig.worker(1), rig.worker(1)
    rig.submit(*[new_job(on=name) for name in ("", one.name, two.name, one.name)])
    assert [each.on for each in rig.state.classes.values()] == ["", one.name, two.name]


def test_a_name_that_two_workers_came_to_have_means_both() -> None:
    rig = Rig()
    one = rig.worker(1)
    rig.submit(new_job(array=[(0, 3)], on=one.name))
    FakeHost(rig, resources(1), one.name).register()
    placed = only(rig.schedule(), ev.TaskAssigned)
    assert [each.worker for each in placed] == [1, 2]


def test_what_is_meant_for_one_worker_is_not_sent_ahead_to_another() -> None:
    rig = Rig()
    one, two = rig.worker(1), rig.worker(1)
    prove_short(rig, one, on=one.name)
    prove_short(rig, two, on=two.name)
    rig.submit(new_job(array=[(0, 30)], on=one.name))
    placed = only(rig.schedule(), ev.TaskAssigned)
    assert {each.worker for each in placed} == {one.number}
    assert sum(each.ahead for each in placed) > 5
    one.receive_all()
    recalls = only(rig.tick(SECOND_US), ev.RecallRequested)
    assert recalls == [], "the room of the other worker is none for them"
