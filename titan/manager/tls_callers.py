"""Finds out who calls a manager that has certificates: by his own, or by a user's token."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

import grpc.aio

from titan.errors import AccessDenied
from titan.logs import LogLine
from titan.manager.caller import Caller
from titan.rpc import access
from titan.tls.identity import Identity, Role
from titan.tls.peers import Peers
from titan.tls.user_tokens import FILE_NAME, TokenFile

_log = logging.getLogger("titan.tls")


class TlsCallers:
    """Reads who it is off the certificate, or looks the token up."""

    are_open = False

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        if peers.files.folder not in peers.files.folders:
            _log.warning(
                LogLine(
                    "everybody can write where the certificate is: tokens there do not count",
                    folder=peers.files.folder,
                )
            )
        self._token_files = [TokenFile(each / FILE_NAME) for each in peers.files.folders]

    def identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Raises AccessDenied."""
        identity = self.peers.identify(context.auth_context())
        if identity is None:
            identity = self._identify_by_token(context.invocation_metadata())
        return Caller(identity)

    def _identify_by_token(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> Identity:
        text = access.user_token_in(metadata)
        if not text:
            raise AccessDenied(
                "the call carries no token: this address is for who has a token, and asks for no "
                "certificate"
            )
        now = time.time()
        entry = next(filter(None, (each.verify(text, now) for each in self._token_files)), None)
        if entry is None:
            raise AccessDenied("the token is not known, or it was revoked, or has expired")
        role = Role.ADMIN if entry.is_admin else Role.USER
        return Identity(self.peers.own.cluster, role, entry.user)
