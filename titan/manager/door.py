"""Where the manager is called, and how those who may call find what lets them in.

Nothing is served here: `main.py` says when what is opened begins to answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc.aio

from titan.logs import LogLine
from titan.manager.callers import Callers, TokenCallers
from titan.manager.options import ManagerOptions
from titan.manager.recovery import StartRefused
from titan.metrics.server import MetricsServer
from titan.rpc import access, tokens
from titan.rpc.channel import (
    check_loopback,
    is_loopback,
    join_address,
    new_aio_server,
    server_credentials,
    split_address,
)
from titan.tls.identity import Role

if TYPE_CHECKING:
    from titan.tls.peers import Peers

_log = logging.getLogger("titan.manager")

TOKEN_RETRY_SECONDS: Final = 1.0
INSECURITY_SECONDS: Final = 3600.0


class Door(NamedTuple):
    """Where the manager is called."""

    server: grpc.aio.Server
    address: str
    peers: Peers | None
    metrics: MetricsServer | None


def open_door(options: ManagerOptions) -> Door:
    """Holds the ports and does not serve yet."""
    peers: Peers | None = None
    try:
        if options.tls_path is not None:
            # What this loads is an extra of the package.
            from titan.tls.peers import open_peers  # noqa: PLC0415

            peers = open_peers(options.tls_path, Role.MANAGER)
        elif not options.is_insecure:
            check_loopback(options.listen)
    except ValueError as error:
        raise StartRefused(str(error)) from error
    server = new_aio_server(is_bounded=True)
    address = _bind(server, options.listen, peers, asks_certificate=True)
    if options.token_listen is not None:
        if peers is None:
            raise StartRefused("--token-listen needs certificates: tokens go over TLS only")
        at = _bind(server, options.token_listen, peers, asks_certificate=False)
        _log.info(LogLine("users with a token may call", address=at))
    return Door(server, address, peers, _open_metrics(options, peers))


def _open_metrics(options: ManagerOptions, peers: Peers | None) -> MetricsServer | None:
    if options.metrics_listen is None:
        return None
    try:
        return MetricsServer(options.metrics_listen, peers=peers, is_insecure=options.is_insecure)
    except ValueError as error:
        raise StartRefused(str(error)) from error


def _bind(
    server: grpc.aio.Server, listen: str, peers: Peers | None, *, asks_certificate: bool
) -> str:
    """Takes the port; returns the address."""
    host, wanted = split_address(listen)
    try:
        # gRPC would write lines of its own to stderr before it says no.
        _try_to_bind(host, wanted)
        if peers is None:
            port = server.add_insecure_port(listen)
        else:
            credentials = server_credentials(
                peers.files, peers.look, asks_certificate=asks_certificate
            )
            port = server.add_secure_port(listen, credentials)
    except (RuntimeError, OSError) as error:
        raise StartRefused(
            f"{listen} cannot be listened on: {error}; is another manager running there? "
            "choose another with --listen HOST:PORT"
        ) from error
    return join_address(host, port)


def _try_to_bind(host: str, port: int) -> None:
    """Raises OSError with the system's reason when the port cannot be had."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        # As gRPC does: connections that linger from before are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def let_in(
    directory: Path,
    address: str,
    peers: Peers | None,
    helpers: list[Coroutine[Any, Any, None]],
) -> Callers:
    """Who tells who calls; what has to be done beside is added to the helpers."""
    if peers is not None:
        from titan.manager.tls_callers import TlsCallers  # noqa: PLC0415 - as above

        _forget_token(directory, address)
        helpers.append(peers.keep_looking())
        return TlsCallers(peers)
    token = tokens.keep_or_draw_token(directory)
    # Whoever comes in the moment that the server answers finds the token already.
    if not _try_to_leave_token(directory, address, token):
        helpers.append(_leave_token(directory, address, token))
    if not is_loopback(address):
        helpers.append(_warn_of_insecurity(address))
    return TokenCallers(token)


def _try_to_leave_token(directory: Path, address: str, token: str) -> bool:
    """Whether those who may call find the token now; a full disk is no reason not to serve."""
    try:
        access.write_token(directory, address, token)
    except OSError as error:
        _log.warning("the access token was not written and will be tried again: %s", error)
        return False
    return True


async def _leave_token(directory: Path, address: str, token: str) -> None:
    """Tries until it is done."""
    is_left = False
    while not is_left:
        await asyncio.sleep(TOKEN_RETRY_SECONDS)
        is_left = await asyncio.to_thread(_try_to_leave_token, directory, address, token)
    _log.info("the access token is written now")


def _forget_token(directory: Path, address: str) -> None:
    try:
        access.forget_token(directory, address)
    except OSError as error:
        _log.warning("the access token from before was not removed: %s", error)


async def _warn_of_insecurity(address: str) -> None:
    while True:
        _log.warning(
            LogLine(
                "other machines can reach the manager and nothing is encrypted: whoever listens on "
                "the network owns every worker; `titan certs init` makes certificates",
                address=address,
            )
        )
        await asyncio.sleep(INSECURITY_SECONDS)
