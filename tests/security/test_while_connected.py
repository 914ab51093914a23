"""What becomes of who is connected when his certificate or token ends, or is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import titan
from tests.cluster import wait_until
from tests.security.conftest import SecureCluster
from tests.security.people import DAY_SECONDS, People
from titan.errors import AccessDenied, TitanError
from titan.tls.identity import Role

# Issued so long ago that it ends that soon; later where that was too soon to connect.
SOON_SECONDS = (4.0, 16.0, 40.0)
# A worker that was refused asks again after ten seconds.
AGAIN_SECONDS = 60.0
TALK = "while echo x; do sleep 0.05; done"


@contextmanager
def connected_for_a_while(cluster: SecureCluster, name: str) -> Iterator[titan.Client]:
    """One who has called, with a certificate that is about to end."""
    for seconds in SOON_SECONDS:
        folder = cluster.people.issue(Role.USER, name, ago=DAY_SECONDS - seconds)
        with titan.Client(cluster.address, tls_dir=folder) as client:
            why = failure_of(client)
            if not why:
                yield client
                return
        assert "expired" in why
    raise AssertionError(f"not connected within {SOON_SECONDS[-1]} s")


def failure_of(client: titan.Client) -> str:
    """Why it can't ask any more; empty: it can."""
    try:
        client.stats()
    except AccessDenied as error:
        return str(error)
    return ""


def test_a_certificate_that_ends_ends_the_calls_of_a_connection_and_a_new_one_does_not_help(
    cluster: SecureCluster,
) -> None:
    with connected_for_a_while(cluster, "fleeting") as client:
        why = wait_until(lambda: failure_of(client), "it has expired", 60)
        assert "the certificate of user fleeting has expired" in why
    folder = cluster.people.directory / "fleeting"
    with (
        titan.Client(cluster.address, tls_dir=folder) as client,
        pytest.raises(AccessDenied, match="the certificate has expired on"),
    ):
        client.stats()
    # The same client, once there is a new one.
    with titan.Client(cluster.address, tls_dir=folder) as client:
        cluster.people.issue(Role.USER, "fleeting")
        client.stats()


@pytest.fixture
def talk(cluster: SecureCluster) -> Iterator[tuple[Path, int]]:
    """A user's folder, and a job of his that does not stop writing."""
    folder = cluster.people.issue(Role.USER, "talker")
    with titan.Client(cluster.address, tls_dir=folder) as client:
        job = client.submit(TALK, shell=True, on="w1")
    yield folder, job.id
    root = cluster.people.issue(Role.ADMIN, "root", "talkers-admin")
    with titan.Client(cluster.address, tls_dir=root) as client:
        client.cancel(job.id, grace=0)


def revoke_his(people: People) -> None:
    people.revoke("talker")


def test_output_that_is_followed_ends_when_its_reader_is_revoked(
    cluster: SecureCluster, talk: tuple[Path, int]
) -> None:
    folder, job_id = talk
    command = cluster.popen("logs", "-f", str(job_id), "--tls-dir", str(folder))
    assert command.stdout is not None
    assert command.stdout.read(2) == b"x\n"
    with titan.Client(cluster.address, tls_dir=folder) as client:
        stream = client.stream_output(job_id)
        assert next(stream).data
        revoke_his(cluster.people)
        with pytest.raises(AccessDenied, match="the certificate of user talker was revoked"):
            list(stream)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 5, said
    assert b"refused the call: the certificate of user talker was revoked" in said
    assert said.count(b"\n") == 1


async def read_on(stream: AsyncIterator[object]) -> None:
    """What was on its way still comes."""
    async with asyncio.timeout(60):
        async for _ in stream:
            pass


