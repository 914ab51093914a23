"""Who may call a worker: whoever can read its token; with certificates its manager and admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import grpc
import grpc.aio

from titan.errors import AccessDenied
from titan.rpc import access, tokens
from titan.rpc.audit import NOBODY, Audit
from titan.rpc.identity import Identity, Role

if TYPE_CHECKING:
    from titan.rpc.peers import Peers

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Callers(Protocol):
    """Lets calls in, or ends them."""

    async def check(self, method: str, context: Context, *, is_own: bool = False) -> None:
        """Aborts the call of who may not make it. `is_own`: the worker may make it itself."""

    async def guard(self, service: str, context: Context) -> bool:
        """The same for one of gRPC's own services."""


class TokenCallers:
    """Whoever has the token of the worker's access file."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._audit = Audit()

    async def check(self, method: str, context: Context, *, is_own: bool = False) -> None:
        """Aborts the call of who may not make it, which the log tells."""
        if not tokens.is_granted(context.invocation_metadata(), self._token):
            why = f"{access.no_token_text('worker')}; send it as {access.METADATA_KEY}"
            self._audit.denied(who=NOBODY, what=method, peer=context.peer(), why=why)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, why)

    async def guard(self, service: str, context: Context) -> bool:
        """They are anybody's who can connect."""
        return True


class TlsCallers:
    """The manager and admins; for some calls whoever has the worker's own certificate, too."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._audit = Audit()

    async def check(self, method: str, context: Context, *, is_own: bool = False) -> None:
        """Aborts the call of who may not make it, which the log tells."""
        identity = await self._identify(method, context)
        if identity.role in (Role.MANAGER, Role.ADMIN) or (is_own and identity == self._peers.own):
            return
        why = f"a worker is called by its manager and by admins, and you are {identity}"
        self._audit.denied(who=str(identity), what=method, peer=context.peer(), why=why)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)

    async def guard(self, service: str, context: Context) -> bool:
        """They are for whoever has a certificate that counts."""
        await self._identify(service, context)
        return True

    async def _identify(self, method: str, context: Context) -> Identity:
        try:
            identity = self._peers.identify(context.auth_context())
            if identity is None:
                raise AccessDenied("the call carries no certificate")
        except AccessDenied as error:
            self._audit.denied(who=NOBODY, what=method, peer=context.peer(), why=str(error))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            raise
        return identity
