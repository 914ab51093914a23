"""Workers: registration, what they hold against what they should."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Final

from titan import events as ev
from titan.errors import Refused
from titan.manager.kernel.commands import DeregisterWorker, Heartbeat, Registered, RegisterWorker
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.drain import heed_stop, recall_waiting
from titan.manager.kernel.identity import check_registration, identify
from titan.manager.kernel.outbox import Outbox, fill_outbox, key_of
from titan.manager.kernel.reports import adopt, find_attempt, has_ended, may_be_adopted
from titan.model import (
    Held,
    HeldState,
    Resources,
    State,
    WorkerState,
)
from titan.scheduler.constraints import may_run
from titan.state.attempts import Attempt
from titan.state.job_class import JobClass
from titan.state.worker import Worker

# The heartbeats of so long go into one event.
HEARTBEATS_RECORDED_EVERY_US: Final = 1_000_000
# What waits ahead longer than that goes to a worker that has room now.
AHEAD_WAIT_MAX_US: Final = 200_000

REGISTER_AGAIN: Final = "the session is not known; register again"


def register_worker(desk: Desk, command: RegisterWorker) -> Registered:
    """A worker calls in, for the first time or again. Raises Refused, InvalidJob, NoRoom."""
    check_registration(desk, command)
    number, worker_id, warning = identify(desk, command)
    worker: Worker | None = desk.state.workers.get(number)
    earlier = desk.outboxes.get(number)
    applied_seq = command.acknowledged_seq
    maybe_sent: list[tuple[int, int]] = []
    if worker is not None and worker.instance == command.instance:
        if earlier is not None:
            if earlier.applied_seq > command.held.report_seq:
                raise Refused("this registration is older than what the worker reported since")
            applied_seq = max(applied_seq, earlier.applied_seq)
    elif worker is not None:
        desk.replaced[number] = (worker.instance, desk.turned_us)
    desk.hosts[number] = (command.instance, command.host_starts)
    if not command.worker_id:
        desk.first_calls[command.instance] = number
    if worker is not None:
        _note_return(desk, worker, command.instance)
        # While its last session is there: that knows what was sent.
        _lose_absent(desk, worker, command)
        if earlier is not None and worker.instance == command.instance:
            left = worker.attempts.items()
            maybe_sent = [key for key, attempt in left if earlier.was_sent(attempt)]
    desk.close_session(number)
    desk.emit(
        ev.WorkerRegistered(
            number, worker_id, command.instance, command.boot_id, command.name, command.address,
            command.capacity.cpus_milli, command.capacity.memory_bytes, command.capacity.named,
            command.labels, command.version, command.output_directory, command.limits,
        )
    )  # fmt: skip
    worker = desk.state.get_worker(number)
    _heed_fault(desk, worker, command.fault or desk.returns.fault(number, desk.turned_us))
    heed_stop(desk, worker, is_stopping=command.is_stopping)
    if worker.is_draining:
        # A drain is written down whole or in parts; a crash may have come between these.
        recall_waiting(desk, worker)
    outbox = Outbox(
        worker=number, session=command.session, instance=command.instance,
        address=command.address, token=command.token, applied_seq=applied_seq,
        ready=desk.ready_outboxes, maybe_sent=maybe_sent, takes_secrets=command.takes_secrets,
    )  # fmt: skip
    desk.outboxes[number] = outbox
    worker.touch()
    desk.sessions[command.session] = outbox
    desk.hear(number)
    desk.schedule_wanted = True
    ends_are_to_come = applied_seq == command.acknowledged_seq
    _settle_held(desk, outbox, command.held, ends_are_to_come=ends_are_to_come)
    fill_outbox(desk.state, outbox, command.held)
    return Registered(number, worker_id, warning)


def hear_heartbeat(desk: Desk, command: Heartbeat) -> None:
    """A worker is alive. Raises Refused when it has to register again."""
    outbox = desk.sessions.get(command.session)
    if outbox is None:
        raise Refused(REGISTER_AGAIN)
    number = outbox.worker
    worker = desk.state.get_worker(number)
    desk.hear(number)
    desk.heard_now[number] = None
    if desk.room:
        _heed_fault(desk, worker, command.fault or desk.returns.fault(number, desk.turned_us))
    heed_stop(desk, worker, is_stopping=command.is_stopping)
    _settle_held(desk, outbox, command.held)
    listed = {each.key for each in command.held.attempts}
    for attempt in list(worker.attempts.values()):
        if key_of(desk.state, attempt) in listed or not outbox.was_held(attempt, command.held):
            continue
        if attempt.state is State.RUNNING:
            desk.lose_attempt(attempt, f"{worker.name} knows nothing of it any more")
        elif attempt.is_given_up:
            desk.stop_attempt(attempt)
        else:
            outbox.want_start(attempt)


def deregister_worker(desk: Desk, command: DeregisterWorker) -> None:
    """A worker takes its leave; what it still has goes back. Raises Refused."""
    outbox = desk.sessions.get(command.session)
    if outbox is None:
        raise Refused(REGISTER_AGAIN)
    worker = desk.state.get_worker(outbox.worker)
    if command.dispatch_seq is not None:
        outbox.took_last(command.dispatch_seq, worker.attempts)
    for attempt in list(worker.attempts.values()):
        desk.lose_attempt(attempt, f"{worker.name} was stopped and handed it back", counts=False)
    desk.emit(ev.WorkerDeregistered(worker.number))
    desk.schedule_wanted = True
    desk.close_session(worker.number)
    desk.forget_silence(worker.number)


def record_heartbeats(desk: Desk) -> None:
    """Writes down who was heard, all in one event."""
    due = desk.now_us - desk.heartbeats_recorded_us >= HEARTBEATS_RECORDED_EVERY_US
    if desk.heard_now and desk.room and due:
        desk.emit(ev.WorkerHeartbeats(tuple(sorted(desk.heard_now))))
        desk.heard_now.clear()
        desk.heartbeats_recorded_us = desk.now_us


def recall_from_ahead(desk: Desk) -> None:
    """What has waited too long behind others goes where there is room now."""
    late = list(_late(desk)) if desk.room else []
    if not late:
        return
    # Only to those that have called in can a task go.
    workers = [desk.state.get_worker(number) for number in sorted(desk.outboxes)]
    healthy = [each for each in workers if each.takes_tasks]
    for worker, job_class, attempts in late:
        room = sum(
            _slots_free(each, job_class.demand)
            for each in healthy
            if each is not worker
            and each.number not in desk.state.holds
            and not each.exclusive
            and may_run(each, job_class)
        )
        for attempt in attempts[: max(room, 0)]:
            if not attempt.is_given_up:
                desk.emit(ev.RecallRequested(attempt.job_id, attempt.index, attempt.attempt))
                desk.stop_attempt(attempt)


def _late(desk: Desk) -> Iterator[tuple[Worker, JobClass, list[Attempt]]]:
    """What was sent ahead and has waited too long, by worker and class, the oldest first."""
    before_us = desk.now_us - AHEAD_WAIT_MAX_US
    for number in sorted(desk.ahead_on):
        worker = desk.state.get_worker(number)
        has_ahead = False
        for class_id, here in worker.classes.items():
            has_ahead |= bool(here.ahead)
            if number in desk.outboxes and worker.takes_tasks:
                attempts = takewhile(
                    lambda each: each.assigned_us <= before_us, here.ahead.values()
                )
                if found := list(attempts):
                    yield worker, desk.state.classes[class_id], found
        if not has_ahead:
            del desk.ahead_on[number]


def _heed_fault(desk: Desk, worker: Worker, fault: str) -> None:
    """What keeps a worker that is heard from taking tasks; empty: nothing does."""
    if fault and (worker.state is WorkerState.HEALTHY or worker.fault != fault):
        desk.emit(ev.WorkerUnhealthy(worker.number, fault))
        # A head that only it could have taken holds nobody up any more.
        desk.schedule_wanted = True
    elif not fault and worker.state is WorkerState.UNHEALTHY:
        desk.emit(ev.WorkerHealthy(worker.number))
        desk.schedule_wanted = True


def _note_return(desk: Desk, worker: Worker, instance: bytes) -> None:
    """A known worker registers: that counts if it was lost, or its host is another one."""
    is_anew = worker.instance != instance and worker.state is not WorkerState.DEREGISTERED
    if worker.state is WorkerState.DISCONNECTED or is_anew:
        desk.returns.note(worker.number, desk.turned_us)


def _lose_absent(desk: Desk, worker: Worker, command: RegisterWorker) -> None:
    """Gives up what the worker had and does not list: all of it for another instance."""
    listed = {each.key for each in command.held.attempts}
    same_host = worker.instance == command.instance
    for attempt in list(worker.attempts.values()):
        if key_of(desk.state, attempt) in listed:
            continue
        if same_host and attempt.state is State.SCHEDULED:
            continue
        detail = "knows nothing of it any more" if same_host else "was started anew without it"
        desk.lose_attempt(attempt, f"{worker.name} {detail}")


def _settle_held(desk: Desk, outbox: Outbox, held: Held, *, ends_are_to_come: bool = False) -> None:
    """Adopts or stops what the worker holds and should not.

    `ends_are_to_come`: no report of what it holds as ended has counted yet, so each will.
    """
    # An older list still names what has ended since. What a recent one names and has ended
    # runs again: a start that travelled for long came after the end was acknowledged.
    is_recent = held.report_seq >= outbox.applied_seq
    for each in held.attempts:
        if find_attempt(desk, outbox, each.key) is not None:
            continue
        if each.state is HeldState.ENDED:
            # Its end is told by a report. Until that is here its task waits for it, if it ran:
            # the next pass would run it a second time.
            waits = ends_are_to_come and each.start_us > 0
            if waits and may_be_adopted(desk, outbox, each.key):
                adopt(desk, each.key, each.start_us)
        elif each.state is HeldState.RUNNING and may_be_adopted(desk, outbox, each.key):
            adopt(desk, each.key, each.start_us)
        elif is_recent or not has_ended(desk, each.key):
            desk.stop_stray(outbox, each.key)


def _slots_free(worker: Worker, demand: Resources) -> int:
    """How many tasks of that demand the worker has room for now, 64 at most."""
    if not worker.has_room(demand):
        return 0
    counts = [64]
    if demand.cpus_milli:
        counts.append(worker.free_cpus_milli // demand.cpus_milli)
    if demand.memory_bytes:
        counts.append(worker.free_memory_bytes // demand.memory_bytes)
    counts += [worker.free_named.get(name, 0) // count for name, count in demand.named]
    return min(counts)
