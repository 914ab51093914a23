"""Who comes in, and how the others are sent away: the same whether a manager leads or stands by.

What is refused before it is known who calls depends on nothing that a manager knows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import grpc
import grpc.aio

from titan.errors import AccessDenied, PermissionDenied, TitanError
from titan.manager import caller, permissions
from titan.manager.caller import NOBODY
from titan.manager.callers import Callers
from titan.metrics.calls import Calls
from titan.rpc.audit import Audit
from titan.rpc.status import status_of, trailers_of

Context = grpc.aio.ServicerContext[Any, Any]

# A sentence goes in a header, of which peers take 8 KiB, and a byte takes three there if it isn't
# ASCII. It may repeat what it is about, which may have had 16 MiB.
DETAILS_BYTES_MAX: Final = 2_500
_UNMEASURED: Final = nullcontext()


class Entry:
    """Of one server."""

    def __init__(
        self, callers: Callers, audit: Audit | None = None, calls: Calls | None = None
    ) -> None:
        """`calls` counts them, if somebody is to."""
        self._callers = callers
        self._audit = audit or Audit()
        self._calls = calls

    @property
    def is_lasting(self) -> bool:
        """Whether who may call once may do so as long as the manager runs."""
        return self._callers.are_open

    def identify(self, context: Context) -> object:
        """Raises AccessDenied once the caller is nobody any more."""
        return self._callers.identify(context)

    def let_in(self, method: str, context: Context) -> None:
        """Finds out who calls, and enters it. Raises AccessDenied, PermissionDenied."""
        # What is refused before it is known who calls is nobody's.
        caller.enter(NOBODY)
        who = self._callers.identify(context)
        caller.enter(who)
        permissions.check_method(method, who)

    def lets_in(self, method: str, context: Context) -> bool:
        """Whether he may make that call; if not it has its status, and counts as one made."""
        try:
            self.let_in(method, context)
        except TitanError as error:
            self.send_away(method, context, error)
            return False
        return True

    def lets_in_open(self, service: str, context: Context) -> bool:
        """The same for gRPC's own services, which may be anybody's."""
        return self._callers.are_open or self.lets_in(service, context)

    def whose(self, context: Context) -> str:
        """Whose call it is that was let in: over how many connections does not count, if proven."""
        who = caller.current()
        return str(who) if who.is_proven else context.peer()

    def measure(self, method: str, context: Context) -> AbstractContextManager[object]:
        """Counts the call that is made within."""
        return _UNMEASURED if self._calls is None else self._calls.measure(method, context)

    def send_away(self, method: str, context: Context, error: TitanError) -> None:
        """Refuses a call that is not measured."""
        self.refuse(method, context, error)
        if self._calls is not None:
            self._calls.note(method, status_of(error).name)

    def refuse(self, method: str, context: Context, error: TitanError) -> Any:
        """What a handler returns that refuses.

        Not by `abort`: the exception that it raises is kept with the call, and keeps the call's
        frame with all that is in it, a circle that nobody but the garbage collector breaks.
        """
        if isinstance(error, AccessDenied | PermissionDenied):
            who = str(caller.current())
            self._audit.denied(who=who, what=method, peer=context.peer(), why=str(error))
        context.set_code(status_of(error))
        context.set_details(_fitting(str(error)))
        context.set_trailing_metadata(trailers_of(error))
        return None


def _fitting(sentence: str) -> str:
    data = sentence.encode()
    if len(data) <= DETAILS_BYTES_MAX:
        return sentence
    return data[:DETAILS_BYTES_MAX].decode(errors="ignore") + "…"
