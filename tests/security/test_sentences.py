"""Two sides that do not come to terms: one sentence says why, soon, with the right exit code."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import titan
from tests.cluster import Cluster
from tests.security.conftest import SecureCluster
from tests.security.impostor import impostor
from tests.security.people import DAY_SECONDS, People
from titan.errors import AccessDenied, ManagerUnreachable, TitanError
from titan.tls.identity import Role

# Calls are repeated for so long where nobody knows why they fail; here they know.
RETRY_SECONDS = 600.0
SOON_SECONDS = 60.0


class Place(NamedTuple):
    """What the cases are about."""

    cluster: SecureCluster
    people: People
    strangers: People
    plain: Cluster
    impostor: str
    """Where somebody has the certificate of the worker w1."""


class Case(NamedTuple):
    """How somebody calls."""

    folder: Callable[[Place], Path]
    sentence: str
    address: Callable[[Place], str] = lambda place: place.cluster.address
    token: Callable[[Place], str] | None = None


def of(name: str) -> Callable[[Place], Path]:
    """His folder."""
    return lambda place: place.people.directory / name


def stranger_who_trusts_us(place: Place) -> Path:
    """He has our CA's certificate, which is no secret, and his own from another."""
    folder = place.strangers.issue(Role.USER, "eve", "half")
    (folder / "ca.pem").write_bytes((place.people.directory / "ca.pem").read_bytes())
    return folder


def mismatched(place: Place) -> Path:
    """The key of another certificate."""
    folder = place.people.issue(Role.USER, "alice", "mismatched")
    (folder / "key.pem").write_bytes((place.people.directory / "bob" / "key.pem").read_bytes())
    return folder


def revoked(place: Place) -> Path:
    folder = place.people.issue(Role.USER, "mallory")
    place.people.revoke("mallory")
    return folder


def ca(place: Place) -> Path:
    return place.people.directory / "ca.pem"


def token(place: Place) -> str:
    return place.people.token("alice")


def of_token_port(place: Place) -> str:
    return place.cluster.token_address


