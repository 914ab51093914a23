"""Finds out who calls a manager that has no certificates; `tls_callers.py`: of one that has."""

from __future__ import annotations

from typing import Any, Final, Protocol

import grpc.aio

from titan.errors import AccessDenied
from titan.manager.caller import ANYBODY, Caller
from titan.rpc import access, tokens

_NO_TOKEN: Final = f"{access.no_token_text('manager')}, or name it with --access FILE"


class Callers(Protocol):
    """What the gate asks."""

    are_open: bool
    """Whether health and reflection are anybody's who can connect."""

    def identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Who calls. Raises AccessDenied."""


class TokenCallers:
    """Whoever has the access token may do everything."""

    are_open = True

    def __init__(self, token: str) -> None:
        self._token = token

    def identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Raises AccessDenied."""
        if not tokens.is_granted(context.invocation_metadata(), self._token):
            raise AccessDenied(_NO_TOKEN)
        return ANYBODY
