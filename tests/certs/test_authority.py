"""What the CA makes, as OpenSSL and RFC 5280 see it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.certs.conftest import issue, write
from titan.certs import authority, layout
from titan.certs.authority import Authority
from titan.errors import Refused, TitanError
from titan.tls.identity import Role
from titan.tls.revoked import format_serial

DAY = 86_400


def openssl(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def text_of(path: Path) -> str:
    """The certificate as a text, each run of blanks one."""
    return re.sub(r"\s+", " ", openssl("x509", "-in", path, "-noout", "-text"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_ca_signs_certificates_and_nothing_else(ca: Authority, directory: Path) -> None:
    text = text_of(directory / "ca.pem")
    assert "Subject: CN = lab CA " in text
    assert "Basic Constraints: critical CA:TRUE, pathlen:0 " in text
    assert "Key Usage: critical Certificate Sign, CRL Sign " in text
    assert "URI:spiffe://lab " in text
    assert "NIST CURVE: P-256" in text
    assert ca.ends == pytest.approx(time.time() + authority.CA_DAYS * DAY, abs=60)
    assert authority.load(directory).cluster == "lab"


@pytest.mark.parametrize(
    ("role", "usage", "purposes"),
    [
        (Role.MANAGER, "Server Authentication, TLS Web Client", {"sslserver", "sslclient"}),
        (Role.WORKER, "Server Authentication, TLS Web Client", {"sslserver", "sslclient"}),
        (Role.USER, "TLS Web Client Authentication", {"sslclient"}),
        (Role.ADMIN, "TLS Web Client Authentication", {"sslclient"}),
    ],
)
def test_a_certificate_is_good_for_what_its_role_does(
    ca: Authority, directory: Path, role: Role, usage: str, purposes: set[str]
) -> None:
    issued = issue(ca, role, "n1")
    path = write(directory / "x", issued) / "cert.pem"
    text = text_of(path)
    assert f"URI:spiffe://lab/{role}/n1" in text
    assert "Subject: CN = n1 " in text
    assert "Key Usage: critical Digital Signature " in text
    assert "Basic Constraints: critical CA:FALSE " in text
    assert usage in text
    assert "Authority Key Identifier" in text
    verify = ("verify", "-x509_strict", "-CAfile", directory / "ca.pem", "-purpose")
    for purpose in ("sslserver", "sslclient"):
        openssl(*verify, purpose, path, code=0 if purpose in purposes else 2)
    key = openssl("pkey", "-in", path.with_name("key.pem"), "-pubout")
    assert key == openssl("x509", "-in", path, "-noout", "-pubkey")
    serial = openssl("x509", "-in", path, "-noout", "-serial")
    assert serial == f"serial={format_serial(issued.serial).upper()}\n"


def test_alternative_names_are_those_by_which_each_is_called(
    ca: Authority, directory: Path
) -> None:
    def names(role: Role, *hosts: str) -> list[str]:
        path = write(directory / "x", issue(ca, role, "n1", *hosts)) / "cert.pem"
        found = re.search(r"Alternative Name: (.*?) X509v3", text_of(path))
        assert found
        return [each for each in found[1].split(", ") if not each.startswith("URI:")]

    local = ["DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1"]
    assert names(Role.MANAGER, "Titan.Example.Com.", "10.0.0.1", "localhost") == [
        "DNS:titan.example.com",
        "IP Address:10.0.0.1",
        *local,
    ]
    assert names(Role.MANAGER) == local
    assert names(Role.WORKER, "ignored.example.com") == ["DNS:n1.worker"]
    assert names(Role.USER) == names(Role.ADMIN) == []


@pytest.mark.parametrize(
    "host",
    ["w1.worker", "w1.WORKER.", "worker", "*.example.com", "a b", "", "a..b", "ä.de", "x" * 254],
)
def test_a_manager_can_be_called_by_no_workers_name_and_no_nonsense(
    ca: Authority, directory: Path, host: str
) -> None:
    with pytest.raises(ValueError, match="no host of a manager"):
        issue(ca, Role.MANAGER, "manager", host)
    assert not (directory / "issued").exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\nb", "-x", "x" * 129, "é", "a\0"])
def test_a_name_that_could_be_something_else_is_refused(
    ca: Authority, directory: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="no name in a certificate"):
        issue(ca, Role.WORKER, name)
    with pytest.raises(ValueError, match="no name in a certificate"):
        authority.create(directory.with_name("other"), cluster=name, now=0)
    assert not (directory / "issued").exists()


def test_a_name_that_is_too_long_for_a_subject_stands_in_the_alternative_names_alone(
    directory: Path,
) -> None:
    # RFC 5280, 4.2.1.6: then they are critical.
    ca = authority.create(directory, cluster="c" * 128, now=time.time())
    path = write(directory / "x", issue(ca, Role.WORKER, "w" * 128)) / "cert.pem"
    text = text_of(path)
    assert "Subject: Subject Public Key" in text
    assert f"Alternative Name: critical URI:spiffe://{'c' * 128}/worker/{'w' * 128}," in text
    openssl("verify", "-x509_strict", "-CAfile", directory / "ca.pem", path)


def test_a_certificate_begins_before_it_was_made_and_ends_with_the_ca_at_last(
    directory: Path,
) -> None:
    now = time.time()
    ca = authority.create(directory, cluster="lab", now=now, days=10)
    short, long = (ca.issue(Role.USER, "ada", days=days, now=now) for days in (3, 11))
    assert (short.ends, long.ends) == (int(now) + 3 * DAY, ca.ends)
    path = write(directory / "x", short) / "cert.pem"
    dates = openssl("x509", "-in", path, "-noout", "-dates", "-dateopt", "iso_8601")
    made = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(int(now) - 300))
    ends = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(short.ends))
    assert dates == f"notBefore={made}\nnotAfter={ends}\n"
    with pytest.raises(Refused, match="expired"):
        ca.issue(Role.USER, "ada", days=1, now=ca.ends)


def test_serials_are_random_and_of_sixteen_octets(ca: Authority, directory: Path) -> None:
    serials = {issue(ca, Role.USER, "ada").serial for _ in range(20)}
    assert len(serials) == 20
    assert {each.bit_length() for each in serials} == {127}
    assert {each.stem for each in (directory / "issued").iterdir()} == {
        format_serial(each) for each in serials
    }


def test_keys_are_private_and_certificates_are_not(ca: Authority, directory: Path) -> None:
    issued = issue(ca, Role.MANAGER, "manager")
    write(directory / "manager", issued)
    layout.write_bundle(directory / "all.pem", issued.credentials)
    layout.write_credentials(directory / "workers" / "w1", issued.credentials)
    for name in (".", "manager", "issued", "workers", "workers/w1"):
        assert mode(directory / name) == 0o700
    for name in ("ca-key.pem", "manager/key.pem", "all.pem"):
        assert mode(directory / name) == 0o600
    for name in ("ca.pem", "manager/ca.pem", "manager/cert.pem"):
        assert mode(directory / name) == 0o644
    keys = [
        each for each in directory.rglob("*") if each.is_file() and "PRIVATE" in each.read_text()
    ]
    assert {each.name for each in keys} == {"ca-key.pem", "key.pem", "all.pem"}


def test_a_key_is_private_before_its_first_byte(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def look(descriptor: int, mode: int) -> None:
        found = os.fstat(descriptor)
        opened.append((stat.S_IMODE(found.st_mode), found.st_size, mode))

    monkeypatch.setattr(os, "fchmod", look)
    ca = authority.create(directory, cluster="lab", now=time.time())
    layout.write_bundle(directory / "all.pem", issue(ca, Role.USER, "ada").credentials)
    assert [each for each in opened if each[2] == 0o600] == [(0o600, 0, 0o600)] * 2
    assert mode(directory / "all.pem") == mode(directory / "ca-key.pem") == 0o600


@pytest.mark.parametrize("kept", ["ca.pem", "ca-key.pem"])
def test_a_ca_that_is_there_is_not_replaced(ca: Authority, directory: Path, kept: str) -> None:
    (other,) = {"ca.pem", "ca-key.pem"} - {kept}
    (directory / other).unlink()
    before = (directory / kept).read_bytes()
    with pytest.raises(Refused, match="already"):
        authority.create(directory, cluster="new", now=time.time())
    assert (directory / kept).read_bytes() == before
    assert not (directory / other).exists()


def test_several_ca_certificates_are_all_handed_on(
    ca: Authority, directory: Path, tmp_path: Path
) -> None:
    authority.create(tmp_path / "new", cluster="lab", now=time.time())
    both = (tmp_path / "new" / "ca.pem").read_bytes() + (directory / "ca.pem").read_bytes()
    (directory / "ca.pem").write_bytes(both)
    issued = issue(authority.load(directory), Role.USER, "ada")
    assert issued.credentials.ca_pem == both
    path = write(directory / "x", issued) / "cert.pem"
    openssl("verify", "-CAfile", directory / "ca.pem", path)


def test_what_is_no_ca_is_told(ca: Authority, directory: Path, tmp_path: Path) -> None:
    def failure(path: Path) -> str:
        with pytest.raises(TitanError) as caught:
            authority.load(path)
        return str(caught.value)

    assert "`titan certs init`" in failure(tmp_path / "nowhere")
    own, key = (directory / "ca.pem").read_bytes(), (directory / "ca-key.pem").read_bytes()
    (directory / "ca-key.pem").write_bytes(key[:50])
    assert "cannot be used" in failure(directory)
    (directory / "ca-key.pem").write_bytes(issue(ca, Role.USER, "ada").credentials.key_pem)
    assert "the key of no certificate" in failure(directory)
    (directory / "ca-key.pem").write_bytes(key)
    (directory / "ca.pem").write_bytes(b"")
    assert "cannot be used" in failure(directory)
    openssl(
        *("req", "-x509", "-key", directory / "ca-key.pem", "-subj", "/CN=other", "-days", "1"),
        *("-out", directory / "ca.pem"),
    )
    assert "which cluster" in failure(directory)
    (directory / "ca.pem").write_bytes(own)
    assert authority.load(directory).cluster == "lab"
