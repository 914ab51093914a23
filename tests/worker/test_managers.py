"""A worker whose cluster has several managers, of which one leads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.worker.builders import batch, key, launch
from tests.worker.cores import ended, host_state, register, registered, the
from tests.worker.fake_manager import FakeManager, wait_for
from tests.worker.scenes import run_sleeper
from tests.worker.worker_process import WorkerProcess
from titan.worker.agent.actions import (
    Action,
    Level,
    PassStart,
    Register,
    Say,
    SendHeartbeat,
    SendReports,
)
from titan.worker.agent.core import Core, Failure

Scene: TypeAlias = Callable[[FakeManager, FakeManager, WorkerProcess], Awaitable[None]]
Play: TypeAlias = Callable[[Scene], None]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Runs a scene with a manager that leads, one that stands by, and a worker that knows both."""
    workers: list[WorkerProcess] = []

    async def run(scene: Scene) -> None:
        first, second = FakeManager(tmp_path), FakeManager(tmp_path)
        await first.start()
        await second.start()
        second.leader = first.address
        addresses = f"{second.address},{first.address}"
        worker = WorkerProcess(tmp_path / "worker", addresses, first.access_file)
        workers.append(worker)
        try:
            worker.start()
            await first.wait_registrations(1)
            await scene(first, second, worker)
        finally:
            await first.stop()
            await second.stop()

    yield lambda scene: asyncio.run(run(scene))
    for worker in workers:
        worker.close()


def test_it_registers_with_the_one_that_leads(play: Play) -> None:
    async def scene(first: FakeManager, second: FakeManager, worker: WorkerProcess) -> None:
        await wait_for(lambda: len(first.heartbeats) > 2, "heartbeats")
        assert len(first.registrations) == 1
        assert second.registrations == []

    play(scene)


