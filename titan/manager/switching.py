"""Who answers the calls of a server, which may become another while it serves.

gRPC takes handlers only before a server is started, and a manager that stands by has begun to
answer long before it leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc


class SwitchingHandlers(grpc.GenericRpcHandler):
    """Put on a server once, before its start."""

    def __init__(self) -> None:
        """Nobody answers until there are some."""
        self._handlers: tuple[grpc.GenericRpcHandler, ...] = ()

    def serve(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """These answer each call that begins from now on. Those under way keep theirs."""
        self._handlers = tuple(handlers)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """As of any; None: there is no such method."""
        for each in self._handlers:
            handler: Any = each.service(handler_call_details)
            if handler is not None:
                return handler
        return None
