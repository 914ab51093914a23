"""Several managers over one journal in PostgreSQL: one leads, the others stand in for it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import DEADLINE_SECONDS, wait_until
from tests.postgresql import PostgreSQL, find_or_start, patience
from tests.several import LEASE_SECONDS, SeveralManagers
from titan import Client
from titan.errors import TitanError

# Runs until the file is there, and says each time that it has begun.
WAITS = "echo $TITAN_ATTEMPT >> {0}/began; while [ ! -e {0}/go ]; do sleep 0.05; done"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    server = find_or_start()
    with patience():
        yield server
    server.close()


@pytest.fixture
def several(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql: PostgreSQL,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SeveralManagers]:
    """A test may say how long their lease lasts."""
    with SeveralManagers(
        tmp_path / "cluster",
        postgresql.make_database(),
        lease_seconds=getattr(request, "param", LEASE_SECONDS),
    ) as cluster:
        # Where a client finds the token of whichever manager it calls.
        monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
        yield cluster


# Where nobody waits for a lease to run out, none is to do so because its holder stood still.
lasts_long = pytest.mark.parametrize("several", [30.0], indirect=True)


def submit_waiting(client: Client, directory: Path) -> int:
    """A task that runs until its file is there, and that runs already."""
    job = client.submit(["sh", "-c", WAITS.format(directory)])
    wait_until((directory / "began").exists, "the task runs")
    return job.id


def state_of(client: Client, job_id: int) -> str:
    return str(client.show(job_id)["state"])


def state_or_none(client: Client, job_id: int) -> str | None:
    """None: there was no answer."""
    with suppress(TitanError):
        return state_of(client, job_id)
    return None


def has_completed(client: Client, job_id: int) -> bool:
    return state_of(client, job_id) == "COMPLETED"


def step_down(several: SeveralManagers) -> Any:
    """What the command tells; None: nobody stands by yet."""
    told = several.titan("--json", "manager", "step-down")
    if told.returncode:
        assert b"no other manager stands by" in told.stderr, told.stderr
        return None
    return json.loads(told.stdout)


def test_the_leader_is_killed_and_nobody_notices_more_than_a_pause(
    several: SeveralManagers, tmp_path: Path
) -> None:
    leader = several.start_all()
    several.start_worker()
    with several.client() as client:
        job_id = submit_waiting(client, tmp_path)
        leader.server.kill()
        # It waits for the next one: no error, and no second job.
        again = client.submit(["true"])
        assert again.id == job_id + 1
        assert several.wait_leader(leader).address != leader.address
        # It may be the new one that is first to hear that it has begun.
        wait_until(lambda: state_of(client, job_id) == "RUNNING", "the task is known to run")
        (tmp_path / "go").touch()
        wait_until(lambda: state_of(client, job_id) == "COMPLETED", "the task ends")
        wait_until(lambda: state_of(client, again.id) == "COMPLETED", "so does the other")
    # The worker kept it, and it ran once.
    assert (tmp_path / "began").read_text() == "1\n"
    assert several.start(leader.name).leads() is False


@lasts_long
def test_a_leader_that_is_told_to_hands_over_and_stands_by(
    several: SeveralManagers, tmp_path: Path
) -> None:
    leader = several.start_all()
    several.start_worker()
    with several.client() as client:
        job_id = submit_waiting(client, tmp_path)
        told = wait_until(lambda: step_down(several), "another one has said that it stands by")
        successor = several.wait_leader(leader)
        assert told["leader"] == successor.address
        wait_until(lambda: not leader.leads(), "it stands by")
        assert leader.server.process.poll() is None
        assert client.submit(["true"]).id == job_id + 1
        (tmp_path / "go").touch()
        wait_until(lambda: state_of(client, job_id) == "COMPLETED", "the task ends")
    assert (tmp_path / "began").read_text() == "1\n"


def test_a_leader_that_was_stopped_past_its_lease_answers_nothing_that_is_old(
    several: SeveralManagers,
) -> None:
    leader = several.start_all()
    with several.client() as client, several.client_of(leader) as client_of_old:
        job_id = client.submit(["true"]).id
        # It does not try again, so it may have to be asked twice.
        wait_until(lambda: state_or_none(client_of_old, job_id) == "PENDING", "it is answered")
        leader.server.process.send_signal(signal.SIGSTOP)
        answers: list[str] = []

        def ask() -> None:
            if (state := state_or_none(client_of_old, job_id)) is not None:
                answers.append(state)

        # This question lies in its socket while it stands still.
        asking = threading.Thread(target=ask)
        asking.start()
        several.wait_leader(leader)
        client.cancel(job_id)
        leader.server.process.send_signal(signal.SIGCONT)
        asking.join(DEADLINE_SECONDS)
        assert not asking.is_alive()

        def is_refused() -> bool:
            """By one that begins anew meanwhile, and says nothing for a moment."""
            try:
                answers.append(state_of(client_of_old, job_id))
            except TitanError as error:
                return "does not lead" in str(error)
            return True

        wait_until(is_refused, "it stands by and says so")
        assert answers == []
        assert state_of(client, job_id) == "CANCELLED"
    wait_until(lambda: leader.server.process.poll() is None and not leader.leads(), "it stands by")


@lasts_long
def test_a_manager_that_stands_by_answers_only_who_says_that_it_may_be_old(
    several: SeveralManagers,
) -> None:
    leader = several.start_all()
    standby = next(each for each in several.managers.values() if each is not leader)
    job_id = several.submit("true")
    at_standby = ("--manager", standby.address)

    def says_who_leads() -> bool:
        """It may look a second later than the other one leads, or stand still while it is asked."""
        refused = several.titan("show", str(job_id), *at_standby, "--retry-for", "0s")
        assert refused.returncode != 0
        return leader.address in refused.stderr.decode()

    wait_until(says_who_leads, "it says who leads")

    def is_told() -> bool:
        told = several.titan("--json", "queue", "--stale", *at_standby)
        return told.returncode == 0 and str(job_id).encode() in told.stdout

    wait_until(is_told, "it has read so far")
    # Its directory is a manager's, though it never led.
    wait_until((several.root / standby.name / "titan.json").exists, "it says whose it is")
    assert b"WRONG" not in several.ok("wal", "verify", str(several.root / standby.name))


def test_all_managers_are_killed_and_any_goes_on_with_what_was_acknowledged(
    several: SeveralManagers,
) -> None:
    several.start_all()
    job_ids = [several.submit("true") for _ in range(3)]
    for each in several.managers.values():
        each.server.kill()
    several.managers.clear()
    alone = several.start("c")
    assert several.wait_leader() == alone
    several.start_worker()
    with several.client() as client:
        for job_id in job_ids:
            wait_until(partial(has_completed, client, job_id), "it ends")
