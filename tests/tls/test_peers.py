"""What a server makes of its own certificate, when it changes, and of those that callers have."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.security.people import DAY_SECONDS, People
from titan.certs import layout
from titan.errors import AccessDenied
from titan.tls.certificate import read_certificate
from titan.tls.identity import Identity, Role
from titan.tls.peers import Peers, open_peers
from titan.tls.pem import PemFiles, TlsError


class Clock:
    """Shows what the test says, in Unix seconds."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def worker(people: People, now: Clock | None = None) -> Peers:
    """The server's side of the worker w1."""
    return Peers(PemFiles(people.issue(Role.WORKER, "w1"), Role.WORKER), now=now or Clock())


def look(peers: Peers) -> int:
    """At once, and not when the next second begins."""
    peers.files.look(at_once=True)
    return peers.look()


def context_of(path: Path) -> dict[str, Any]:
    """What gRPC tells of who calls with that certificate."""
    return {"x509_pem_cert": [(path / "cert.pem").read_bytes()]}


def certificate_with(*extensions: x509.ExtensionType) -> bytes:
    """One of nobody's, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
    )
    for each in extensions:
        builder = builder.add_extension(each, False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def uris(*given: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(each) for each in given])


@pytest.mark.parametrize(
    ("given", "identity"),
    [
        (("spiffe://lab/user/alice",), Identity("lab", Role.USER, "alice")),
        (("https://x.example", "spiffe://lab/admin/bob"), Identity("lab", Role.ADMIN, "bob")),
        # Which of the two speaks?
        (("spiffe://lab/user/alice", "spiffe://lab/admin/alice"), None),
        (("spiffe://lab/root/alice",), None),
        (("spiffe://lab/user/alice/x",), None),
        (("spiffe://lab/user/alice\n",), None),
        (("SPIFFE://lab/user/alice",), None),
        (("spiffe://lab/user/../admin/x",), None),
    ],
)
def test_whom_a_certificate_is_for(given: tuple[str, ...], identity: Identity | None) -> None:
    assert read_certificate(certificate_with(uris(*given))).identity == identity


def test_a_certificate_without_other_names_is_nobodys() -> None:
    assert read_certificate(certificate_with()).identity is None


def test_names_of_a_kind_that_nobody_knows_are_an_error_and_no_crash() -> None:
    # An ediPartyName (RFC 5280, 4.2.1.6), which the library refuses in its own way.
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x02\xa5\x00")
    with pytest.raises(TlsError):
        read_certificate(certificate_with(odd))


def test_a_caller_is_who_the_certificate_says(people: People) -> None:
    peers = worker(people)
    assert peers.identify({}) is None
    admin = peers.identify(context_of(people.issue(Role.ADMIN, "root")))
    assert admin == Identity("lab", Role.ADMIN, "root")


def test_a_certificate_that_ends_while_its_owner_is_connected_ends_that(people: People) -> None:
    clock = Clock()
    peers = worker(people, clock)
    context = context_of(people.issue(Role.USER, "alice"))
    assert peers.identify(context) is not None
    clock.now += DAY_SECONDS + 1
    with pytest.raises(AccessDenied, match="certificate of user alice has expired"):
        peers.identify(context)


def test_a_certificate_that_is_revoked_while_its_owner_is_connected_ends_that(
    people: People,
) -> None:
    peers = worker(people)
    context = context_of(people.issue(Role.USER, "alice"))
    assert peers.identify(context) is not None
    people.revoke("alice")
    with pytest.raises(AccessDenied, match="certificate of user alice was revoked"):
        peers.identify(context)


def test_another_clusters_certificate_is_nobodys_here(people: People, tmp_path: Path) -> None:
    other = People(tmp_path / "other", "other").issue(Role.ADMIN, "root")
    with pytest.raises(AccessDenied, match="is for the cluster other, this is lab"):
        worker(people).identify(context_of(other))


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_lists_count_only_where_not_everybody_can_write(people: People, mode: int) -> None:
    """In /tmp anybody could let himself in."""
    own, above = people.directory / "w1", people.directory
    assert worker(people).files.folders == (own, above)
    above.chmod(mode)
    assert worker(people).files.folders == (own,)

    # A bundle lies among whatever is there; what is revoked there is, whoever did it.
    credentials = people.authority.issue(Role.WORKER, "w2", days=1, now=time.time()).credentials
    layout.write_bundle(above / "w2.pem", credentials)
    bundle = open_peers(above / "w2.pem", Role.WORKER)
    assert above not in bundle.files.folders
    alice = people.issue(Role.USER, "alice")
    people.revoke("alice")
    with pytest.raises(AccessDenied, match="was revoked"):
        bundle.identify(context_of(alice))


def test_a_key_that_others_can_read_is_told_of(
    people: People, caplog: pytest.LogCaptureFixture
) -> None:
    peers = worker(people)
    assert caplog.messages == []
    path = people.directory / "w1" / "key.pem"
    for mode in (0o640, 0o604):
        path.chmod(mode)
        open_peers(path.parent, Role.WORKER)
        assert caplog.messages.pop() == f"others can read the private key: chmod 600 it file={path}"
        caplog.clear()
    # A new one is looked at as well.
    people.issue(Role.WORKER, "w1")
    path.chmod(0o644)
    look(peers)
    assert "others can read the private key" in caplog.text


@pytest.mark.parametrize("role", [Role.MANAGER, Role.USER])
def test_a_server_with_the_certificate_of_another_role_does_not_start(
    people: People, role: Role
) -> None:
    with pytest.raises(TlsError, match=f"that of {role} x, not of a worker"):
        open_peers(people.issue(role, "x"), Role.WORKER)


def test_a_server_with_the_key_of_another_does_not_start(people: People) -> None:
    folder, other = people.issue(Role.WORKER, "w1"), people.issue(Role.WORKER, "w2")
    (folder / "key.pem").write_bytes((other / "key.pem").read_bytes())
    with pytest.raises(TlsError, match="the private key is not that of the certificate"):
        open_peers(folder, Role.WORKER)


def test_a_server_with_a_key_of_nonsense_does_not_start(people: People) -> None:
    folder = people.issue(Role.WORKER, "w1")
    (folder / "key.pem").write_bytes(
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    )
    with pytest.raises(TlsError, match="the private key can't be used"):
        open_peers(folder, Role.WORKER)


def test_a_renewed_certificate_is_taken_up_and_told(
    people: People, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "titan.tls")
    peers = worker(people)
    people.issue(Role.WORKER, "w1")
    assert [look(peers) for _ in range(2)] == [1, 1]
    assert caplog.text.count('the certificate was renewed of="worker w1" until=') == 1


def test_a_key_that_comes_before_its_certificate_leaves_the_old_pair(
    people: People, caplog: pytest.LogCaptureFixture
) -> None:
    peers = worker(people)
    old = peers.files.pems
    new = people.issue(Role.WORKER, "w1", "new")
    folder = people.directory / "w1"
    (new / "key.pem").rename(folder / "key.pem")
    assert [look(peers) for _ in range(2)] == [0, 0]
    assert peers.files.pems == old
    assert caplog.text.count("the one before stays: the private key is not that") == 1
    (new / "cert.pem").rename(folder / "cert.pem")
    assert look(peers) == 1


@pytest.mark.parametrize(
    ("role", "name", "why"),
    [
        (Role.WORKER, "w2", "the new certificate is that of worker w2, not of worker w1"),
        (Role.ADMIN, "w1", "the certificate is that of admin w1, not of a worker"),
    ],
)
def test_a_renewal_by_somebody_elses_certificate_is_refused_and_told_once(
    people: People, caplog: pytest.LogCaptureFixture, role: Role, name: str, why: str
) -> None:
    peers = worker(people)
    old = peers.files.pems
    people.issue(role, name, "w1")
    assert [look(peers) for _ in range(3)] == [0, 0, 0]
    assert peers.files.pems == old
    assert caplog.text.count(why) == 1


def test_a_renewal_for_another_cluster_is_refused(people: People, tmp_path: Path) -> None:
    peers = worker(people)
    other = People(tmp_path / "other", "other").issue(Role.WORKER, "w1")
    for each in other.iterdir():
        each.rename(people.directory / "w1" / each.name)
    assert look(peers) == 0


def test_files_that_are_gone_leave_the_old_and_that_is_told_once(
    people: People, caplog: pytest.LogCaptureFixture
) -> None:
    peers = worker(people)
    old = peers.files.pems
    for each in (people.directory / "w1").iterdir():
        each.unlink()
    assert [look(peers) for _ in range(3)] == [0, 0, 0]
    assert peers.files.pems == old
    assert caplog.text.count("the one before stays") == 1


def test_a_certificate_that_is_about_to_end_is_told_of_once_a_day(
    people: People, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    peers = worker(people, clock)
    peers.look()
    assert "expires soon" not in caplog.text
    clock.now += 0.8 * DAY_SECONDS
    peers.look()
    peers.look()
    assert caplog.text.count("the certificate expires soon: ") == 1
    clock.now += DAY_SECONDS
    peers.look()
    assert caplog.text.count("the certificate has expired: ") == 1
    # The new one is as good as new.
    people.issue(Role.WORKER, "w1")
    clock.now = time.time()
    look(peers)
    assert [each.levelname for each in caplog.records].count("WARNING") == 2


def test_threads_that_look_at_once_see_one_change(people: People) -> None:
    peers = worker(people)
    for turn in range(1, 6):
        people.issue(Role.WORKER, "w1")
        threads = [
            threading.Thread(target=peers.files.look, kwargs={"at_once": True}) for _ in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert peers.files.look(at_once=True) == turn
