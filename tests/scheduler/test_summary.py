"""What jobs wait for, in a sentence: never is told from not now."""

from tests.manager.builders import GIB, SECOND_US, TIMEOUT_US, FakeHost, Rig, after, new_job
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import (
    DrainWorkers,
    HoldJobs,
    NewDependency,
    NewReference,
    SetPolicy,
    SuspendJobs,
    WhichJobs,
)
from titan.model import State
from titan.queries.selection import JobSelector
from titan.scheduler.summary import Known, explain_waiting
from titan.scheduling import SAME_INDEX, DependencyCondition, LabelConstraint, Scheduling


def why(rig: Rig, job_id: int = 1) -> str:
    return explain_waiting(rig.state, rig.state.get_job(job_id), Known())


def drain(rig: Rig, host: FakeHost, reason: str = "") -> None:
    rig.do(DrainWorkers(workers=(host.name,), drains=True, reason=reason, user="root"))


def test_a_job_with_nothing_pending_waits_for_nothing() -> None:
    rig = Rig()
    rig.worker()
    rig.submit(new_job())
    rig.schedule()
    assert why(rig) == ""


def test_without_workers_it_says_so() -> None:
    rig = Rig()
    rig.submit(new_job())
    assert "no worker" in why(rig)
    host = rig.worker()
    host.deregister()
    assert "no worker" in why(rig)


def test_a_job_larger_than_any_worker_is_told_what_it_lacks() -> None:
    rig = Rig()
    rig.worker(4, 8 * GIB, gpu=1)
    rig.worker(2, 16 * GIB)
    rig.submit(
        new_job(cpus=64, memory_bytes=32 * GIB, named={"gpu": 2, "licence": 1}),
        new_job(cpus=4, memory_bytes=16 * GIB),
        new_job(cpus=4.5),
    )
    sentence = why(rig)
    assert sentence.startswith("no worker is large enough for it, even when empty")
    assert "64 cpus, the largest has 4" in sentence
    assert "32 GiB of memory, the largest has 16 GiB" in sentence
    assert "gpu=2, the most is gpu=1" in sentence
    assert "licence=1, the most is licence=0" in sentence
    assert "at once" in why(rig, 2), "each alone would fit somewhere"
    assert "4.5 cpus, the largest has 4" in why(rig, 3)


def test_a_job_that_could_run_when_others_have_ended_is_told_not_now() -> None:
    rig = Rig()
    rig.worker(1)
    rig.submit(new_job(), new_job())
    assert "next to be placed" in why(rig)
    rig.schedule()
    assert why(rig, 2).startswith("room: 0 of 1 ")
    assert "large enough" not in why(rig, 2)


