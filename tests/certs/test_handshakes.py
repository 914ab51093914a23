"""Who gets through to whom: both prove themselves, over loopback, with Python's own TLS."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.certs.conftest import issue, write
from titan.certs import authority, layout
from titan.certs.authority import Authority
from titan.tls.identity import Role

DEADLINE_SECONDS = 60


class Outcome(NamedTuple):
    """Whether each side was satisfied with the other."""

    client: str
    server: str


def context(directory: Path, side: int) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    made.load_verify_locations(directory / "ca.pem")
    return made


def meet(server: Path, client: Path, name: str) -> Outcome:
    """A mutual handshake and a byte each way: TLS 1.3 refuses a client after its own part."""
    told = {}

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(DEADLINE_SECONDS)
        with connection:
            try:
                with context(server, ssl.PROTOCOL_TLS_SERVER).wrap_socket(
                    connection, server_side=True
                ) as wrapped:
                    wrapped.recv(1)
                    wrapped.sendall(b"x")
                    told["server"] = "fine"
            except (ssl.SSLError, OSError) as error:
                told["server"] = str(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), DEADLINE_SECONDS) as plain,
                context(client, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(
                    plain, server_hostname=name
                ) as wrapped,
            ):
                wrapped.sendall(b"x")
                told["client"] = "fine" if wrapped.recv(1) == b"x" else "closed"
        except (ssl.SSLError, OSError) as error:
            told["client"] = str(error)
        thread.join(DEADLINE_SECONDS)
    return Outcome(told["client"], told["server"])


@pytest.fixture
def everybody(ca: Authority, directory: Path) -> Path:
    """A directory with one of each, and a stranger's of the same names."""
    stranger = authority.create(directory / "stranger", cluster="lab", now=time.time())
    for maker, below in ((ca, directory), (stranger, directory / "stranger")):
        write(below / "manager", issue(maker, Role.MANAGER, "manager", "titan.example.com"))
        # Named so as to be taken for the manager.
        write(below / "localhost", issue(maker, Role.WORKER, "localhost"))
        write(below / "w1", issue(maker, Role.WORKER, "w1"))
        write(below / "ada", issue(maker, Role.USER, "localhost"))
    return directory


@pytest.mark.parametrize(
    ("server", "client", "name"),
    [
        ("manager", "ada", "localhost"),
        ("manager", "ada", "127.0.0.1"),
        ("manager", "w1", "titan.example.com"),
        ("w1", "manager", "w1.worker"),
    ],
)
def test_they_meet_where_each_is_who_the_other_expects(
    everybody: Path, server: str, client: str, name: str
) -> None:
    assert meet(everybody / server, everybody / client, name) == ("fine", "fine")


@pytest.mark.parametrize(
    ("server", "name", "why"),
    [
        ("localhost", "localhost", "Hostname mismatch"),
        ("localhost", "127.0.0.1", "IP address mismatch"),
        ("manager", "w1.worker", "Hostname mismatch"),
        ("localhost", "w1.worker", "Hostname mismatch"),
        # A user's certificate has no name that could match, and is not one of a server at all.
        ("ada", "localhost", "certificate purpose|Hostname mismatch"),
        ("stranger/manager", "localhost", "unable to get local issuer|self.signed|signature"),
    ],
)
def test_a_client_goes_away_from_a_server_that_is_another(
    everybody: Path, server: str, name: str, why: str
) -> None:
    outcome = meet(everybody / server, everybody / "manager", name)
    assert outcome.server != "fine"
    assert re.search(why, outcome.client)


def test_a_server_refuses_who_has_a_certificate_of_another_ca(everybody: Path) -> None:
    client = everybody / "stranger" / "ada"
    # It trusts the right CA, but has been given a certificate by another one.
    (client / "ca.pem").write_bytes((everybody / "ca.pem").read_bytes())
    outcome = meet(everybody / "manager", client, "localhost")
    assert outcome.client != "fine"
    assert "verify failed" in outcome.server


def test_a_user_is_no_server_even_to_those_who_check_no_name(everybody: Path) -> None:
    server = everybody / "ada"
    made = context(everybody / "manager", ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = made.wrap_bio(inside, outside)
    serving = context(server, ssl.PROTOCOL_TLS_SERVER).wrap_bio(outside, inside, server_side=True)
    for _ in range(2):
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        with pytest.raises(ssl.SSLWantReadError):
            serving.do_handshake()
        if inside.pending:
            break
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        client.do_handshake()


def test_renewal_under_a_reader_leaves_no_moment_without_whole_files(
    ca: Authority, directory: Path
) -> None:
    renewals = [issue(ca, Role.MANAGER, "manager").credentials for _ in range(10)]
    certificates = {each.certificate_pem for each in renewals}
    keys = {each.key_pem for each in renewals}
    bundles = {each.key_pem + each.certificate_pem + each.ca_pem for each in renewals}
    place, bundle = directory / "manager", directory / "all.pem"
    layout.write_credentials(place, renewals[0])
    layout.write_bundle(bundle, renewals[0])
    seen: set[bytes] = set()
    is_done, has_left = threading.Event(), threading.Event()

    def renew() -> None:
        number = 0
        try:
            # However long it takes until the reader has its turn.
            while number < 200 or (len(seen) < 2 and not has_left.is_set()):
                layout.write_credentials(place, renewals[number % 10])
                layout.write_bundle(bundle, renewals[number % 10])
                number += 1
        finally:
            is_done.set()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        while not is_done.is_set():
            whole = bundle.read_bytes()
            seen.add(whole)
            assert whole in bundles
            assert (place / "cert.pem").read_bytes() in certificates
            assert (place / "key.pem").read_bytes() in keys
            assert (place / "ca.pem").read_bytes() == renewals[0].ca_pem
    finally:
        has_left.set()
        thread.join()
    assert len(seen) > 1
    assert bundle.read_bytes() == b"".join(
        (place / name).read_bytes() for name in ("key.pem", "cert.pem", "ca.pem")
    )
    context(place, ssl.PROTOCOL_TLS_SERVER)
    assert {each.name for each in place.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
