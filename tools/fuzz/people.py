"""Certificates and tokens of a run with `--tls`: of the servers, and of whoever attacks them."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Final

import grpc

from titan.certs import authority, layout
from titan.tls import user_tokens
from titan.tls.identity import Role, worker_host
from titan.tls.user_tokens import TokenFile
from tools.fuzz.seeds import FUZZ_WORKER, USER, WORKER
from tools.fuzz.target import Target

MANAGER: Final = "manager"
HONEST: Final = "honest"
STRANGER: Final = "stranger"
ADMIN: Final = "admin"
_HOSTS: Final = ("localhost", "127.0.0.1")
_DAY_SECONDS: Final = 86_400.0


class People:
    """A CA in a directory, and a folder for each whom it has issued a certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        now = time.time()
        ca = authority.create(directory, cluster="fuzz", now=now)
        for role, name in (
            (Role.MANAGER, MANAGER), (Role.WORKER, WORKER), (Role.WORKER, FUZZ_WORKER),
            (Role.USER, USER), (Role.USER, HONEST), (Role.ADMIN, ADMIN),
        ):  # fmt: skip
            hosts = _HOSTS if role is Role.MANAGER else ()
            issued = ca.issue(role, name, days=1, now=now, hosts=hosts)
            layout.write_credentials(self.folder(name), issued.credentials)
        strangers = authority.create(directory / "strangers", cluster="fuzz", now=now)
        issued = strangers.issue(Role.ADMIN, ADMIN, days=1, now=now)
        layout.write_credentials(self.folder(STRANGER), issued.credentials)
        self._token, entry = user_tokens.draw(
            USER, is_admin=False, expires_at=now + _DAY_SECONDS, now=now
        )
        TokenFile(self.folder(MANAGER) / user_tokens.FILE_NAME).add(entry)

    def folder(self, name: str) -> Path:
        """Where the certificate of that one is."""
        return self.directory / name

    def options(self, name: str) -> tuple[str, str]:
        """What a server is started with."""
        return "--tls-dir", str(self.folder(name))

    def targets(self, manager: str, tokens: str, worker: str) -> tuple[Target, ...]:
        """The addresses, each by those who attack it."""
        host = "127.0.0.1"
        at_worker = worker_host(WORKER)
        return (
            self._target("manager", "by a user", manager, host, USER),
            self._target("manager", "by a worker", manager, host, FUZZ_WORKER),
            self._target("manager", "by a token", tokens, host, token=self._token),
            self._target("manager", "by nobody", tokens, host),
            self._target("worker", "by a user", worker, at_worker, USER),
            # Of all that a worker lets in, the only one beside its manager.
            self._target("worker", "by an admin", worker, at_worker, ADMIN),
        )

    def _target(
        self, name: str, who: str, address: str, host: str, certificate: str = "", token: str = ""
    ) -> Target:
        folder = self.folder(certificate) if certificate else None
        credentials = grpc.ssl_channel_credentials(
            (self.directory / layout.CA).read_bytes(),
            (folder / layout.KEY).read_bytes() if folder else None,
            (folder / layout.CERTIFICATE).read_bytes() if folder else None,
        )
        return Target(
            name=name, who=who, address=address, host=host, token=token,
            credentials=credentials, tls=self.context(certificate), folder=folder,
            strangers=(self.context(), self.context(STRANGER)),
        )  # fmt: skip

    def context(self, certificate: str = "") -> ssl.SSLContext:
        """For raw connections, with that one's certificate or none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(self.directory / layout.CA)
        if certificate:
            folder = self.folder(certificate)
            context.load_cert_chain(folder / layout.CERTIFICATE, folder / layout.KEY)
        return context
