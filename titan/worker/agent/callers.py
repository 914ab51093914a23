"""Who may call a worker: whoever can read its token; with certificates its manager and admins."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio

from titan.errors import AccessDenied
from titan.rpc import access, tokens
from titan.rpc.identity import Role

if TYPE_CHECKING:
    from titan.rpc.peers import Peers

_log = logging.getLogger("titan.audit")


class Callers(Protocol):
    """Lets calls in, or ends them."""

    async def check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Aborts the call of who may not make it."""


class TokenCallers:
    """Whoever has the token of the worker's access file."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Aborts the call of who may not make it."""
        if not tokens.is_granted(context.invocation_metadata(), self._token):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                f"{access.no_token_text('worker')}; send it as {access.METADATA_KEY}",
            )


class TlsCallers:
    """The manager, admins, and whoever has the worker's own certificate, on its machine."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Aborts the call of who may not make it, which the log tells."""
        try:
            identity = self._peers.identify(context.auth_context())
        except AccessDenied as error:
            await self._deny(context, "nobody known", grpc.StatusCode.UNAUTHENTICATED, str(error))
            return
        if identity is None:
            await self._deny(
                context, "nobody known", grpc.StatusCode.UNAUTHENTICATED, "no certificate"
            )
        elif identity != self._peers.own and identity.role not in (Role.MANAGER, Role.ADMIN):
            await self._deny(
                context,
                str(identity),
                grpc.StatusCode.PERMISSION_DENIED,
                f"a worker is called by its manager and by admins, and you are {identity}",
            )

    async def _deny(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        who: str,
        status: grpc.StatusCode,
        why: str,
    ) -> None:
        _log.warning("denied who=%r what=TaskService from=%s why=%r", who, context.peer(), why)
        await context.abort(status, why)
