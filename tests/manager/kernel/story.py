"""A long scripted history with something of everything; its digest and records are known.

Run as a program it prints both, for a test that compares hash seeds.
"""

from __future__ import annotations

import hashlib
import random

from tests.manager.builders import SECOND_US, TIMEOUT_US, FakeHost, Rig, new_job, resources
from titan.errors import Refused, TitanError
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import DrainWorkers, Variables
from titan.model import State
from titan.queries.selection import JobFilter
from titan.state import digest

USERS = ("ada", "grace", "edsger")


def tell() -> Rig:
    """The same at every run, whatever the interpreter's hash seed is."""
    rng = random.Random(2026)
    rig = Rig(checks=False, settings=Settings(forget_over=20))
    hosts = [
        FakeHost(rig, resources(cpus, memory << 30, gpu=gpu, licence=gpu), f"w{cpus}")
        for cpus, memory, gpu in ((1, 0, 0), (2, 8, 1), (4, 16, 2), (8, 64, 4))
    ]
    for host in hosts:
        host.register()
    for turn in range(120):
        _submit(rig, rng, turn)
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
    jobs = [
        new_job(
            cpus=rng.choice([0.5, 1, 2]),
            memory_bytes=rng.choice([0, 1 << 30]),
            named=rng.choice([{}, {"gpu": 1}, {"licence": 1, "gpu": 2}]),
            array=rng.choice([[], [(0, 6)], [(0, 9, 4), (9, 10)]]),
            priority=rng.choice([0, 0, 3]),
            on="w4" if turn % 10 == 2 else "",
        )
        for _ in range(rng.randint(1, 3))
    ]
    rig.submit(
        *jobs,
        user=rng.choice(USERS),
        request_id=rng.randbytes(16),
        environments=((bytes([len(variables)]) * 16, (), variables),),
    )


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
        for key in host.running[: rng.randint(0, 6)]:
            host.end(key, rng.choice([State.COMPLETED] * 4 + [State.FAILED]))
        host.send_reports(answer_arrives=rng.random() < 0.8)
    except Refused:
        host.register()


if __name__ == "__main__":
    try:
        print(summary())
    except TitanError as error:
        raise SystemExit(f"the story broke off: {error}") from error
