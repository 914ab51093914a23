"""Whom a manager takes who calls for: by his certificate, or by a token that it can believe."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from tests.security.people import People
from titan.certs import layout
from titan.errors import AccessDenied
from titan.manager.tls_callers import TlsCallers
from titan.rpc import access
from titan.tls.identity import Identity, Role
from titan.tls.peers import open_peers


class Call:
    """With that certificate and that token."""

    def __init__(self, certificate: bytes = b"", token: str = "") -> None:
        self._certificate = certificate
        self._token = token

    def auth_context(self) -> dict[str, Any]:
        return {"x509_pem_cert": [self._certificate]} if self._certificate else {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return access.user_token_metadata(self._token) if self._token else ()


@pytest.fixture
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("callers") / "tls")


def identify(callers: TlsCallers, call: Call) -> Identity | None:
    return callers.identify(cast(Any, call)).identity


def manager(people: People) -> TlsCallers:
    return TlsCallers(open_peers(people.issue(Role.MANAGER, "manager"), Role.MANAGER))


def test_a_certificate_comes_before_a_token(people: People) -> None:
    callers = manager(people)
    bob = (people.issue(Role.USER, "bob") / "cert.pem").read_bytes()
    token = people.token("root", is_admin=True)
    assert identify(callers, Call(bob, token)) == Identity("lab", Role.USER, "bob")
    assert identify(callers, Call(b"", token)) == Identity("lab", Role.ADMIN, "root")
    # One that does not count is not made up for.
    people.revoke("bob")
    with pytest.raises(AccessDenied, match="user bob was revoked"):
        identify(callers, Call(bob, token))


@pytest.mark.parametrize("token", ["", "x", "root.0123456789ab.x", "..", "a.b.c\ud800"])
def test_who_shows_nothing_that_counts_is_nobody(people: People, token: str) -> None:
    people.token("root", is_admin=True)
    with pytest.raises(AccessDenied):
        identify(manager(people), Call(token=token))


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_tokens_count_only_where_not_everybody_can_write(
    people: People, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    token = people.token("mallory", is_admin=True)
    assert identify(manager(people), Call(token=token)) is not None
    people.directory.chmod(mode)
    with pytest.raises(AccessDenied):
        identify(manager(people), Call(token=token))
    assert caplog.messages == []

    # A bundle lies among whatever is there.
    issued = people.authority.issue(Role.MANAGER, "manager", days=1, now=time.time())
    path = people.directory / "manager.pem"
    layout.write_bundle(path, issued.credentials)
    with pytest.raises(AccessDenied):
        identify(TlsCallers(open_peers(path, Role.MANAGER)), Call(token=token))
    assert caplog.messages == [
        "everybody can write where the certificate is: tokens there do not count "
        f"folder={people.directory}"
    ]