CASES = {
    "no certificate": Case(
        lambda _: Path("none"),
        "can't be spoken to: it takes only who has a certificate: name yours with --tls-dir",
    ),
    "another CA": Case(
        lambda place: place.strangers.issue(Role.USER, "eve"),
        "can't be spoken to: its certificate can't be trusted: ",
    ),
    "another CA, ours trusted": Case(
        stranger_who_trusts_us, "another CA has signed it than the one it trusts"
    ),
    "another's key": Case(mismatched, "the certificate and its key can't be used"),
    "expired": Case(
        lambda place: place.people.issue(Role.USER, "alice", "old", ago=2 * DAY_SECONDS),
        r"the certificate has expired on \d{4}-\d\d-\d\d \d\d:\d\d: have a new one issued",
    ),
    "not valid yet": Case(
        lambda place: place.people.issue(Role.USER, "alice", "new", ago=-2 * DAY_SECONDS),
        "the certificate is not valid yet: is this machine's clock right?",
    ),
    "revoked": Case(revoked, "refused the call: the certificate of user mallory was revoked"),
    "another's host": Case(
        of("alice"),
        "its certificate is not for '127.0.0.1': have one issued for that host",
        lambda place: place.impostor,
    ),
    "a manager without": Case(
        of("alice"),
        "it has no certificates itself: call it with `--tls-dir none`",
        lambda place: place.plain.address,
    ),
    "a token where certificates are asked for": Case(
        ca, "a token is for the address that `--token-listen` names", token=token
    ),
    "a certificate where tokens are asked for": Case(
        of("alice"), "this address is for who has a token, and asks for no certi", of_token_port
    ),
    "a wrong token": Case(
        ca, "the token is not known, or it was revoked, or has expired", of_token_port,
        lambda _: "alice.0123456789ab.x",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(cluster: SecureCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    elsewhere = tmp_path_factory.mktemp("sentences")
    for name in ("alice", "bob"):
        cluster.people.issue(Role.USER, name)
    with (
        Cluster(elsewhere / "plain") as plain,
        impostor(cluster.people.directory / "w1") as there,
    ):
        plain.start_manager()
        yield Place(cluster, cluster.people, People(elsewhere / "strangers"), plain, there.address)


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_says_why_and_ends(place: Place, name: str) -> None:
    case = CASES[name]
    environment = dict(place.cluster.environment)
    if case.token:
        environment["TITAN_TOKEN"] = case.token(place)
    result = place.cluster.titan(
        "queue", "--tls-dir", str(case.folder(place)), "--manager", case.address(place),
        "--retry-for", f"{RETRY_SECONDS:g}s", env=environment, seconds=SOON_SECONDS,
    )  # fmt: skip
    said = result.stderr.decode()
    assert result.returncode == 5, said
    assert re.search(case.sentence, said)
    assert case.address(place) in said
    assert said.startswith("titan: the manager at ")
    assert said.count("\n") == 1
    assert result.stdout == b""


@pytest.mark.parametrize("name", CASES)
def test_both_clients_raise_it(place: Place, name: str) -> None:
    case = CASES[name]
    folder, address = case.folder(place), case.address(place)
    secret = case.token(place) if case.token else None

    def call() -> None:
        with titan.Client(
            address, tls_dir=folder, token=secret, retry_for_seconds=RETRY_SECONDS
        ) as client:
            client.queue()

    async def call_aio() -> None:
        async with (
            asyncio.timeout(SOON_SECONDS),
            titan.AsyncClient(
                address, tls_dir=folder, token=secret, retry_for_seconds=RETRY_SECONDS
            ) as client,
        ):
            await client.queue()

    for each in (call, lambda: asyncio.run(call_aio())):
        with pytest.raises(AccessDenied, match=case.sentence):
            each()


def test_what_there_is_no_certificate_in_is_a_usage_error(place: Place) -> None:
    for named, sentence in (
        (str(ca(place)), "holds no certificate of a user: make one with"),
        ("/gone/away", "there is no /gone/away"),
    ):
        result = place.cluster.titan("queue", "--tls-dir", named)
        assert result.returncode == 2
        assert sentence in result.stderr.decode()
        with pytest.raises(ValueError, match=sentence):
            titan.Client(place.cluster.address, tls_dir=named)


def test_what_is_denied_to_a_user_is_said_so(place: Place) -> None:
    alice, bob = (str(place.people.directory / name) for name in ("alice", "bob"))
    job = place.cluster.submit("--tls-dir", alice, "--hold", "true")
    for words, sentence in (
        (("cancel", str(job)), f"job {job} is alice's, and you are bob: ask alice, or an admin"),
        (("logs", str(job)), f"job {job} is alice's, and you are bob"),
        (("drain", "w1"), "DrainWorker is for admins, and you are user bob"),
        (("policy", "set", "--order", "fcfs"), "SetPolicy is for admins, and you are user bob"),
    ):
        result = place.cluster.titan(*words, "--tls-dir", bob)
        assert result.returncode == 5
        assert sentence in result.stderr.decode()
        assert result.stderr.count(b"\n") == 1


def test_nobody_answers_at_all(place: Place) -> None:
    """A refused connection is what it was without certificates."""
    result = place.cluster.titan(
        "queue", "--tls-dir", str(place.people.directory / "alice"), "--manager", "127.0.0.1:1"
    )
    assert result.returncode == 3
    with pytest.raises(TitanError):
        titan.Client("127.0.0.1:1", tls_dir=place.people.directory / "alice").queue()


def test_a_manager_that_holds_its_port_and_does_not_serve_yet_is_waited_for(place: Place) -> None:
    """It may be reading its log: that is no reason to give up sooner than one is told to."""
    with socket.create_server(("127.0.0.1", 0)) as starting:
        address = f"127.0.0.1:{starting.getsockname()[1]}"
        with (
            titan.Client(
                address, tls_dir=place.people.directory / "alice", retry_for_seconds=0.5
            ) as client,
            pytest.raises(ManagerUnreachable),
        ):
            client.stats()
