"""Which worker it is that registers: new instances, clones, strangers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.builders import SECOND_US, START_US, FakeHost, Rig, check_refused, resources
from tests.manager.kernel.scenes import host_key, running
from titan.errors import InvalidJob, NoRoom, Refused
from titan.manager.kernel import identity
from titan.manager.kernel.commands import Heartbeat
from titan.model import Held, HeldAttempt, HeldState, Resources, State


def test_only_so_many_workers_ever_register_and_those_that_did_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "WORKERS_MAX", 2)
    rig = Rig()
    host, other = rig.worker(), rig.worker()
    with pytest.raises(NoRoom, match="2 workers have registered here"):
        rig.worker()
    host.register()
    assert len(rig.state.workers) == 2
    assert other.number in rig.state.workers


def test_only_so_many_workers_of_one_name_ever_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "WORKERS_OF_NAME_MAX", 2)
    rig = Rig()
    hosts = [FakeHost(rig, resources(1), name) for name in ("a", "a", "a", "b")]
    hosts[0].register()
    hosts[1].register()
    with pytest.raises(NoRoom, match="2 workers called a have registered here"):
        hosts[2].register()
    hosts[3].register()
    hosts[0].register()
    assert len(rig.state.workers) == 3


# Who is who --------------------------------------------------------------------------------


def test_the_clone_of_a_data_directory_gets_a_new_id_and_both_are_named() -> None:
    rig = Rig()
    original = rig.worker()
    clone = FakeHost(rig, resources(1), "clone")
    clone.worker_id = original.worker_id
    assert clone.register().warning == "", "so looks a host that was started anew"
    assert clone.number == original.number
    check_refused(rig, Heartbeat(session=original.session, held=original.list_held()), Refused)
    answer = original.register()
    assert original.number == 2
    assert answer.worker_id != clone.worker_id
    assert original.name in answer.warning
    assert clone.name in answer.warning
    for _ in range(3):
        rig.tick(SECOND_US)
        original.heartbeat()
        clone.heartbeat()
    assert original.register().warning == clone.register().warning == ""
    assert (original.number, clone.number) == (2, 1)


def test_a_host_that_comes_back_after_two_heartbeats_is_no_clone() -> None:
    rig = Rig()
    host = rig.worker()
    first = host.instance
    host.restart_host()
    host.register()
    rig.turned_us += 2 * rig.settings.heartbeat_interval_us + 1
    host.instance = first
    assert host.register().warning == ""
    assert host.number == 1


def test_a_first_call_that_comes_again_is_not_a_second_worker() -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1), "new")
    first = host.register_command(session=rig.draw(), worker_id=b"")
    rig.do(first)
    # Its answer is lost on the way.
    host.worker_id = b""
    answer = host.register()
    assert (answer.worker, len(rig.state.workers)) == (1, 1)
    # And the first one once more, late.
    check_refused(rig, Heartbeat(session=first.session, held=host.list_held()), Refused)
    rig.do(first)
    assert len(rig.state.workers) == 1
    host.register()
    host.heartbeat()


def test_who_calls_first_with_anothers_instance_is_not_that_other() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    other = FakeHost(rig, resources(1), "other")
    other.instance = host.instance
    assert other.register().worker != host.number
    assert rig.state.get_worker(host.number).name == host.name
    assert rig.task_state(job_id) is State.RUNNING
    host.heartbeat()


def test_a_late_registration_of_a_dead_host_does_not_take_the_place_of_the_next() -> None:
    rig = Rig()
    host = rig.worker()
    # Its call waits in a socket; meanwhile it dies, and the next one is read first.
    late = host.register_command(session=rig.draw(), host_starts=2, instance=rig.draw())
    host.starts = 2
    host.restart_host()
    host.register()
    job_id = running(rig, host)
    check_refused(rig, late, Refused, match="a later task host")
    host.heartbeat()
    assert rig.task_state(job_id) is State.RUNNING
    assert host.register().warning == ""
    assert host.number == 1


def test_a_host_that_is_not_the_last_and_calls_again_is_a_copy_if_the_last_one_lives() -> None:
    rig = Rig()
    original = rig.worker()
    original.restart_host()
    original.register()
    clone = FakeHost(rig, resources(1), "clone")
    clone.worker_id = original.worker_id
    check_refused(rig, clone.register_command(), Refused, match="call again if this one lives")
    rig.turned_us += SECOND_US
    original.heartbeat()
    answer = clone.register()
    assert clone.number == 2
    assert "was a data directory copied? clone gets a new id" in answer.warning
    original.heartbeat()


def test_a_host_whose_starts_are_not_known_any_more_is_taken_when_it_calls_again() -> None:
    rig = Rig()
    host = rig.worker()
    host.starts = 7
    host.restart_host()
    host.register()
    # Its journal was lost with the machine's power.
    host.starts = 0
    host.restart_host()
    check_refused(rig, host.register_command(), Refused)
    rig.turned_us += SECOND_US
    assert host.register().warning == ""
    assert host.number == 1
    host.heartbeat()


def test_a_worker_of_another_cluster_is_refused_by_name_only_while_it_holds_attempts() -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1), "stranger")
    foreign = b"f" * 16
    held = Held((HeldAttempt(host_key(rig, 1), HeldState.RUNNING, START_US),), 0, 0)
    command = host.register_command(cluster_id=foreign, held=held)
    error = check_refused(rig, command, Refused, match="stranger")
    assert foreign.hex() in str(error)
    host.register(cluster_id=foreign)
    assert host.number == 1


def test_a_worker_keeps_its_number_and_id_whatever_else_changes() -> None:
    rig = Rig()
    host = rig.worker()
    worker_id = host.worker_id
    assert len(worker_id) == 16
    rig.restart()
    host.capacity = resources(7, 1 << 30, gpu=1)
    host.name = "renamed"
    host.register()
    worker = rig.state.get_worker(1)
    assert (worker.name, worker.capacity, worker.worker_id) == ("renamed", host.capacity, worker_id)
    assert host.worker_id == worker_id


CAPACITIES = [
    Resources(0),
    Resources(-1000),
    Resources(1 << 62),
    Resources(1000, -1),
    Resources(1000, 1 << 61),
    Resources(1000, 0, (("gpu", -1),)),
    Resources(1000, 0, (("gpu", 1 << 41),)),
    Resources(1000, 0, (("", 1),)),
    Resources(1000, 0, (("cpus", 1),)),
]


@pytest.mark.parametrize("capacity", CAPACITIES, ids=str)
def test_a_worker_of_an_impossible_size_is_refused_invariant_10(capacity: Resources) -> None:
    rig = Rig()
    host = FakeHost(rig, capacity, "odd")
    check_refused(rig, host.register_command(), InvalidJob)


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": "n" * 256}, {"instance": b""}], ids=str)
def test_a_worker_without_a_name_or_an_instance_is_refused(fields: dict[str, Any]) -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1), "odd")
    check_refused(rig, host.register_command(**fields), InvalidJob)
