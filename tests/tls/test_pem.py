"""What --tls-dir names: which files are read, what is wrong with others, and what changes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.security.people import HOSTS, People
from titan.certs import layout
from titan.certs.layout import Credentials
from titan.tls import pem
from titan.tls.identity import Role
from titan.tls.pem import PemFiles, Pems, TlsError


def credentials(people: People, role: Role, name: str) -> Credentials:
    """New ones, which lie nowhere."""
    hosts = HOSTS if role is Role.MANAGER else ()
    return people.authority.issue(role, name, days=1, now=time.time(), hosts=hosts).credentials


def pems_of(given: Credentials) -> Pems:
    """The same as they are read."""
    return Pems(given.ca_pem, given.key_pem, given.certificate_pem)


def test_a_directory_with_folders_gives_each_role_its_own(people: People) -> None:
    wanted = {}
    for role, name, folder in (
        (Role.MANAGER, "manager", "manager"),
        (Role.WORKER, "w1", "worker"),
        (Role.USER, "alice", "user"),
    ):
        wanted[role] = credentials(people, role, name)
        layout.write_credentials(people.directory / folder, wanted[role])
    for role, each in wanted.items():
        files = PemFiles(people.directory, role)
        assert files.pems == pems_of(each)
        assert files.folder == people.directory / role.value
    # An admin is a user of this machine.
    assert PemFiles(people.directory, Role.ADMIN).pems == pems_of(wanted[Role.USER])


def test_a_plain_directory_is_whose_certificate_is_in_it(people: People) -> None:
    given = credentials(people, Role.WORKER, "w1")
    layout.write_credentials(people.directory / "machine", given)
    files = PemFiles(people.directory / "machine", Role.WORKER)
    assert files.pems == pems_of(given)
    assert files.folder == people.directory / "machine"


def test_a_folder_of_its_role_comes_before_what_lies_beside_it(people: People) -> None:
    plain, own = (credentials(people, Role.USER, name) for name in ("alice", "bob"))
    layout.write_credentials(people.directory, plain)
    assert PemFiles(people.directory, Role.USER).pems == pems_of(plain)
    layout.write_credentials(people.directory / "user", own)
    assert PemFiles(people.directory, Role.USER).pems == pems_of(own)


def test_a_bundle_is_key_certificate_those_between_and_the_ca(people: People) -> None:
    given = credentials(people, Role.WORKER, "w1")
    between = credentials(people, Role.MANAGER, "manager").certificate_pem
    path = people.directory / "w1.pem"
    layout.write_bundle(path, given)
    assert PemFiles(path, Role.WORKER).pems == pems_of(given)
    assert PemFiles(path, Role.WORKER).folder == people.directory

    key, leaf, ca = given.key_pem, given.certificate_pem, given.ca_pem
    path.write_bytes(key + leaf + between + ca)
    # Those between are sent along, and whatever one of them signed is trusted.
    assert PemFiles(path, Role.WORKER).pems == Pems(between + ca, key, leaf + between)


def test_what_stands_between_the_blocks_is_for_people(people: People) -> None:
    given = credentials(people, Role.USER, "alice")
    text = b"Bag Attributes\r\n".join(
        (b"", given.key_pem.replace(b"\n", b"\r\n"), given.certificate_pem, given.ca_pem.rstrip())
    )
    path = people.directory / "alice.pem"
    path.write_bytes(text)
    found = PemFiles(path, Role.USER).pems
    assert found.chain == given.certificate_pem
    assert found.roots == given.ca_pem
    assert found.key.replace(b"\r\n", b"\n") == given.key_pem


def test_the_ca_alone_is_enough_for_a_token_and_for_nothing_else(people: People) -> None:
    ca = people.directory / "ca.pem"
    for path in (ca, people.directory):
        assert PemFiles(path, Role.USER, may_be_nobody=True).pems == Pems(ca.read_bytes())
        with pytest.raises(TlsError, match="holds no certificate of a user: make one with"):
            PemFiles(path, Role.USER)


def no_ca(folder: Path) -> None:
    (folder / "ca.pem").unlink()


def empty_ca(folder: Path) -> None:
    (folder / "ca.pem").write_bytes(b"")


def no_certificate(folder: Path) -> None:
    (folder / "cert.pem").unlink()


def no_key(folder: Path) -> None:
    (folder / "key.pem").unlink()


def certificate_for_key(folder: Path) -> None:
    (folder / "key.pem").write_bytes((folder / "cert.pem").read_bytes())


def unreadable_key(folder: Path) -> None:
    (folder / "key.pem").unlink()
    (folder / "key.pem").mkdir()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_ca, "ca.pem can't be read: No such file or directory"),
        (empty_ca, "ca.pem holds no certificate"),
        (no_certificate, "holds no certificate of a worker: make one with `titan certs issue w"),
        (no_key, "key.pem can't be read: No such file or directory"),
        (certificate_for_key, "does not hold one certificate and its private key"),
        (unreadable_key, "key.pem can't be read: Is a directory"),
    ],
)
def test_what_is_wrong_with_a_directory_is_a_sentence(
    people: People, spoil: object, sentence: str
) -> None:
    folder = people.issue(Role.WORKER, "w1")
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(TlsError) as raised:
        PemFiles(folder, Role.WORKER)
    assert sentence in str(raised.value)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ("", "is no bundle"),
        ("key", "is no bundle"),
        ("key leaf", "is no bundle: one private key, its certificate and the CA's"),
        ("leaf ca", "holds no certificate of a worker"),
    ],
)
def test_what_is_wrong_with_a_bundle_is_a_sentence(
    people: People, parts: str, sentence: str
) -> None:
    ca, leaf, key = credentials(people, Role.WORKER, "w1")
    path = people.directory / "w1.pem"
    path.write_bytes(b"".join({"ca": ca, "leaf": leaf, "key": key}[each] for each in parts.split()))
    with pytest.raises(TlsError, match=sentence):
        PemFiles(path, Role.WORKER)


def test_a_change_is_seen_once_and_counts(people: People) -> None:
    folder = people.issue(Role.WORKER, "w1")
    files = PemFiles(folder, Role.WORKER)
    assert files.look(at_once=True) == 0
    new = credentials(people, Role.WORKER, "w1")
    layout.write_credentials(folder, new)
    assert [files.look(at_once=True) for _ in range(3)] == [1, 1, 1]
    assert files.pems == pems_of(new)


def test_the_same_text_written_again_is_no_change(people: People) -> None:
    given = credentials(people, Role.WORKER, "w1")
    layout.write_credentials(people.directory / "w1", given)
    files = PemFiles(people.directory / "w1", Role.WORKER)
    layout.write_credentials(people.directory / "w1", given)
    assert files.look(at_once=True) == 0


def test_files_are_looked_at_once_in_a_second(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("titan.tls.pem.time.monotonic", lambda: now)
    folder = people.issue(Role.WORKER, "w1")
    files = PemFiles(folder, Role.WORKER)
    people.issue(Role.WORKER, "w1")
    now += pem.LOOK_SECONDS / 2
    assert files.look() == 0
    now += pem.LOOK_SECONDS / 2
    assert files.look() == 1


def test_what_is_there_and_can_not_be_used_leaves_the_old_and_is_told_once(people: People) -> None:
    folder = people.issue(Role.WORKER, "w1")
    files = PemFiles(folder, Role.WORKER)
    told: list[str] = []
    files.complain = told.append
    old = files.pems
    (folder / "cert.pem").unlink()
    assert [files.look(at_once=True) for _ in range(3)] == [0, 0, 0]
    assert files.pems == old
    assert len(told) == 1
    assert "holds no certificate of a worker" in told[0]
    (folder / "ca.pem").unlink()
    # Once may be the moment in which somebody is at it.
    files.look(at_once=True)
    assert len(told) == 1
    files.look(at_once=True)
    assert len(told) == 2
    # It is whole again.
    new = credentials(people, Role.WORKER, "w1")
    layout.write_credentials(folder, new)
    assert files.look(at_once=True) == 1
    assert files.pems == pems_of(new)


def test_a_role_folder_that_comes_later_is_found(people: People) -> None:
    plain, own = (credentials(people, Role.USER, "alice") for _ in range(2))
    layout.write_credentials(people.directory, plain)
    files = PemFiles(people.directory, Role.USER)
    layout.write_credentials(people.directory / "user", own)
    assert files.look(at_once=True) == 1
    assert files.pems == pems_of(own)
    assert files.folder == people.directory / "user"
