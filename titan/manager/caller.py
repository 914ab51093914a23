"""Who a handler works for. The gate says it before it calls a handler, in its context."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple

from titan.rpc.identity import Identity, Role


class Caller(NamedTuple):
    """Whoever calls; without an identity somebody with the access token, who may do everything."""

    identity: Identity | None = None

    @property
    def is_proven(self) -> bool:
        """Whether his name is proven, and not just what he says."""
        return self.identity is not None

    @property
    def is_admin(self) -> bool:
        """Whether he may do what he likes, with everybody's jobs."""
        return self.identity is None or self.identity.role is Role.ADMIN


ANYBODY: Final = Caller()
_CURRENT: Final[ContextVar[Caller]] = ContextVar("caller", default=ANYBODY)


def current() -> Caller:
    """Who the handler that runs now works for."""
    return _CURRENT.get()


def enter(caller: Caller) -> None:
    """The handlers that this task calls from now on work for him."""
    _CURRENT.set(caller)
