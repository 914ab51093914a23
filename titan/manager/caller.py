"""Who a handler works for. The gate says it before it calls a handler, in its context."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple

from titan.rpc import audit
from titan.tls.identity import Identity, Role


class Caller(NamedTuple):
    """Whoever calls.

    Without an identity it is somebody with the access token, who may do everything, or before that
    is known nobody, who may do nothing.
    """

    identity: Identity | None = None
    is_known: bool = True

    @property
    def is_proven(self) -> bool:
        """Whether his name is proven, and not just what he says."""
        return self.identity is not None

    @property
    def is_admin(self) -> bool:
        """Whether he may do what he likes, with everybody's jobs."""
        if self.identity is None:
            return self.is_known
        return self.identity.role is Role.ADMIN

    def __str__(self) -> str:
        if self.identity is None:
            return "the owner of the access token" if self.is_known else audit.NOBODY
        return str(self.identity)


ANYBODY: Final = Caller()
NOBODY: Final = Caller(is_known=False)
_CURRENT: Final[ContextVar[Caller]] = ContextVar("caller", default=NOBODY)


def current() -> Caller:
    """Who the handler that runs now works for."""
    return _CURRENT.get()


def enter(caller: Caller) -> None:
    """The handlers that this task calls from now on work for him."""
    _CURRENT.set(caller)