@pytest.mark.parametrize("is_killed", [False, True])
def test_it_keeps_its_tasks_when_another_leads_and_reports_their_ends_there(
    play: Play, is_killed: bool
) -> None:
    async def scene(first: FakeManager, second: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(first, worker)
        second.take_over(first)
        if is_killed:
            await first.stop()
        registration = await second.wait_registrations(1)
        assert [each.key.job_id for each in registration.held.attempts] == [1]
        assert registration.worker_id == first.worker_id
        await wait_for(lambda: second.heartbeats, "a heartbeat")
        os.kill(pid, 0)
        await second.cancel(key())
        assert (await second.wait_report(key())).signal == 9

    play(scene)


def test_a_report_that_was_not_acknowledged_goes_to_the_new_leader(play: Play) -> None:
    async def scene(first: FakeManager, second: FakeManager, worker: WorkerProcess) -> None:
        first.lose_answers = 1_000
        attempt = await first.run("sleep", "0.2")
        # Of its start alone, most often: until that is acknowledged, the end gathers behind it.
        await wait_for(lambda: first.reports, "a report")
        second.instance, second.worker_id = first.instance, first.worker_id
        second.leader, first.leader = None, second.address
        await second.wait_report(attempt)
        # Those that the first one had are told again, under their numbers.
        assert second.reports[: len(first.reports)] == first.reports

    play(scene)


def test_it_waits_while_nobody_leads_and_its_tasks_run_on(play: Play) -> None:
    async def scene(first: FakeManager, second: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(first, worker)
        first.leader = second.leader = ""
        await wait_for(lambda: "lost the manager" in worker.log(), "the worker to say so")
        said = worker.log()
        assert f"{first.address}: UNAVAILABLE: a standby" in said
        assert f"{second.address}: UNAVAILABLE: a standby" in said
        os.kill(pid, 0)
        second.leader = None
        await second.wait_registrations(1)
        await wait_for(lambda: "the manager is back" in worker.log(), "the worker to say so")

    play(scene)


def test_one_that_leads_in_an_older_term_is_passed_over(play: Play) -> None:
    async def scene(first: FakeManager, second: FakeManager, worker: WorkerProcess) -> None:
        second.take_over(first)
        await second.wait_registrations(1)
        await wait_for(lambda: second.heartbeats, "a heartbeat")
        # It comes back and does not know that it was deposed.
        first.leader, second.leader = None, first.address
        await first.wait_registrations(2)
        heard = len(first.heartbeats)
        second.leader = None
        await second.wait_registrations(2)
        assert len(first.heartbeats) == heard
        assert "leads in term 0, and another has led in term 1" in worker.log()

    play(scene)


# What the agent decides ---------------------------------------------------------------------------


def answer(core: Core, call: int, term: int, cluster: bytes = b"C") -> list[Action]:
    return core.registered(
        call,
        worker_id=b"W",
        session=b"S%d" % term,
        cluster_id=cluster,
        heartbeat_interval_ms=3_000,
        term=term,
    )


def test_a_heartbeat_that_finds_no_leader_is_followed_by_a_registration_at_once() -> None:
    core = registered()
    failed = core.failed(core_beat(core), Failure.ELSEWHERE, "a: a standby")
    assert the(Register, failed).delay_us == 0
    assert the(Say, failed).level == Level.INFO
    assert not core.is_registered


def test_reports_that_find_no_leader_are_kept_for_the_one_they_are_registered_with() -> None:
    core = registered()
    _, todo = core.start(b"S1", 1, batch(launch()))
    assert the(PassStart, todo)
    sent = the(SendReports, core.host_reported([ended(1)]))
    failed = core.failed(sent.call, Failure.ELSEWHERE, "a: a standby")
    again = register(core, the(Register, failed).call, b"S2")
    assert the(SendReports, again).reports == sent.reports


def test_sessions_in_which_nothing_is_answered_follow_each_other_ever_more_slowly() -> None:
    core = registered()
    delays = []
    for number in range(4):
        sent = the(SendHeartbeat, core.heartbeat_due())
        again = the(Register, core.failed(sent.call, Failure.ELSEWHERE, "cut off"))
        delays.append(again.delay_us)
        register(core, again.call, b"again %d" % number)
    assert delays == [0, 100_000, 200_000, 400_000]
    core.heartbeat_taken(core_beat(core))
    assert the(Register, core.failed(core_beat(core), Failure.ELSEWHERE, "")).delay_us == 0


def test_it_pauses_only_when_all_have_been_tried() -> None:
    core = Core(b"W")
    todo = core.host_connected(host_state())
    delays = []
    for failure in [Failure.ELSEWHERE, Failure.UNREACHABLE] * 3:
        call = the(Register, todo)
        delays.append(call.delay_us)
        todo = core.failed(call.call, failure, "away")
    assert delays == [0, 0, 100_000, 0, 200_000, 0]


def test_an_answer_from_a_term_that_is_over_does_not_count() -> None:
    core = Core(b"W")
    answer(core, the(Register, core.host_connected(host_state())).call, term=5)
    again = the(Register, core.failed(core_beat(core), Failure.UNREGISTERED, ""))
    assert not again.passes_on
    refused = answer(core, again.call, term=4)
    assert core.is_over(4, b"C")
    assert not core.is_registered
    assert "term 4, and another has led in term 5" in the(Say, refused).message
    third = the(Register, refused)
    assert third.passes_on
    assert third.delay_us > 0
    answer(core, third.call, term=5)
    assert core.session == b"S5"


def test_another_cluster_counts_its_terms_by_itself() -> None:
    core = Core(b"W")
    answer(core, the(Register, core.host_connected(host_state())).call, term=5)
    again = the(Register, core.failed(core_beat(core), Failure.UNREGISTERED, ""))
    answer(core, again.call, term=1, cluster=b"D")
    assert core.session == b"S1"


def core_beat(core: Core) -> int:
    return the(SendHeartbeat, core.heartbeat_due()).call
