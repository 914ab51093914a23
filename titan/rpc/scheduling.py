"""When and where a job's tasks may run, between the wire and the model."""

from __future__ import annotations

from collections.abc import Iterable

from titan.rpc.v1 import manager_pb2
from titan.scheduling import (
    PLAIN_SCHEDULING,
    SAME_INDEX,
    WHOLE_JOB,
    Dependency,
    LabelConstraint,
    Scheduling,
)


def scheduling_message(scheduling: Scheduling, *, held: bool) -> manager_pb2.Scheduling:
    """On the wire, the jobs that it names by number; `held` as it is now."""
    message = manager_pb2.Scheduling(held=held)
    if scheduling == PLAIN_SCHEDULING:
        return message
    message.constraints.extend(
        manager_pb2.LabelConstraint(label=each.label, values=each.values, negated=each.negated)
        for each in scheduling.constraints
    )
    message.affinities.extend(
        manager_pb2.JobAffinity(job=_reference(each.job_id), anti=each.anti)
        for each in scheduling.affinities
    )
    message.after.extend(map(_dependency_message, scheduling.after))
    message.spread = scheduling.spread
    message.exclusive = scheduling.exclusive
    message.array_limit = scheduling.array_limit
    if scheduling.max_fails >= 0:
        message.max_fails = scheduling.max_fails
    message.retries = scheduling.retries
    message.retry_on.extend(scheduling.retry_on)
    message.begin_us = scheduling.begin_us
    message.deadline_us = scheduling.deadline_us
    message.preemptible = scheduling.preemptible
    message.at_most_once = scheduling.at_most_once
    return message


def scheduling_of_message(message: manager_pb2.Scheduling) -> Scheduling:
    """In the model, without the jobs that it names."""
    if not message.ByteSize():
        return PLAIN_SCHEDULING
    return Scheduling(
        held=message.held,
        retries=message.retries,
        retry_on=tuple(dict.fromkeys(message.retry_on)),
        array_limit=message.array_limit,
        max_fails=message.max_fails if message.HasField("max_fails") else -1,
        constraints=_constraints(message.constraints),
        spread=message.spread,
        exclusive=message.exclusive,
        preemptible=message.preemptible,
        begin_us=message.begin_us,
        deadline_us=message.deadline_us,
        at_most_once=message.at_most_once,
    )


def _constraints(
    messages: Iterable[manager_pb2.LabelConstraint],
) -> tuple[LabelConstraint, ...]:
    # In one order, so that jobs that ask for the same are of one class.
    return tuple(
        sorted(
            {
                LabelConstraint(each.label, tuple(sorted(set(each.values))), each.negated)
                for each in messages
            }
        )
    )


def _dependency_message(dependency: Dependency) -> manager_pb2.Dependency:
    message = manager_pb2.Dependency(
        job=_reference(dependency.job_id),
        condition=manager_pb2.DependencyCondition.ValueType(dependency.condition),
    )
    if dependency.index == SAME_INDEX:
        message.same_index = True
    elif dependency.index != WHOLE_JOB:
        message.index = dependency.index
    return message


def _reference(job_id: int) -> manager_pb2.JobReference:
    return manager_pb2.JobReference(job=manager_pb2.JobSelector(job_id=job_id))