def test_workers_that_drain_are_the_reason_when_no_other_could_take_it() -> None:
    rig = Rig()
    one = rig.worker(8)
    rig.submit(new_job(cpus=8))
    drain(rig, one, "new kernel")
    assert why(rig) == "worker w1, which could take it, is draining for root: new kernel"
    two = rig.worker(8)
    drain(rig, two)
    assert why(rig) == "the 2 workers that could take it are draining"
    rig.tick(TIMEOUT_US // 2)
    one.heartbeat()
    assert why(rig) == (
        "of the 2 workers that could take it 1 is draining, the others are not healthy"
    )
    rig.worker(4)
    assert "1 is draining" in why(rig)
    rig.worker(8)
    assert "next to be placed" in why(rig)


def test_a_worker_about_to_end_says_so() -> None:
    rig = Rig()
    host = rig.worker(8)
    rig.submit(new_job())
    host.is_stopping = True
    host.heartbeat()
    assert why(rig) == (
        "worker w1, which could take it, is draining: it stops once nothing is left there"
    )


def test_room_that_is_only_on_draining_workers_is_told() -> None:
    rig = Rig()
    rig.worker(1)
    drain(rig, rig.worker(1))
    rig.submit(new_job(array=[(0, 2)]))
    rig.schedule()
    assert why(rig) == "room: 0 of 2 workers can take it now; w4 with room is draining for root"
    drain(rig, rig.worker(1))
    drain(rig, rig.worker(1))
    assert why(rig).endswith("; 3 with room are draining or not healthy")


def test_what_a_worker_says_of_itself_is_told() -> None:
    rig = Rig()
    one = rig.worker(8)
    one.fault = "its disk is nearly full"
    one.heartbeat()
    rig.submit(new_job(cpus=8), new_job(cpus=1))
    sentence = "worker w1, which could take it, is not healthy: its disk is nearly full"
    assert why(rig) == sentence
    two = rig.worker(8)
    two.fault = "its disk is broken"
    two.heartbeat()
    assert why(rig) == (
        "the 2 workers that could take it are not healthy; w1: its disk is nearly full; "
        "w4: its disk is broken"
    )
    rig.worker(1)
    rig.schedule()
    drain(rig, one)
    two.fault = ""
    two.heartbeat()
    rig.schedule()
    rig.submit(new_job(cpus=8))
    assert why(rig, 3) == (
        "room: 0 of 3 workers can take it now; w1 with room is not healthy: its disk is nearly full"
    )


def test_workers_that_are_silent_are_the_reason_when_no_other_could_take_it() -> None:
    rig = Rig()
    rig.worker(8)
    rig.submit(new_job(cpus=8))
    rig.tick(TIMEOUT_US // 2)
    assert "not healthy" in why(rig)
    rig.tick(TIMEOUT_US // 2)
    assert "not healthy" in why(rig)
    rig.worker(1)
    assert "not healthy" in why(rig)


def test_a_job_for_one_worker_is_told_about_that_worker_alone() -> None:
    rig = Rig()
    one = rig.worker(2)
    rig.worker(64)
    rig.submit(new_job(cpus=8, on=one.name), new_job(cpus=8), new_job(on=one.name))
    assert why(rig, 1) == (
        "only on w1: no worker is large enough for it, even when empty: "
        "it needs 8 cpus, the largest has 2"
    )
    assert why(rig, 2) == "room: 1 of 2 workers have it; those before it go first"
    assert why(rig, 3) == "only on w1: room: 1 of 1 workers have it; those before it go first"
    drain(rig, one, "new disk")
    rig.schedule()
    assert why(rig, 3) == (
        "only on w1: worker w1, which could take it, is draining for root: new disk"
    )
    rig.tick(TIMEOUT_US)
    assert why(rig, 3) == (
        "only on w1: worker w1, which could take it, is not healthy: it is DISCONNECTED"
    )
    one.register()
    one.deregister()
    assert why(rig, 3) == "only on w1: that worker took its leave; it waits until it is back"
    one.register(name="another")
    assert why(rig, 3) == "only on w1: no worker has that name any more"


def test_one_look_serves_jobs_that_ask_for_the_same_of_the_same_worker() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.submit(new_job(cpus=8), new_job(cpus=8, on=host.name), new_job(cpus=8))
    known = Known()
    told = [explain_waiting(rig.state, rig.state.get_job(each), known) for each in (1, 2, 3)]
    assert told[0] == told[2] != told[1]
    assert len(known.rooms) == 2


def test_what_it_waits_for_besides_room_is_told_in_place_of_room() -> None:
    rig = Rig()
    rig.submit(new_job(), new_job(array=[(0, 3)]))
    one, two = (NewReference(JobSelector(job_id=each)) for each in (1, 2))
    rig.submit(
        new_job(
            after=(
                NewDependency(one, DependencyCondition.OK, -1),
                NewDependency(two, DependencyCondition.FAILED, 1),
            )
        ),
        new_job(array=[(0, 3)], after=(NewDependency(two, DependencyCondition.ANY, SAME_INDEX),)),
        new_job(scheduling=Scheduling(begin_us=rig.now_us + 5400 * SECOND_US)),
        new_job(scheduling=Scheduling(held=True)),
    )
    assert why(rig, 3) == "dependency: 1 to complete; dependency: task 1 of 2 to fail"
    assert why(rig, 4) == "dependency: task 0 of 2 to end"
    assert why(rig, 5) == "begins in 1h30m"
    assert why(rig, 6) == "held"
    which = WhichJobs(selectors=(JobSelector(job_id=6),))
    rig.do(HoldJobs(which=which, releases=True))
    rig.do(SuspendJobs(which=which, resumes=False))
    assert why(rig, 6) == "suspended"


def test_limits_are_told_with_what_is_in_use() -> None:
    rig = Rig(settings=Settings(user_cpus_milli=3000))
    rig.worker(8)
    rig.submit(new_job(array=[(0, 9)], scheduling=Scheduling(array_limit=2)), new_job(cpus=2))
    rig.schedule()
    assert why(rig, 1) == "limit: 2 of at most 2 of its tasks are under way"
    assert why(rig, 2) == "limit: ada uses 2 of at most 3 cpus, and it needs 2"
    rig.do(SetPolicy(user="root", user_limits=(("ada", 0),)))
    assert why(rig, 2) == "it is next to be placed"


def test_a_retry_that_waits_for_its_time_is_told_how_long() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.submit(new_job(scheduling=Scheduling(retries=3)))
    rig.start_here(host, 1)
    host.end(host.running[0], state=State.FAILED, exit_code=1)
    host.send_reports()
    assert why(rig).startswith("its next attempt in ")


def test_labels_that_no_worker_has_are_told() -> None:
    rig = Rig()
    rig.worker(1)
    zone = Scheduling(constraints=(LabelConstraint("zone", ("b", "c")),))
    rig.submit(new_job(scheduling=zone))
    assert why(rig) == "no worker could ever take it: there is none with zone in b,c"


def test_those_before_it_go_first_where_there_is_room_that_is_not_for_it() -> None:
    rig = Rig()
    rig.worker(2)
    rig.submit(new_job(time_limit_ms=60_000), new_job(cpus=2), new_job())
    rig.schedule()
    assert why(rig, 2) == "room: 0 of 1 workers can take it now"
    assert why(rig, 3) == "room: 1 of 1 workers have it; those before it go first"


def test_a_list_may_be_asked_for_before_it_is_written_down_that_nobody_can_start() -> None:
    rig = Rig()
    rig.worker()
    rig.submit(new_job(array=[(0, 2)]))
    rig.submit(new_job(array=[(0, 2)], after=(after(1, index=SAME_INDEX),)))
    rig.cancel(1)
    assert rig.state.doomed
    assert why(rig, 2)
    rig.tick()
    assert why(rig, 2) == ""
