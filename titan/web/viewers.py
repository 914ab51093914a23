"""Who looks, and what he may do.

A program brings the token with each call, a browser once: then it has a cookie, which nobody can
make without the token, and which counts for a week. With certificates a viewer may show his own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from titan import paths
from titan.errors import AccessDenied, PermissionDenied
from titan.rpc.tokens import new_token

SESSION_SECONDS: Final = 7 * 86_400.0
# Sessions that were ended before their time; the oldest are forgotten.
ENDED_MAX: Final = 10_000
# More is no token of ours, and not worth a hash.
TOKEN_LENGTH_MAX: Final = 1_000


class Viewer(NamedTuple):
    """Somebody who proved who he is."""

    name: str
    is_admin: bool
    """Whether he may do whatever this server may at the manager."""
    session: str = ""
    """Of a browser: which of its sessions. Empty: each call proves it by itself."""

    def check_owns(self, user: str, job_id: int) -> None:
        """Raises PermissionDenied unless he may have to do with that user's job."""
        if not self.is_admin and user != self.name:
            raise PermissionDenied(f"job {job_id} is {user}'s, and you are user {self.name}")

    def check_admin(self, what: str) -> None:
        """Raises PermissionDenied unless he is one."""
        if not self.is_admin:
            raise PermissionDenied(f"{what} is for admins, and you are user {self.name}")


class Viewers:
    """Tells who looks by token or cookie."""

    def __init__(self, token: str, name: str, *, now: Callable[[], float] = time.time) -> None:
        """`name` is who has the token: this server's own user, who may do all that it may."""
        self._token = token.encode()
        # Whoever has a cookie can't find the token by it.
        self._key = hashlib.sha256(b"titan web sessions\0" + self._token).digest()
        self._name = name
        self._now = now
        self._ended: OrderedDict[str, None] = OrderedDict()

    def by_token(self, token: str) -> Viewer:
        """Who has that token. Raises AccessDenied."""
        given = token.encode(errors="replace")
        if len(given) > TOKEN_LENGTH_MAX or not hmac.compare_digest(given, self._token):
            raise AccessDenied("that is not the token of this server: `titan web` prints it")
        return Viewer(self._name, is_admin=True)

    def begin_session(self) -> str:
        """A cookie for who has shown the token."""
        session = f"{secrets.token_urlsafe(16)}.{int(self._now() + SESSION_SECONDS)}"
        return f"{session}.{self._sign('session', session)}"

    def by_cookie(self, cookie: str) -> Viewer | None:
        """Whose cookie it is; None: nobody's, or nobody's any more."""
        session, _, signature = cookie.rpartition(".")
        if len(cookie) > TOKEN_LENGTH_MAX or not self._is_signed("session", session, signature):
            return None
        _, _, end = session.rpartition(".")
        if not end.isdecimal() or int(end) < self._now() or session in self._ended:
            return None
        return Viewer(self._name, is_admin=True, session=session)

    def end_session(self, viewer: Viewer) -> None:
        """His cookie counts no more."""
        if viewer.session:
            self._ended[viewer.session] = None
            while len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)

    def csrf(self, viewer: Viewer) -> str:
        """What changes made by his cookie have to carry; empty: they need nothing."""
        return self._sign("csrf", viewer.session) if viewer.session else ""

    def check_csrf(self, viewer: Viewer, given: str) -> None:
        """Raises PermissionDenied for a change that a page of ours did not ask for."""
        if viewer.session and not self._is_signed("csrf", viewer.session, given):
            raise PermissionDenied(
                "the header X-CSRF-Token is missing or not that of this session, which "
                "GET /api/v1/session tells"
            )

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}\0{text}".encode(), hashlib.sha256).hexdigest()

    def _is_signed(self, what: str, text: str, signature: str) -> bool:
        wanted = self._sign(what, text).encode()
        return hmac.compare_digest(signature.encode(errors="replace"), wanted)


def token_file(address: str) -> Path:
    """Where the token of the server that listens at HOST:PORT is."""
    name = address.replace("/", "_").replace("[", "").replace("]", "")
    return paths.state_directory() / "web" / f"{name}.json"


def keep_or_draw_token(address: str, url: str) -> str:
    """The token of the server at that address, so that a restart ends no session; else a new one.

    It and the server's URL stand in a file of this user's only. Raises OSError.
    """
    file = token_file(address)
    try:
        found = (paths.read_json(file) or {}).get("token")
    except (OSError, ValueError):
        found = None
    token = found if isinstance(found, str) and len(found) >= 32 else new_token()
    paths.make_private_directory(file.parent)
    paths.write_json(file, {"url": url, "token": token}, mode=0o600)
    return token
