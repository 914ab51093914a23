"""A handshake made by hand: what it leaves behind, and what it is told of who is not there."""

from __future__ import annotations

import gc
import select
import socket
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import free_port
from tests.security.impostor import impostor
from tests.security.people import People
from titan.rpc import handshake
from titan.rpc.handshake import explain_failure
from titan.tls.identity import Role
from titan.tls.pem import PemFiles


@contextmanager
def port(answer: bytes | None) -> Iterator[str]:
    """Somebody who takes a connection and says that, or None: nothing, and stays."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                if answer is None:
                    ended.wait(60)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other side is slow, its words count all the same."""
    monkeypatch.setattr(handshake, "_SECONDS", 60.0)


def files(people: People) -> PemFiles:
    return PemFiles(people.issue(Role.USER, "alice"), Role.USER)


def test_a_server_that_takes_the_certificate_has_nothing_to_explain(people: People) -> None:
    with impostor(people.issue(Role.MANAGER, "manager")) as there:
        assert explain_failure(there.address, files(people)) == ""
        assert there.calls == []


def test_the_key_is_on_no_disk_meanwhile(
    people: People, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with impostor(people.issue(Role.MANAGER, "manager")) as there:
        assert explain_failure(there.address, files(people)) == ""


def test_by_the_name_that_it_is_to_have(people: People) -> None:
    with impostor(people.issue(Role.WORKER, "w1")) as there:
        assert explain_failure(there.address, files(people), host="w1.worker") == ""
        said = explain_failure(there.address, files(people), host="w2.worker")
        assert said.startswith("its certificate is not for 'w2.worker'")
    # Where nobody asks for certificates a plain caller is told to have one all the same.
    with impostor(people.issue(Role.MANAGER, "manager"), asks_certificate=False) as there:
        assert "it takes only who has a certificate" in explain_failure(there.address, None)


def test_nobody_there_is_not_explained(people: People) -> None:
    # One that no other test is given, as one might be that was let go a moment ago.
    address = f"127.0.0.1:{free_port()}"
    for mine in (None, files(people)):
        assert explain_failure(address, mine) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it has no certificates itself: call it with"),
        (bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), "it has no certificates itself: call it with"),
    ],
)
def test_who_does_not_speak_tls(people: People, answer: bytes, said: str) -> None:
    with port(answer) as address:
        assert explain_failure(address, files(people)).startswith(said)
    with port(answer) as address:
        assert explain_failure(address, None) == ""


def test_who_says_nothing_may_be_starting_and_is_not_waited_for_long(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "_SECONDS", 0.05)
    for mine in (None, files(people)):
        with port(None) as address:
            assert explain_failure(address, mine) == ""


def test_a_ca_of_nonsense_is_said(people: People) -> None:
    mine = files(people)
    mine.pems = mine.pems._replace(roots=b"nonsense")
    with impostor(people.issue(Role.MANAGER, "manager")) as there:
        assert "can't be used" in explain_failure(there.address, mine)


def test_a_connection_that_was_reset_leaves_no_socket_behind() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as plain,
    ):
        there, _ = listener.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        # Until this side knows.
        poll = select.poll()
        poll.register(plain, select.POLLIN)
        assert poll.poll(60_000)
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            assert handshake._find_tls(plain) == ""
            gc.collect()
    assert [str(each.message) for each in left] == []
