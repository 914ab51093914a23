"""Which certificates there are, and how they are revoked by name, serial and file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.certs.conftest import issue, write
from titan.certs import layout
from titan.certs.authority import Authority
from titan.certs.issued import State, list_issued, revoke
from titan.errors import NotFound, Refused, TitanError
from titan.tls.identity import Identity, Role
from titan.tls.revoked import RevokedSerials, format_serial

DAY = 86_400


def states(directory: Path, now: float) -> dict[int, State]:
    found, broken = list_issued(directory)
    assert broken == []
    return {each.serial: each.state(now) for each in found}


def test_the_list_tells_whose_each_is_and_whether_it_counts(ca: Authority, directory: Path) -> None:
    now = time.time()
    old = ca.issue(Role.WORKER, "w1", days=1, now=now - 2 * DAY)
    gone = ca.issue(Role.USER, "ada", days=9, now=now - DAY)
    good = ca.issue(Role.WORKER, "w1", days=9, now=now)
    assert revoke(directory, ["ada"], now) != []
    found, broken = list_issued(directory)
    assert broken == []
    assert [(each.serial, each.identity, each.ends, each.state(now)) for each in found] == [
        (old.serial, Identity("lab", Role.WORKER, "w1"), old.ends, State.EXPIRED),
        (gone.serial, Identity("lab", Role.USER, "ada"), gone.ends, State.REVOKED),
        (good.serial, Identity("lab", Role.WORKER, "w1"), good.ends, State.VALID),
    ]
    assert found[2].state(good.ends) is State.EXPIRED


def test_a_copy_that_cannot_be_read_is_told_and_the_others_are_listed(
    ca: Authority, directory: Path
) -> None:
    issued = issue(ca, Role.USER, "ada")
    (directory / "issued" / "ff.pem").write_text("nonsense")
    found, broken = list_issued(directory)
    assert [each.serial for each in found] == [issued.serial]
    assert len(broken) == 1
    assert "ff.pem" in broken[0]


def test_a_name_revokes_all_that_it_has_and_nobody_elses(ca: Authority, directory: Path) -> None:
    now = time.time()
    old = ca.issue(Role.WORKER, "w1", days=1, now=now - 2 * DAY)
    mine = {issue(ca, Role.WORKER, "w1").serial for _ in range(2)}
    others = {issue(ca, Role.WORKER, "w2").serial, issue(ca, Role.WORKER, "w11").serial}
    assert {each.serial for each in revoke(directory, ["w1"], now)} == mine
    listed = RevokedSerials([directory / "revoked.txt"])
    assert all(map(listed.is_revoked, mine))
    assert not any(map(listed.is_revoked, {old.serial} | others))
    # Again it is right, and nothing new.
    assert revoke(directory, ["w1", "worker/w1"], now) == []


def test_a_name_of_several_roles_has_to_be_said_with_the_role(
    ca: Authority, directory: Path
) -> None:
    now = time.time()
    worker, user = issue(ca, Role.WORKER, "ada"), issue(ca, Role.USER, "ada")
    with pytest.raises(ValueError, match="user/ada and worker/ada"):
        revoke(directory, ["ada"], now)
    assert [each.serial for each in revoke(directory, ["user/ada"], now)] == [user.serial]
    assert [each.serial for each in revoke(directory, ["worker/ada"], now)] == [worker.serial]


def test_a_person_is_one_whether_admin_or_not(ca: Authority, directory: Path) -> None:
    wanted = {issue(ca, role, "ada").serial for role in (Role.USER, Role.ADMIN)}
    assert {each.serial for each in revoke(directory, ["ada"], time.time())} == wanted


def test_serials_are_taken_as_tools_print_them(ca: Authority, directory: Path) -> None:
    digits = [format_serial(issue(ca, Role.USER, "ada").serial) for _ in range(3)]
    colons = ":".join(digits[1][place : place + 2] for place in range(0, 32, 2))
    found = revoke(directory, [digits[0].upper(), colons, f"0x{digits[2]}"], time.time())
    assert [format_serial(each.serial) for each in found] == digits


def test_a_serial_of_another_ca_can_be_revoked(directory: Path) -> None:
    directory.mkdir()
    [found] = revoke(directory, ["00D0:1234:5678:9abc:def0"], time.time())
    assert found.identity is None
    assert RevokedSerials([directory / "revoked.txt"]).is_revoked(0xD0123456789ABCDEF0)


def test_a_file_revokes_the_certificate_in_it_and_never_the_cas(
    ca: Authority, directory: Path, tmp_path: Path
) -> None:
    now = time.time()
    one, two = issue(ca, Role.USER, "ada"), issue(ca, Role.WORKER, "w1")
    path = write(directory / "x", one) / "cert.pem"
    layout.write_bundle(tmp_path / "w1.pem", two.credentials)
    found = revoke(directory, [str(path), str(tmp_path / "w1.pem")], now)
    assert [each.serial for each in found] == [one.serial, two.serial]
    before = (directory / "revoked.txt").read_bytes()
    for wrong in (directory / "ca.pem", directory / "x" / "key.pem"):
        with pytest.raises(TitanError):
            revoke(directory, [str(wrong)], now)
    assert (directory / "revoked.txt").read_bytes() == before


def test_nothing_is_revoked_where_one_of_them_is_not_known(ca: Authority, directory: Path) -> None:
    issue(ca, Role.WORKER, "w1")
    for unknown in ("w2", "user/w1", "missing.pem", "abc"):
        with pytest.raises(NotFound):
            revoke(directory, ["w1", unknown], time.time())
    assert not (directory / "revoked.txt").exists()
    with pytest.raises(NotFound, match="no directory"):
        revoke(directory / "nowhere", ["w1"], time.time())
    assert not (directory / "nowhere").exists()


def test_what_people_wrote_into_the_list_stays(ca: Authority, directory: Path) -> None:
    issued = issue(ca, Role.WORKER, "w1")
    path = directory / "revoked.txt"
    own = b"# stolen laptops\xff\n0f0f0f\nnonsense"
    path.write_bytes(own)
    now = time.time()
    revoke(directory, ["w1"], now)
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    line = f"{format_serial(issued.serial)}  # worker/w1, {day}\n"
    assert path.read_bytes() == own + b"\n" + line.encode()


def test_workers_whose_names_differ_by_capitals_are_told_apart_before_tls_cannot(
    ca: Authority, directory: Path
) -> None:
    issue(ca, Role.USER, "W1")
    issue(ca, Role.WORKER, "w1")
    issue(ca, Role.WORKER, "w1")
    with pytest.raises(Refused, match="worker w1 has a certificate"):
        issue(ca, Role.WORKER, "W1")
    assert len(list_issued(directory)[0]) == 3
    issue(ca, Role.WORKER, "W2")
    with pytest.raises(Refused, match="worker W2 has a certificate"):
        issue(ca, Role.WORKER, "w2")
    revoke(directory, ["worker/w1"], time.time())
    issue(ca, Role.WORKER, "W1")
