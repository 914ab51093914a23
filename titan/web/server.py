"""The process: a port, certificates where it is not on loopback, and an end within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from titan import logs
from titan.client.aio_session import AioSession
from titan.client.connection import Credentials, os_user
from titan.errors import InvalidJob, Refused
from titan.logs import LogLine
from titan.rpc.addresses import split_addresses
from titan.rpc.channel import is_loopback, join_address, split_address
from titan.rpc.security import find_files, own_path
from titan.tls.certificate import read_certificate
from titan.tls.identity import Role
from titan.tls.peers import Peers, open_peers
from titan.tls.pem import Pems, TlsError
from titan.web.api import CERTIFICATE
from titan.web.app import Terms, make_app
from titan.web.guard import allowed_hosts
from titan.web.live import Live
from titan.web.viewers import keep_or_draw_token

_log = logging.getLogger("titan.web")

# A page that asks while the manager is away is told so after that; it is asked again.
RETRY_FOR_SECONDS: Final = 5.0
# What is under way when it is to end has so long.
GRACE_SECONDS: Final = 2
CONNECTIONS_MAX: Final = 1_000
# As Titan's other servers: from the connection, or the first byte, to the end of a request's head.
SILENT_SECONDS: Final = 20.0
_BACKLOG: Final = 256
_LOOK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """What `titan web` is given."""

    listen: str
    manager: str
    credentials: Credentials
    allows_changes: bool
    log_level: str
    log_format: str = "text"


def run_web(options: WebOptions, tell: Callable[[str], None]) -> int:
    """Serves until SIGTERM or SIGINT; the exit code. `tell` is told how to log in.

    Raises Refused, InvalidJob, OSError.
    """
    logs.set_up(options.log_level, options.log_format)
    for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        # What it says of its own start and end is said here.
        logging.getLogger(name).setLevel(logging.WARNING)
    peers = None if is_loopback(options.listen) else _open_peers(options)
    with listen(options.listen) as listener:
        address = address_of(listener)
        url = url_of(options.listen, address, is_secure=peers is not None)
        token = keep_or_draw_token(address, url)
        own_name, is_proven = _own_name(options)
        host, port = split_address(address)
        terms = Terms(
            token,
            own_name,
            is_proven,
            allows_changes=options.allows_changes,
            hosts=None if peers is not None else allowed_hosts(host),
            peers=peers,
            # Cookies are the same for all ports of a host.
            cookie_name=f"titan_{port}",
        )
        asyncio.run(_serve(options, terms, listener, url, tell))
    return 0


def listen(address: str) -> socket.socket:
    """A port that is listened on. Raises Refused."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Refused(
                f"{address} is in use by another program; choose another port with --listen"
            ) from error
        raise Refused(f"{address} can't be listened on: {error.strerror or error}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """HOST:PORT."""
    host, port = listener.getsockname()[:2]
    return join_address(host, port)


def url_of(given: str, address: str, *, is_secure: bool) -> str:
    """Where a browser finds it: by the name that was given, for which its certificate is."""
    host, _, _ = given.rpartition(":")
    if host.strip("[]") in {"0.0.0.0", "::"}:
        host = socket.gethostname()
    return f"http{'s' if is_secure else ''}://{host}:{address.rpartition(':')[2]}"


def _open_peers(options: WebOptions) -> Peers:
    """The certificate that it shows, and by what it knows those of others. Raises InvalidJob."""
    path = own_path(options.credentials.tls_dir, Role.MANAGER)
    if path is None:
        raise InvalidJob(
            f"{options.listen} can be reached from other machines: name a directory with a "
            "server's certificate by --tls-dir (`titan certs issue manager NAME --host HOST`), or "
            "listen on loopback, and reach it through `ssh -L 8080:127.0.0.1:8080`"
        )
    try:
        return open_peers(path, Role.MANAGER)
    except TlsError as error:
        raise InvalidJob(str(error)) from error


def _own_name(options: WebOptions) -> tuple[str, bool]:
    """Whom the manager takes this process for, and whether by its certificate."""
    given = options.credentials
    found = (
        find_files(
            address,
            Role.USER,
            tls_dir=given.tls_dir,
            access_file=given.access_file,
            has_token=bool(given.token or os.environ.get("TITAN_TOKEN")),
            is_insecure=given.is_insecure,
        )
        for address in split_addresses(options.manager)
    )
    files = next(filter(None, found), None)
    if files is None:
        return os_user(), False
    identity = read_certificate(files.pems.chain).identity if files.pems.chain else None
    return (identity.name if identity else os_user()), True


class _Server(uvicorn.Server):
    """Without uvicorn's way with signals, which ends the process by them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """HTTP that tells the application whose certificate came with the connection.

    The head of a request has to come within a while, be it the first one or another.
    """

    # The request behind which the next one is waited for; None: the connection's beginning.
    _last: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        encrypted: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        der = encrypted.getpeercert(binary_form=True) if encrypted is not None else None
        pem = ssl.DER_cert_to_PEM_cert(der).encode() if der else None
        self.app_state = {**self.app_state, CERTIFICATE: pem}
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Has it read."""
        super().data_received(data)
        if self.cycle is not self._last and self._is_between():
            # Uvicorn forgets about the connection's end once there is something of a request.
            self._await_head()

    def _is_between(self) -> bool:
        """Whether no request is being answered."""
        return not self.headers or self.cycle.response_complete

    def _await_head(self) -> None:
        self._last = self.cycle
        self.loop.call_later(SILENT_SECONDS, self._end_silent, self._last)

    def _end_silent(self, last: RequestResponseCycle | None) -> None:
        """Whoever has asked nothing more by now leaves the connection to others."""
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()


async def _serve(
    options: WebOptions,
    terms: Terms,
    listener: socket.socket,
    url: str,
    tell: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with AioSession(
        options.manager, given=options.credentials, retry_for_seconds=RETRY_FOR_SECONDS
    ) as session:
        _log.info(LogLine("serving", url=url, manager=session.address))
        tell(f"{url}/?token={terms.token}")
        await serve(session, Live(session), terms, listener, stop)
    _log.info("stopped")


async def serve(
    session: AioSession, live: Live, terms: Terms, listener: socket.socket, stop: asyncio.Event
) -> None:
    """Answers on that port until it is to stop. Closes the port, and ends what is live."""
    server = _Server(_config(make_app(session, live, terms), terms.peers))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    looking = asyncio.create_task(_keep_looking(terms.peers, server))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Streams end, so that the server has nothing to wait for.
        await live.close()
        server.should_exit = True
        await serving
        for task in (looking, stopping):
            task.cancel()
        await asyncio.gather(looking, stopping, return_exceptions=True)


def _config(app: Any, peers: Peers | None) -> uvicorn.Config:
    context = None if peers is None else _ssl_context(peers.files.pems)
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


def _ssl_context(pems: Pems) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Who has none brings the token.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=pems.roots.decode("ascii"))
    load_chain(context, pems)
    return context


def load_chain(context: ssl.SSLContext, pems: Pems) -> None:
    """Gives it a certificate and key, which OpenSSL takes from files only."""
    descriptor = os.memfd_create("titan-web", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pems.key + pems.chain)
        context.load_cert_chain(Path(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)


async def _keep_looking(peers: Peers | None, server: uvicorn.Server) -> None:
    """Connections to come get a certificate that was renewed."""
    if peers is None:
        return
    known = peers.files.generation
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        generation = peers.look()
        if generation != known and server.config.ssl is not None:
            known = generation
            load_chain(server.config.ssl, peers.files.pems)
