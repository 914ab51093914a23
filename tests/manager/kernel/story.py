"""A long scripted history with something of everything; its digest and records are known.

Run as a program it prints both, for a test that compares hash seeds.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from tests.manager.builders import SECOND_US, TIMEOUT_US, FakeHost, Rig, new_job, resources
from titan.errors import Refused, TitanError
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import DrainWorkers, NewDependency, NewReference, Variables
from titan.model import State
from titan.queries.selection import JobFilter
from titan.scheduling import (
    ORDERS,
    PREEMPTIONS,
    SAME_INDEX,
    WHOLE_JOB,
    DependencyCondition,
    Scheduling,
)
from titan.state import digest

USERS = ("ada", "grace", "edsger")


def tell() -> Rig:
    """The same at every run, whatever the interpreter's hash seed is."""
    rng = random.Random(2026)
    rig = Rig(
        checks=False,
        settings=Settings(forget_over=20, reserve_after_us=2 * SECOND_US, preempt="suspend"),
    )
    hosts = [
        FakeHost(rig, resources(cpus, memory << 30, gpu=gpu, licence=gpu), f"w{cpus}")
        for cpus, memory, gpu in ((1, 0, 0), (2, 8, 1), (4, 16, 2), (8, 64, 4))
    ]
    for host in hosts:
        host.register()
    for turn in range(120):
        _submit(rig, rng, turn)
        if turn % 6 == 0:
            # Short ones, so that some are sent ahead.
            rig.submit(new_job(cpus=0.5, array=[(0, 20)], priority=3), user="ada")
        if turn > 10:
            _intervene(rig, rng, turn)
        rig.schedule()
        # Every now and then one is cut off for longer than the timeout.
        is_cut = turn % 30 in (10, 11, 12, 13)
        for host in hosts:
            if not (is_cut and host is hosts[turn // 30 % 4]):
                _work(host, rng)
        rig.tick(TIMEOUT_US // 3 if is_cut else rng.choice([1000, 1000, 250_000, SECOND_US]))
        if turn % 40 == 39:
            rig.restart()
        if turn % 20 in (5, 11):
            name = hosts[turn // 20 % 2].name
            command = DrainWorkers(
                workers=(name,), drains=turn % 20 == 5, reason="disk", user="root"
            )
            rig.do(command)
        if turn % 20 in (7, 9):
            hosts[3].fault = "its disk is nearly full" if turn % 20 == 7 else ""
        if turn % 17 == 3:
            rig.cancel(filter=JobFilter(user=rng.choice(USERS), states=(State.RUNNING,)))
    hosts[1].register()
    hosts[1].deregister()
    return rig


def summary() -> str:
    """What has to be the same everywhere."""
    rig = tell()
    records = hashlib.blake2b(b"".join(rig.records), digest_size=16).hexdigest()
    return f"{digest(rig.state)} {digest(rig.twin)} {records} {len(rig.records)}"


def _submit(rig: Rig, rng: random.Random, turn: int) -> None:
    variables: Variables = tuple((b"V%d" % each, b"x") for each in range(turn % 5))
    array: list[tuple[int, ...]] = rng.choice([[], [(0, 6)], [(0, 9, 4), (9, 10)]])
    jobs = [
        new_job(
            cpus=rng.choice([0.5, 1, 2]),
            memory_bytes=rng.choice([0, 1 << 30]),
            named=rng.choice([{}, {"gpu": 1}, {"licence": 1, "gpu": 2}]),
            array=array,
            on="w4" if turn % 10 == 2 else "",
            **{"priority": rng.choice([0, 0, 3])} | asked,
        )
        for asked in ({}, *(_fitting(rig, rng, turn, array) for _ in range(rng.randint(0, 2))))
    ]
    rig.submit(
        *jobs,
        user=rng.choice(USERS),
        request_id=rng.randbytes(16),
        environments=((bytes([len(variables)]) * 16, (), variables),),
    )


def _fitting(
    rig: Rig, rng: random.Random, turn: int, array: list[tuple[int, ...]]
) -> dict[str, Any]:
    """The same without what only arrays can ask for, where it is none."""
    asked = _schedulings(rig, rng, turn)
    scheduling = asked.get("scheduling")
    after = asked.get("after")
    if array:
        return asked
    if after:
        asked["after"] = tuple(each._replace(index=WHOLE_JOB) for each in after)
    if scheduling:
        asked["scheduling"] = scheduling._replace(array_limit=0, max_fails=-1)
    return asked


def _schedulings(rig: Rig, rng: random.Random, turn: int) -> dict[str, Any]:
    """What a job of the story asks for besides a place."""
    earlier = NewReference(None, 0)
    index = SAME_INDEX if turn % 3 == 0 else WHOLE_JOB
    condition = rng.choice([*DependencyCondition])
    return rng.choice(
        [
            {},
            {"after": (NewDependency(earlier, condition, index),)},
            {"scheduling": Scheduling(retries=2, retry_on=(1, 3), preemptible=True)},
            {"scheduling": Scheduling(preemptible=True), "priority": -3},
            {"scheduling": Scheduling(array_limit=2, max_fails=1)},
            {"scheduling": Scheduling(begin_us=rig.now_us + 2 * SECOND_US, held=turn % 4 == 0)},
            {"scheduling": Scheduling(deadline_us=rig.now_us + SECOND_US)},
            {"scheduling": Scheduling(exclusive=True), "time_limit_ms": 60_000},
            {"scheduling": Scheduling(spread="zone"), "time_limit_ms": 1_000},
        ]
    )


def _intervene(rig: Rig, rng: random.Random, turn: int) -> None:
    """What users and an administrator do about jobs that are there."""
    live = list(rig.state.live_jobs)
    job_ids = rng.sample(live, min(2, len(live)))
    what = turn % 9
    if not job_ids:
        return
    if what == 0:
        rig.hold(*job_ids)
    elif what == 2:
        rig.suspend(*job_ids)
    elif what in (4, 5):
        rig.release(*live)
        rig.resume(*live)
    elif what == 6:
        rig.update(*job_ids, priority=rng.choice([-1, 1]), limit=rng.choice([0, 30_000]))
    elif what == 7:
        rig.requeue(*job_ids)
    elif what == 8:
        preempt = PREEMPTIONS[1 + turn // 9 % 2]
        limits = (("ada", 4000 if turn % 2 else 0),)
        rig.set_policy(order=ORDERS[turn % 4], preempt=preempt, user_limits=limits)


def _work(host: FakeHost, rng: random.Random) -> None:
    chance = rng.random()
    try:
        if chance < 0.1:
            return
        if chance < 0.13:
            host.restart_host()
            host.register()
        host.heartbeat()
        host.receive_all()
        for key in host.working[: rng.randint(0, 6)]:
            host.end(key, rng.choice([State.COMPLETED] * 4 + [State.FAILED]))
        host.send_reports(answer_arrives=rng.random() < 0.8)
    except Refused:
        host.register()


if __name__ == "__main__":
    try:
        print(summary())
    except TitanError as error:
        raise SystemExit(f"the story broke off: {error}") from error
