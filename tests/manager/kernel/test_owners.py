"""Whoever may change his own jobs alone: what he names of others changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.manager.builders import Rig, check_refused, new_job
from titan.errors import InvalidJob, NotFound, PermissionDenied, TitanError
from titan.manager.kernel.chosen import choose_jobs, choose_tasks
from titan.manager.kernel.commands import (
    CancelJobs,
    Command,
    HoldJobs,
    RequeueJobs,
    SuspendJobs,
    UpdateJobs,
    WhichJobs,
)
from titan.model import IndexRange, State
from titan.queries import reads
from titan.queries.selection import JobFilter, JobSelector

COMMANDS: dict[str, Callable[[WhichJobs], Command]] = {
    "cancel": lambda which: CancelJobs(which=which, grace_ms=0),
    "hold": lambda which: HoldJobs(which=which, releases=False),
    "release": lambda which: HoldJobs(which=which, releases=True),
    "suspend": lambda which: SuspendJobs(which=which, resumes=False),
    "resume": lambda which: SuspendJobs(which=which, resumes=True),
    "update": lambda which: UpdateJobs(which=which, priority=7, time_limit_ms=None),
    "requeue": lambda which: RequeueJobs(which=which, grace_ms=0, request_id=b"", content=b""),
}
EVERYTHING = JobFilter(all=True)


def named(*job_ids: int, **fields: Any) -> WhichJobs:
    """Jobs that bob means, by number."""
    return WhichJobs(
        selectors=tuple(JobSelector(job_id=each, **fields) for each in job_ids),
        user="bob", only_of="bob",
    )  # fmt: skip


@pytest.fixture
def rig() -> Rig:
    """Alice's jobs 1, 2 and 3, bob's 4 and 5; 1 and 4 run, 3 and 5 are arrays."""
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(name="hers"), user="alice")
    rig.submit(new_job(cpus=2), new_job(name="array", array=[(0, 4)], cpus=2), user="alice")
    rig.submit(new_job(name="his"), user="bob")
    rig.submit(new_job(array=[(0, 4)], cpus=2), user="bob")
    for each in (1, 4):
        rig.start_here(host, each)
    return rig


OTHERS = [
    ("one of hers", named(1)),
    ("one that waits", named(2)),
    ("his and hers", named(4, 5, 2)),
    ("hers and his", named(2, 4)),
    ("hers between his", named(4, 1, 5)),
    ("a task of hers", named(3, indexes=(IndexRange(1, 2, 1),))),
    ("hers by name", WhichJobs(selectors=(JobSelector(name="hers"),), only_of="bob")),
    ("her last", WhichJobs(selectors=(JobSelector(last_of_user="alice"),), only_of="bob")),
]


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("which", [row[1] for row in OTHERS], ids=[row[0] for row in OTHERS])
def test_what_is_anothers_is_refused_and_nothing_is_changed(
    rig: Rig, kind: str, which: WhichJobs
) -> None:
    error = check_refused(rig, COMMANDS[kind](which), PermissionDenied)
    assert "is alice's, and you are bob: ask alice, or an admin" in str(error)


WRONG: list[tuple[str, WhichJobs, type[TitanError]]] = [
    # What is wrong with it says nothing of others.
    ("his and none", named(4, 9), NotFound),
    ("hers and none", named(1, 9), NotFound),
    ("nothing", named(), InvalidJob),
]


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize(
    ("which", "error"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_what_is_not_there_is_so_for_everybody(
    rig: Rig, kind: str, which: WhichJobs, error: type[TitanError]
) -> None:
    check_refused(rig, COMMANDS[kind](which), error)


FILTERS = [
    ("everything", EVERYTHING, [4, 5]),
    ("what has not ended", JobFilter(), [4, 5]),
    ("his", JobFilter(user="bob"), [4, 5]),
    ("hers", JobFilter(user="alice", all=True), []),
    ("a name of hers", JobFilter(name="hers"), []),
    ("what runs", JobFilter(states=(State.RUNNING,)), [4]),
]


@pytest.mark.parametrize(
    ("wanted", "meant"), [row[1:] for row in FILTERS], ids=[row[0] for row in FILTERS]
)
def test_a_filter_means_of_what_it_matches_only_his(
    rig: Rig, wanted: JobFilter, meant: list[int]
) -> None:
    which = WhichJobs(filter=wanted, only_of="bob")
    assert [job.job_id for job, _ in choose_tasks(rig.state, which)] == meant
    assert choose_jobs(rig.state, which).changed.job_ids == meant


@pytest.mark.parametrize("kind", [each for each in COMMANDS if each != "requeue"])
def test_a_filter_changes_nothing_of_hers(rig: Rig, kind: str) -> None:
    def hers() -> list[bytes]:
        jobs = [rig.state.get_job(each) for each in (1, 2, 3)]
        (page,) = reads.job_pages(rig.state, jobs)
        return [each.SerializeToString(deterministic=True) for each in page]

    before = hers()
    rig.do(COMMANDS[kind](WhichJobs(filter=EVERYTHING, user="bob", only_of="bob")))
    rig.check()
    assert hers() == before


def test_who_may_change_everybodys_does(rig: Rig) -> None:
    which = WhichJobs(filter=JobFilter(), user="root", only_of=None)
    assert choose_jobs(rig.state, which).changed.job_ids == [1, 2, 3, 4, 5]
    rig.do(COMMANDS["cancel"](WhichJobs(selectors=(JobSelector(job_id=2),), user="root")))
    assert rig.state.get_job(2).state is State.CANCELLED


def test_a_user_without_a_name_has_no_jobs_but_those_of_nobody(rig: Rig) -> None:
    """The empty name is one like others, and not everybody's."""
    which = WhichJobs(filter=EVERYTHING, only_of="")
    assert choose_tasks(rig.state, which) == []
    check_refused(
        rig,
        COMMANDS["cancel"](WhichJobs(selectors=(JobSelector(job_id=1),), only_of="")),
        PermissionDenied,
    )


def test_an_ended_job_of_hers_is_not_submitted_again_by_him(rig: Rig) -> None:
    rig.cancel(2)
    check_refused(rig, COMMANDS["requeue"](named(2)), PermissionDenied)


def test_what_an_admin_submits_again_stays_its_users(rig: Rig) -> None:
    rig.cancel(2)
    again = rig.do(
        COMMANDS["requeue"](WhichJobs(selectors=(JobSelector(job_id=2),), user="root"))
    ).submitted_again
    assert rig.state.get_job(again[2]).user == "alice"
