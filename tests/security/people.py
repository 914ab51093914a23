"""Certificates and tokens of everybody who calls in these tests, right ones and wrong ones."""

from __future__ import annotations

import time
from pathlib import Path

from titan.certs import authority, layout
from titan.certs.issued import revoke
from titan.tls import user_tokens
from titan.tls.identity import Role
from titan.tls.user_tokens import TokenFile

DAY_SECONDS = 86_400
HOSTS = ("localhost", "127.0.0.1")


class People:
    """A CA in a directory, and those whom it has issued certificates, each in a folder."""

    def __init__(self, directory: Path, cluster: str = "lab") -> None:
        self.directory = directory
        self.authority = authority.create(directory, cluster=cluster, now=time.time())

    def issue(self, role: Role, name: str, folder: str = "", *, ago: float = 0) -> Path:
        """A certificate for a day that began so many seconds ago; the folder it is in."""
        issued = self.authority.issue(
            role, name, days=1, now=time.time() - ago, hosts=HOSTS if role is Role.MANAGER else ()
        )
        path = self.directory / (folder or name)
        layout.write_credentials(path, issued.credentials)
        return path

    def revoke(self, name: str) -> None:
        """All certificates of that name, or the one in that file."""
        revoke(self.directory, [name], time.time())

    def token(self, user: str, *, is_admin: bool = False, seconds: float = DAY_SECONDS) -> str:
        """A token that is known."""
        now = time.time()
        text, entry = user_tokens.draw(user, is_admin=is_admin, expires_at=now + seconds, now=now)
        self.tokens.add(entry)
        return text

    @property
    def tokens(self) -> TokenFile:
        """All that are known."""
        return TokenFile(self.directory / "tokens.json")
