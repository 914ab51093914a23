"""Tasks that run as other accounts or in sandboxes: who may submit them, and where they go."""

from __future__ import annotations

from tests.manager.builders import FakeHost, Rig, check_refused, new_job, resources, submit
from titan.errors import InvalidJob, PermissionDenied
from titan.manager.kernel.commands import NewJob, RequeueJobs
from titan.manager.kernel.schedule import rules_in_force
from titan.model import Execution, Sandbox, State
from titan.scheduler.explain import explain_task
from titan.state.snapshot import decode_state, encode_state

AS_BATCH = Execution(run_as="batch")
BOXED = Execution(sandbox=Sandbox.BUBBLEWRAP)


def worker(rig: Rig, **offer: object) -> FakeHost:
    host = FakeHost(rig, resources(4))
    host.register(**offer)
    return host


def job(execution: Execution) -> NewJob:
    return new_job(execution=execution)


def test_only_who_is_proven_may_have_tasks_run_as_others() -> None:
    rig = Rig()
    worker(rig, run_as=(("ada", "batch"), ("bob", "batch")))
    why = check_refused(rig, submit(job(AS_BATCH)), PermissionDenied)
    assert "--user batch: who submits it has to be proven" in str(why)
    check_refused(
        rig, submit(job(AS_BATCH), proven_user="bob"), PermissionDenied, match="tasks of ada"
    )
    rig.submit(job(AS_BATCH), proven_user="ada")
    assert rig.state.get_job(1).execution == AS_BATCH


def test_what_no_worker_allows_is_refused_and_not_kept_waiting() -> None:
    rig = Rig()
    check_refused(rig, submit(job(AS_BATCH), proven_user="ada"), PermissionDenied)
    worker(rig, run_as=(("bob", "batch"), ("*", "self")))
    check_refused(
        rig, submit(job(AS_BATCH), proven_user="ada"), PermissionDenied, match="no worker lets"
    )
    rig.submit(job(Execution(run_as="ada")), proven_user="ada")
    host = worker(rig, run_as=(("ada", "batch"),))
    rig.submit(job(AS_BATCH), proven_user="ada")
    host.deregister()
    check_refused(rig, submit(job(AS_BATCH), proven_user="ada"), PermissionDenied)


def test_root_is_nobodys_by_the_name_of_its_user() -> None:
    rig = Rig()
    worker(rig, run_as=(("*", "self"),))
    asked = submit(job(Execution(run_as="root")), user="root", proven_user="root")
    check_refused(rig, asked, PermissionDenied)
    worker(rig, run_as=(("root", "root"),))
    rig.do(asked)


def test_tasks_go_only_where_they_may_run_so() -> None:
    rig = Rig()
    plain = worker(rig)
    allows = worker(rig, run_as=(("*", "batch"),))
    boxes = worker(rig, sandboxes=(Sandbox.BUBBLEWRAP,))
    rig.submit(*[job(AS_BATCH)] * 5, proven_user="ada")
    rig.submit(*[job(BOXED)] * 5)
    rig.schedule()
    assert [len(rig.state.get_worker(each.number).attempts) for each in (plain, allows, boxes)] == [
        0, 4, 4,
    ]  # fmt: skip
    explained = explain_task(
        rig.kernel.scheduler, rig.state.get_job(10), 0, rules_in_force(rig.kernel), rig.now_us
    )
    assert (2, "do not meet --sandbox bubblewrap") in [
        (each.workers, each.why) for each in explained.tally.turned_away
    ]
    # A worker that can no longer do it gets no more.
    boxes.register()
    rig.finish(boxes, 6)
    rig.schedule()
    assert rig.task_state(10) is State.PENDING
    boxes.register(sandboxes=(Sandbox.BUBBLEWRAP,))
    rig.schedule()
    assert rig.task_state(10) is not State.PENDING


def test_what_it_needs_outlives_updates_and_snapshots() -> None:
    rig = Rig()
    worker(rig, run_as=(("ada", "batch"),))
    rig.submit(
        job(AS_BATCH._replace(sandbox=Sandbox.BUBBLEWRAP, no_network=True)), proven_user="ada"
    )
    needed = rig.state.get_job(1).job_class.constraints
    assert [each.label for each in needed] == ["titan.run-as", "titan.sandbox"]
    rig.update(1, priority=7)
    assert rig.state.get_job(1).job_class.constraints == needed
    again = decode_state(list(encode_state(rig.state, "0.1.0")))
    assert again.get_job(1).job_class.constraints == needed
    assert again.get_job(1).execution == rig.state.get_job(1).execution
    assert again.get_worker(1).labels == rig.state.get_worker(1).labels


def test_what_ended_is_submitted_again_by_its_proven_user_alone() -> None:
    rig = Rig()
    host = worker(rig, run_as=(("ada", "batch"),))
    rig.submit(job(AS_BATCH), proven_user="ada")
    rig.finish(host, 1, 0, State.FAILED)
    asked = RequeueJobs(which=rig.which(1), grace_ms=0, request_id=b"", content=b"")
    check_refused(rig, asked, PermissionDenied)
    assert rig.requeue(1, proven_user="ada").submitted_again == {1: 2}
    assert rig.state.get_job(2).execution == AS_BATCH


def test_no_worker_can_give_itself_what_its_offers_become() -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1))
    for label in ("titan.run-as", "titan.sandbox", "titan.else"):
        asked = host.register_command(labels=((label, "*:self"),))
        check_refused(rig, asked, InvalidJob, match="one of Titan's own")
    bad = host.register_command(run_as=(("*", "a:b"),))
    check_refused(rig, bad, InvalidJob, match="the run-as policy of")