def test_a_watch_tells_nothing_more_to_who_was_revoked(
    cluster: SecureCluster, talk: tuple[Path, int]
) -> None:
    folder, _ = talk
    other = cluster.people.issue(Role.USER, "other")

    async def scenario() -> None:
        async with titan.AsyncClient(cluster.address, tls_dir=folder) as client:
            watch = aiter(client.watch())
            await anext(watch)
            revoke_his(cluster.people)
            with titan.Client(cluster.address, tls_dir=other) as another:
                another.submit(["true"], hold=True)
            with pytest.raises(AccessDenied, match="user talker was revoked"):
                await read_on(watch)

    asyncio.run(scenario())


def test_who_waits_for_news_that_do_not_come_is_told_that_he_was_revoked(
    cluster: SecureCluster,
) -> None:
    folder = cluster.people.issue(Role.USER, "patient")
    with titan.Client(cluster.address, tls_dir=folder) as client:
        job = client.submit(["true"], hold=True)
        watch = client.watch(job.id)
        next(watch)
        cluster.people.revoke("patient")
        with pytest.raises(AccessDenied, match="certificate of user patient was revoked"):
            next(watch)


def test_a_token_that_is_revoked_ends_the_calls_of_a_connection(cluster: SecureCluster) -> None:
    people = cluster.people
    text = people.token("tina")
    ca = people.directory / "ca.pem"
    with titan.Client(cluster.token_address, tls_dir=ca, token=text) as client:
        assert failure_of(client) == ""
        people.tokens.remove(["tina"])
        assert "it was revoked, or has expired" in failure_of(client)


def spoilt_ca(people: People, folder: Path) -> None:
    other = People(folder.parent / "of-another").issue(Role.WORKER, "w9")
    for each in other.iterdir():
        (folder / each.name).write_bytes(each.read_bytes())


def expired(people: People, folder: Path) -> None:
    people.issue(Role.WORKER, "w9", str(folder), ago=2 * DAY_SECONDS)


def revoked(people: People, folder: Path) -> None:
    people.issue(Role.WORKER, "w9", str(folder))
    people.revoke("w9")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (expired, "the certificate has expired on"),
        (revoked, "the certificate of worker w9 was revoked"),
        (spoilt_ca, "its certificate can't be trusted"),
    ],
)
def test_a_worker_says_why_it_is_not_let_in_and_comes_once_it_has_a_right_certificate(
    cluster: SecureCluster, tmp_path: Path, spoil: Callable[[People, Path], None], why: str
) -> None:
    people = cluster.people
    folder = tmp_path / "tls"
    folder.mkdir()
    spoil(people, folder)
    worker = cluster.spawn(
        "worker", "--data-dir", str(tmp_path / "w9"), "--tls-dir", str(folder), "--cpus", "1"
    )
    try:
        worker.wait_log(why, AGAIN_SECONDS)
        assert "registered with the manager" not in worker.log
        people.issue(Role.WORKER, "w9", str(folder))
        worker.wait_log("registered with the manager", AGAIN_SECONDS)
        assert "Traceback" not in worker.log
    finally:
        worker.end()


def test_a_worker_that_is_revoked_while_it_works_is_lost_and_comes_again(
    cluster: SecureCluster, tmp_path: Path
) -> None:
    people = cluster.people
    folder = people.issue(Role.WORKER, "w8", str(tmp_path / "tls"))
    worker = cluster.start_worker("w8", "--tls-dir", str(folder))
    try:
        people.revoke("w8")
        worker.wait_log("the certificate of worker w8 was revoked", AGAIN_SECONDS)
        before = worker.log.count("registered with the manager")
        people.issue(Role.WORKER, "w8", str(folder))
        wait_until(
            lambda: worker.log.count("registered with the manager") > before,
            "it is let in again",
            AGAIN_SECONDS,
        )
    finally:
        worker.end()


def test_errors_of_the_client_are_titans(cluster: SecureCluster) -> None:
    assert issubclass(AccessDenied, TitanError)
    with titan.Client(cluster.address, tls_dir="none") as client:
        assert failure_of(client).startswith(f"the manager at {cluster.address} can't be spoken to")
