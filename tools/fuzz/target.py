"""A server that is attacked, and how it is called by whoever attacks it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from titan.rpc import access
from titan.rpc.channel import CLIENT_OPTIONS, split_address

# A server that does not answer the end of TLS is not waited for.
_BYE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that is attacked."""

    name: str
    """Which of the servers it is."""
    address: str
    token: str = ""
    who: str = ""
    """By whose certificate or token it is attacked, where there are several."""
    host: str = ""
    """Of its certificate."""
    credentials: grpc.ChannelCredentials | None = None
    tls: ssl.SSLContext | None = None
    """The same for raw connections, which then speak within TLS."""
    folder: Path | None = None
    """Where the certificate is."""
    strangers: tuple[ssl.SSLContext, ...] = ()
    """Of those whose certificates it is not to take."""

    @property
    def title(self) -> str:
        """What it is called in what is told."""
        return f"{self.name} {self.who}".rstrip()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries."""
        return self.metadata_of(self.token)

    def metadata_of(self, token: str) -> tuple[tuple[str, str], ...]:
        """The same with another token."""
        if self.credentials is None:
            return access.metadata(token)
        return access.user_token_metadata(token) if token else ()


def open_channel(target: Target) -> grpc.aio.Channel:
    """A channel for calls; each has its own connection."""
    if target.credentials is None:
        return grpc.aio.insecure_channel(target.address, options=CLIENT_OPTIONS)
    options = [*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", target.host)]
    return grpc.aio.secure_channel(target.address, target.credentials, options=options)


async def connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection. Raises OSError."""
    host, port = split_address(target.address)
    if target.tls is None:
        return await asyncio.open_connection(host, port)
    return await asyncio.open_connection(
        host, port, ssl=target.tls, server_hostname=target.host, ssl_shutdown_timeout=_BYE_SECONDS
    )
