"""Who may call a worker: whoever can read its token; with certificates its manager and admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import grpc
import grpc.aio

from titan.errors import AccessDenied
from titan.rpc import access, tokens
from titan.rpc.audit import NOBODY, Audit
from titan.tls.identity import Identity, Role

if TYPE_CHECKING:
    from titan.tls.peers import Peers

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

# What whoever has the worker's own certificate may do, on its machine.
_OWN: Final = frozenset({"UpdateWorker"})
_NO_TOKEN: Final = f"{access.no_token_text('worker')}; send it as {access.METADATA_KEY}"


class Callers(Protocol):
    """Lets calls in, or gives them their status."""

    def lets_in(self, method: str, context: Context) -> bool:
        """Whether the request of that call is to be read; if not the call has its status."""

    def lets_in_open(self, method: str, context: Context) -> bool:
        """The same for gRPC's own services."""


class TokenCallers:
    """Whoever has the token of the worker's access file."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._audit = Audit()

    def lets_in(self, method: str, context: Context) -> bool:
        """Whether it carries the token; the log tells of others."""
        if tokens.is_granted(context.invocation_metadata(), self._token):
            return True
        self._audit.denied(who=NOBODY, what=method, peer=context.peer(), why=_NO_TOKEN)
        _refuse(context, grpc.StatusCode.UNAUTHENTICATED, _NO_TOKEN)
        return False

    def lets_in_open(self, method: str, context: Context) -> bool:
        """They are anybody's who can connect."""
        return True


class TlsCallers:
    """The manager and admins, and for some calls whoever has the worker's own certificate."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._audit = Audit()

    def lets_in(self, method: str, context: Context) -> bool:
        """Whether it is one of them; the log tells of others."""
        identity = self._identify(method, context)
        if identity is None:
            return False
        if identity.role in (Role.MANAGER, Role.ADMIN):
            return True
        if method in _OWN and identity == self._peers.own:
            return True
        why = f"a worker is called by its manager and by admins, and you are {identity}"
        self._audit.denied(who=str(identity), what=method, peer=context.peer(), why=why)
        _refuse(context, grpc.StatusCode.PERMISSION_DENIED, why)
        return False

    def lets_in_open(self, method: str, context: Context) -> bool:
        """They are for whoever has a certificate that counts."""
        return self._identify(method, context) is not None

    def _identify(self, method: str, context: Context) -> Identity | None:
        try:
            identity = self._peers.identify(context.auth_context())
            if identity is None:
                raise AccessDenied("the call carries no certificate")
        except AccessDenied as error:
            self._audit.denied(who=NOBODY, what=method, peer=context.peer(), why=str(error))
            _refuse(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
            return None
        return identity


def _refuse(context: Context, status: grpc.StatusCode, why: str) -> None:
    context.set_code(status)
    context.set_details(why)
