"""A worker is who its certificate says, wherever it says that it is called."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.cluster import Server
from tests.security.conftest import SecureCluster
from tests.security.impostor import Impostor, impostor
from tests.security.people import People
from titan.certs import layout
from titan.tls.identity import Role


class Place(NamedTuple):
    """Workers that say an address that is not theirs, by name, and whoever listens there."""

    cluster: SecureCluster
    alice: str
    workers: dict[str, Server]
    impostors: dict[str, Impostor]


def worker(cluster: SecureCluster, name: str, *options: str) -> Server:
    """With its certificate, and a directory of its own."""
    folder = cluster.people.issue(Role.WORKER, name)
    return cluster.spawn(
        "worker", "--data-dir", str(cluster.root / name), "--tls-dir", str(folder),
        "--cpus", "1", *options, name=name,
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(cluster: SecureCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    people = cluster.people
    alice = str(people.issue(Role.USER, "alice"))
    strangers = People(tmp_path_factory.mktemp("names") / "strangers")
    (w1,) = (each for each in cluster.json("workers", "--tls-dir", alice) if each["name"] == "w1")
    shown = {
        # He is let in everywhere as the worker that he is, and not as another.
        "at-another": people.issue(Role.WORKER, "at-mine", "its-own"),
        "at-a-user": people.issue(Role.USER, "at-a-user.worker"),
        # Right names that another CA has written.
        "at-a-stranger": strangers.issue(Role.WORKER, "at-a-stranger"),
    }
    with ExitStack() as stack:
        impostors = {
            name: stack.enter_context(impostor(folder, asks_certificate=False))
            for name, folder in shown.items()
        }
        addresses = {
            "at-w1": w1["address"],
            "at-the-manager": cluster.address,
            **{name: each.address for name, each in impostors.items()},
        }
        workers = {
            name: worker(cluster, name, "--advertise", address)
            for name, address in addresses.items()
        }
        for each in workers.values():
            # All of them are being started at once.
            each.wait_log("registered with the manager", 90)
        yield Place(cluster, alice, workers, impostors)
        for each in workers.values():
            each.end()


NAMES = ("at-w1", "at-the-manager", "at-another", "at-a-user", "at-a-stranger")


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_that_says_anothers_address_fetches_its_tasks_itself(
    place: Place, name: str
) -> None:
    cluster = place.cluster
    assert set(NAMES) == set(place.workers)
    result = cluster.titan(
        "run", "--tls-dir", place.alice, "--on", name, "--shell", "echo on $TITAN_WORKER"
    )
    assert (result.returncode, result.stdout) == (0, f"on {name}\n".encode()), result.stderr
    assert cluster.manager is not None
    cluster.manager.wait_log(
        f"a worker cannot be called and is told to fetch its tasks worker={name} address="
    )
    # Nobody else was told of the task, or asked for its output.
    if name in place.impostors:
        assert place.impostors[name].calls == []


def test_the_worker_whose_address_it_was_is_called_as_before(place: Place) -> None:
    result = place.cluster.titan(
        "run", "--tls-dir", place.alice, "--on", "w1", "--shell", "echo on $TITAN_WORKER"
    )
    assert result.stdout == b"on w1\n", result.stderr
    assert place.cluster.manager is not None
    assert "to fetch its tasks worker=w1 " not in place.cluster.manager.log


def test_a_worker_tells_nothing_to_who_is_not_its_manager(place: Place) -> None:
    """Whoever has the certificate of a worker may listen where the manager was."""
    with impostor(place.cluster.people.directory / "w1") as there:
        lost = worker(place.cluster, "lost", "--manager", there.address)
        lost.wait_log("its certificate is not for '127.0.0.1'")
        assert there.calls == []
        lost.end()


def test_a_worker_can_not_call_itself_as_it_likes(place: Place) -> None:
    folder = str(place.cluster.people.issue(Role.WORKER, "w5"))
    result = place.cluster.titan(
        "worker", "--name", "w1", "--tls-dir", folder, "--data-dir", str(place.cluster.root / "x")
    )
    assert result.returncode == 1
    assert b"the certificate is that of the worker 'w5', not of 'w1'" in result.stderr


def test_a_second_machine_takes_a_file_and_a_command(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What `titan certs issue worker NAME --bundle FILE` writes, and the worker's command."""
    machine = tmp_path_factory.mktemp("machine")
    issued = place.cluster.people.authority.issue(Role.WORKER, "far", days=1, now=time.time())
    layout.write_bundle(machine / "F.pem", issued.credentials)
    environment = dict(place.cluster.environment)
    # It shares no file with the manager's.
    place.cluster.environment["XDG_STATE_HOME"] = str(machine / "state")
    del place.cluster.environment["TITAN_MANAGER"]
    try:
        far = place.cluster.spawn(
            "worker", "--manager", place.cluster.address, "--tls-dir", str(machine / "F.pem")
        )
        far.wait_log("registered with the manager")
    finally:
        place.cluster.environment.clear()
        place.cluster.environment.update(environment)
    result = place.cluster.titan(
        "run", "--tls-dir", place.alice, "--on", "far", "--shell",
        "echo on $TITAN_WORKER; echo and >&2; exit 3",
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (3, b"on far\n"), result.stderr
    assert b"and\n" in result.stderr
    assert place.cluster.manager is not None
    # The manager calls it: no task was fetched.
    assert "to fetch its tasks worker=far " not in place.cluster.manager.log
    # Its host goes with it.
    far.end(signal.SIGINT)
