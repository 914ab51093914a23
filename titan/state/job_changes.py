"""What follows from a change of a job: counts, indexes over jobs, and those that wait for it.

The handlers of events call it; nothing here is an event's own meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from titan import events as ev
from titan.model import TASK_ENDS, IndexRange, State
from titan.scheduling import SAME_INDEX, WHOLE_JOB, Dependency, DependencyCondition
from titan.state.attempts import Attempt
from titan.state.index_set import IndexSet, is_within
from titan.state.job import PLAIN_COUNTS, Job
from titan.state.job_class import ClassKey, JobClass, class_key
from titan.state.tables import ALL_TASKS, IllegalEvent, Tables

_RUNNING: Final = State.RUNNING
_ALL: Final = (IndexRange(0, 1 << 62),)
# Who waits only for the job as a whole; only its keys count.
_WHOLE: Final[dict[int, dict[int, tuple[int, ...]]]] = {WHOLE_JOB: {}}


def live_job(tables: Tables, event: Any) -> Job:
    """The job of the event. One that ended does not change any more."""
    job: Job | None = tables.jobs.live.get(event.job_id)
    if job is None:
        why = "the job has ended" if event.job_id in tables.jobs else "there is no such job"
        raise IllegalEvent(event, why)
    return job


def active_attempt(tables: Tables, event: Any) -> tuple[Job, Attempt]:
    """The attempt under way that the event names, and its job."""
    job = live_job(tables, event)
    attempt = job.active.get(event.index)
    if attempt is None or attempt.attempt != event.attempt:
        raise IllegalEvent(event, "no such attempt is under way")
    return job, attempt


def count_tasks(tables: Tables, job: Job, before: State, after: State, tasks: int) -> None:
    """So many tasks of the job went from one state to another."""
    source, target = before - 1, after - 1
    counts, all_counts = job.counts, tables.task_counts
    if isinstance(counts, list):
        counts[source] -= tasks
        counts[target] += tasks
    else:
        job.counts = PLAIN_COUNTS[target]
    all_counts[source] -= tasks
    all_counts[target] += tasks


def changed(tables: Tables, job: Job) -> None:
    """Keeps the indexes over jobs right after a change of one."""
    job.changed_lsn = tables.lsn
    before = job.known_state
    # Most changes are those of an array that runs.
    after = before if before is _RUNNING and job.counts[2] else job.state
    if after is not before:
        job.known_state = after
        tables.job_counts[before - 1] -= 1
        tables.job_counts[after - 1] += 1
        if after in TASK_ENDS:
            _end(tables, job)


def pending_changed(tables: Tables, job: Job) -> None:
    """The same, where other tasks of it may start now than before."""
    changed(tables, job)
    job_class = job.job_class
    pending_jobs = job_class.pending_jobs
    if job.pending.count and job.may_start:
        if job.job_id not in pending_jobs:
            pending_jobs[job.job_id] = None
            tables.touched_classes[job_class.class_id] = None
    elif job.job_id in pending_jobs:
        del pending_jobs[job.job_id]
        tables.touched_classes[job_class.class_id] = None


def unblocked(tables: Tables, job: Job) -> None:
    """Something that kept the job from starting is gone."""
    waits = job.waits_made()
    if not waits.blocked:
        waits.eligible_us = tables.time_us
    pending_changed(tables, job)


def end_waiting(tables: Tables, job: Job, spans: Sequence[IndexRange] = ()) -> None:
    """The tasks that wait are CANCELLED: all, or those in the spans, which rise and lie apart.

    Costs by the spans, the ranges of what waits, and what is cancelled.
    """
    spans = spans or _ALL
    taken = job.take_pending_in(spans)
    if job.waits is not None:
        taken += job.waits.take(spans)
    count = sum(map(len, taken))
    if not count:
        return
    doomed = tables.doomed.get(job.job_id)
    if doomed is not None:
        for index in [each for each in doomed if is_within(each, spans)]:
            del doomed[index]
        if not doomed:
            del tables.doomed[job.job_id]
    if job.cancelled is None:
        job.cancelled = IndexSet()
    job.cancelled.add_ranges(taken)
    count_tasks(tables, job, State.PENDING, State.CANCELLED, count)
    job.end_us = max(job.end_us, tables.time_us)
    for index in [each for each in job.attempts_made or () if is_within(each, spans)]:
        if index not in job.active:
            job.forget_task(index)
    if tables.dependents.get(job.job_id, _WHOLE).keys() - _WHOLE.keys():
        for index in sorted(index for part in taken for index in part):
            task_ended(tables, job, index, State.CANCELLED)


def task_ended(tables: Tables, job: Job, index: int, state: State) -> None:
    """A task of a job that others wait for ended so. Costs by those that wait for that task."""
    for dependent, place in _dependents(tables, job, index):
        assert dependent.waits is not None
        if place in dependent.waits.unmet:
            _settle_whole(tables, dependent, place, state)
    for dependent, place in _dependents(tables, job, SAME_INDEX):
        assert dependent.waits is not None
        if index in dependent.waits.tasks:
            each = dependent.scheduling.after[place]
            _settle_element(tables, dependent, each, index, state)


def await_dependencies(tables: Tables, job: Job) -> None:
    """A new job waits for what it names, as far as that has not happened."""
    after = job.scheduling.after
    waits = job.waits_made()
    # What has happened to each task of a large array need not be looked up for each.
    goes_by_task = any(
        each.index == SAME_INDEX and not _is_met_by_all(tables, each) for each in after
    )
    if goes_by_task:
        waits.tasks, job.pending = IndexSet(job.pending.ranges), IndexSet()
    for place, each in enumerate(after):
        # One that is not there comes later in the same record.
        other: Job | None = tables.jobs.get(each.job_id)
        if each.index != SAME_INDEX:
            waits.unmet[place] = None
        if other is None or not other.has_ended:
            note_dependent(tables, job, place)
        if other is None:
            continue
        if each.index == SAME_INDEX:
            for index, end in sorted(other.task_ends().items()) if goes_by_task else ():
                if index in waits.tasks:
                    _settle_element(tables, job, each, index, end)
        elif each.index == WHOLE_JOB:
            if other.has_ended:
                _settle_whole(tables, job, place, other.state)
        else:
            state = other.find_task_state(each.index)
            if state in TASK_ENDS:
                _settle_whole(tables, job, place, state)


def _is_met_by_all(tables: Tables, dependency: Dependency) -> bool:
    """Whether each task of that job has ended as was waited for."""
    other = tables.jobs.get(dependency.job_id)
    if other is None or not other.has_ended:
        return False
    return dependency.condition is DependencyCondition.ANY or (
        dependency.condition is DependencyCondition.OK and other.state is State.COMPLETED
    )


def class_of(tables: Tables, key: ClassKey) -> JobClass:
    """The class of that key; a new one if there is none."""
    class_id = tables.class_ids.get(key)
    if class_id is None:
        class_id = tables.next_class
        tables.next_class += 1
        tables.add_class(JobClass(class_id, key))
    return tables.classes[class_id]


def key_of_event(event: ev.JobSubmitted, demand: Any) -> ClassKey:
    """The class of a job that is submitted."""
    return class_key(
        user=event.user,
        priority=event.priority,
        demand=demand,
        on=event.on,
        time_limit_ms=event.time_limit_ms,
        grace_ms=event.grace_ms,
        scheduling=event.scheduling,
        execution=event.execution,
        job_id=event.job_id,
    )


def drop_class(tables: Tables, job_class: JobClass) -> None:
    """The class is forgotten if nothing refers to it any more."""
    if not job_class.jobs and not job_class.strays:
        del tables.classes[job_class.class_id]
        del tables.class_ids[job_class.key]
        tables.touched_classes[job_class.class_id] = None


def is_met(condition: DependencyCondition, state: State) -> bool:
    """Whether an end in that state is what was waited for."""
    if condition is DependencyCondition.OK:
        return state is State.COMPLETED
    return condition is DependencyCondition.ANY or state is State.FAILED


def _end(tables: Tables, job: Job) -> None:
    """The job has ended."""
    job.ended_us = tables.time_us
    tables.jobs.end(job)
    tables.overfailed.pop(job.job_id, None)
    scheduling = job.scheduling
    if scheduling.deadline_us:
        tables.deadlines.discard(deadline_entry(job))
    if tables.holds:
        for number in [n for n, hold in tables.holds.items() if hold.job_id == job.job_id]:
            del tables.holds[number]
    for each in scheduling.after:
        by_index = tables.dependents.get(each.job_id, {})
        others = by_index.get(each.index, {})
        if others.pop(job.job_id, None) is not None and not others:
            del by_index[each.index]
            if not by_index:
                del tables.dependents[each.job_id]
    tables.doomed.pop(job.job_id, None)
    if job.job_id in tables.dependents:
        for dependent, place in _dependents(tables, job, WHOLE_JOB):
            assert dependent.waits is not None
            if place in dependent.waits.unmet:
                _settle_whole(tables, dependent, place, job.state)
        del tables.dependents[job.job_id]


def deadline_entry(job: Job) -> tuple[int, int]:
    """When its tasks have to start at the latest, and the job, as `Tables.deadlines` has it."""
    return job.scheduling.deadline_us - job.time_limit_ms * 1000, job.job_id


def note_dependent(tables: Tables, job: Job, place: int) -> None:
    """What the job waits for at that place is of a job that has not ended."""
    each = job.scheduling.after[place]
    others = tables.dependents.setdefault(each.job_id, {}).setdefault(each.index, {})
    others[job.job_id] = (*others.get(job.job_id, ()), place)


def _dependents(tables: Tables, job: Job, index: int) -> list[tuple[Job, int]]:
    """Those that wait for that of the job, by number, and by which of their dependencies."""
    live = tables.jobs.live
    others = tables.dependents.get(job.job_id, {}).get(index, {})
    return [
        (live[each], place) for each in sorted(others) if each in live for place in others[each]
    ]


def _settle_whole(tables: Tables, job: Job, place: int, state: State) -> None:
    """What a job waits for at that place happened so."""
    dependency = job.scheduling.after[place]
    if is_met(dependency.condition, state):
        assert job.waits is not None
        del job.waits.unmet[place]
        unblocked(tables, job)
    else:
        _doom(tables, job, ALL_TASKS, dependency)


def _settle_element(
    tables: Tables, job: Job, dependency: Dependency, index: int, state: State
) -> None:
    """What one of its tasks waits for happened so."""
    waits = job.waits
    assert waits is not None
    if not is_met(dependency.condition, state):
        _doom(tables, job, index, dependency)
        return
    total = sum(each.index == SAME_INDEX for each in job.scheduling.after)
    left = waits.element_unmet.get(index, total) - 1
    if left:
        waits.element_unmet[index] = left
        return
    waits.remove(index)
    job.put_pending(index)
    pending_changed(tables, job)


def _doom(tables: Tables, job: Job, index: int, dependency: Dependency) -> None:
    """The task, or with ALL_TASKS each of them, can never start."""
    tables.doomed.setdefault(job.job_id, {}).setdefault(index, dependency.job_id)
