"""`titan worker update` calls a worker itself: by whom, and what others are told."""

from __future__ import annotations

import pytest

from tests.cluster import wait_until
from tests.security.conftest import SecureCluster
from tests.security.people import DAY_SECONDS, People
from titan.tls.identity import Role

# The exit code of who was not answered.
UNREACHABLE = 3


def update(cluster: SecureCluster, tls_dir: str, *, label: str = "a=b") -> tuple[int, str, str]:
    """How a change of the worker w1 ends."""
    directory = str(cluster.workers["w1"].directory)

    def ended() -> tuple[int, str, str] | None:
        result = cluster.titan(
            "worker", "update", "--data-dir", directory, "--label", label, "--tls-dir", tls_dir
        )
        # The command tries once, and takes a worker for away that is slow to shake hands.
        if result.returncode == UNREACHABLE:
            return None
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    found = wait_until(ended, "the worker answers, or says why not")
    assert found is not None
    return found


@pytest.mark.parametrize(("role", "name"), [(Role.WORKER, "w1"), (Role.ADMIN, "root")])
def test_the_worker_itself_and_admins_change_it(
    cluster: SecureCluster, role: Role, name: str
) -> None:
    folder = cluster.people.issue(role, name, f"update-{name}")

    def told() -> str:
        code, out, err = update(cluster, str(folder), label=f"by={name}")
        assert code == 0, err
        # That is no matter of who may: the manager may be slow to hear of it.
        assert err in ("", "titan: its manager does not answer; it is told as soon as it does\n")
        return out if not err else ""

    assert f"by={name}" in wait_until(told, "the manager knows it")


def test_others_are_told_why_not(cluster: SecureCluster, people_elsewhere: People) -> None:
    people = cluster.people
    alice = people.issue(Role.USER, "alice")
    other = people.issue(Role.WORKER, "w2", "update-w2")
    old = people.issue(Role.ADMIN, "root", "update-old", ago=2 * DAY_SECONDS)
    stranger = people_elsewhere.issue(Role.ADMIN, "root")
    for folder, sentence in (
        (str(alice), "a worker is called by its manager and by admins, and you are user alice"),
        (str(other), "a worker is called by its manager and by admins, and you are worker w2"),
        (str(old), "the certificate has expired on"),
        (str(stranger), "its certificate can't be trusted"),
        (str(people.directory / "ca.pem"), "the worker takes only who has a certificate"),
        ("none", "the worker takes only who has a certificate"),
        ("/gone/away", "the worker takes only who has a certificate: /gone/away"),
    ):
        code, out, err = update(cluster, folder)
        assert (code, out) == (5, ""), err
        assert sentence in err
        assert err.count("\n") == 1


@pytest.fixture
def people_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> People:
    """Another CA."""
    return People(tmp_path_factory.mktemp("update") / "strangers")
