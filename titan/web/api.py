"""What all calls under /api/v1 have in common: who makes them, and what becomes of errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp

from titan.errors import AccessDenied, PermissionDenied, TitanError
from titan.logs import LogLine
from titan.rpc.audit import NOBODY, Audit
from titan.tls.identity import Role
from titan.tls.peers import Peers
from titan.web.answers import Answer, Query, refusal, refused
from titan.web.guard import check_origin
from titan.web.viewers import Viewer, Viewers

_log = logging.getLogger("titan.web")

# Where `server.py` leaves the certificate that came with a connection, in PEM.
CERTIFICATE: Final = "certificate"


class Call(NamedTuple):
    """A request of a viewer."""

    request: Request
    query: Query
    viewer: Viewer
    check: Callable[[], object]
    """Raises AccessDenied once he may not look any more; for answers that go on."""


Handler = Callable[[Call], Awaitable[Any]]


class Api:
    """Makes endpoints of handlers, which answer with a value for JSON, or with an ASGI answer."""

    def __init__(
        self,
        viewers: Viewers,
        *,
        cookie_name: str,
        allows_changes: bool,
        peers: Peers | None = None,
    ) -> None:
        self.viewers = viewers
        self.cookie_name = cookie_name
        self.allows_changes = allows_changes
        self._peers = peers
        self._audit = Audit()

    def reads(self, handler: Handler) -> Callable[[Request], Awaitable[Any]]:
        """An endpoint that changes nothing."""

        async def endpoint(request: Request) -> Any:
            return await self._answer(request, handler, changes=False)

        return endpoint

    def changes(self, handler: Handler) -> Callable[[Request], Awaitable[Any]]:
        """An endpoint that changes something, where that is allowed."""

        async def endpoint(request: Request) -> Any:
            return await self._answer(request, handler, changes=True)

        return endpoint

    def viewer_of(self, request: Request) -> Viewer:
        """Who makes it. Raises AccessDenied where nobody has proven that he may look."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind:
            if kind.lower() != "bearer":
                raise AccessDenied("the token goes into `Authorization: Bearer TOKEN`")
            return self.viewers.by_token(token.strip())
        cookie = request.cookies.get(self.cookie_name)
        viewer = self.viewers.by_cookie(cookie) if cookie else None
        viewer = viewer or self._by_certificate(request)
        if viewer is None:
            raise AccessDenied("you are not logged in: open the URL that `titan web` printed")
        return viewer

    def check_change(self, request: Request, viewer: Viewer) -> None:
        """Raises PermissionDenied for a change that the viewer himself does not make."""
        check_origin(request)
        self.viewers.check_csrf(viewer, request.headers.get("x-csrf-token", ""))

    def denied(self, request: Request, error: TitanError) -> Answer:
        """The answer to who may not, of which the log tells, too."""
        try:
            who = self.viewer_of(request).name
        except TitanError:
            who = NOBODY
        peer = request.client.host if request.client else "?"
        what = f"{request.method} {request.url.path}"
        # Each page asks before it is known, and is told to log in.
        if request.headers.get("authorization") or who != NOBODY:
            self._audit.denied(who=who, what=what, peer=peer, why=str(error))
        return refusal(error)

    def _by_certificate(self, request: Request) -> Viewer | None:
        pem = getattr(request.state, CERTIFICATE, None)
        identity = self._peers.identify({"x509_pem_cert": [pem]}) if self._peers and pem else None
        if identity is None:
            return None
        if identity.role not in {Role.USER, Role.ADMIN}:
            raise AccessDenied(f"these pages are for users and admins, and you are {identity}")
        # A browser sends it along with whatever any page asks for, as it does a cookie.
        session = f"certificate {identity}"
        return Viewer(identity.name, identity.role is Role.ADMIN, session)

    async def _answer(self, request: Request, handler: Handler, *, changes: bool) -> ASGIApp:
        try:
            viewer = self.viewer_of(request)
            if changes:
                self.check_change(request, viewer)
                if not self.allows_changes:
                    raise PermissionDenied(
                        "this server only shows: one started with --allow-changes changes things"
                    )
            query = Query(request)
            check = partial(self.viewer_of, request)
            answer = await handler(Call(request, query, viewer, check))
        except (AccessDenied, PermissionDenied) as error:
            return self.denied(request, error)
        except TitanError as error:
            return refusal(error)
        except Exception:  # noqa: BLE001  (answered, and logged)
            _log.exception(LogLine("a request failed", path=request.url.path))
            return refused(500, "INTERNAL", "this server made a mistake; its log tells more")
        return answer if callable(answer) else Answer(answer)
