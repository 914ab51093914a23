"""`GET /metrics`, for Prometheus: a small HTTP server in threads of its own.

`/healthz` says whether the process answers at all, and `/leader` of a manager whether it leads,
for whoever supervises it or shares calls out.

The event loop of the manager or the worker is asked only for plain numbers, all in one turn of it,
so that they fit each other; looking at the disk and making the text is the threads' business.
A loop that does not answer is not waited for: then the scrape fails, which is news as well.

With certificates it speaks TLS, and answers those alone whose certificate the server would let in
at its other port; without, it is as open as its address.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from titan.errors import AccessDenied, TitanError
from titan.logs import LogLine
from titan.metrics.family import Family
from titan.rpc.channel import check_loopback, join_address, split_address

if TYPE_CHECKING:
    from titan.tls.peers import Peers

_log = logging.getLogger("titan.metrics")

# Who says nothing for so long, or does not read, is let go.
IDLE_SECONDS: Final = 10.0
# From waiting for a request to the end of its answer. A wait for each byte alone would let somebody
# who sends one now and then keep his place for days.
REQUEST_SECONDS: Final = 30.0
# Prometheus gives up after 10 s by itself.
LOOP_SECONDS: Final = 5.0
# One Prometheus or two, and somebody with curl; each takes a thread while it is connected.
CONNECTIONS_MAX: Final = 16
# How long a stop may take to be noticed.
STOP_SECONDS: Final = 0.2
PATH: Final = "/metrics"
HEALTH_PATH: Final = "/healthz"
LEADER_PATH: Final = "/leader"

Answer = TypeVar("Answer")


class MetricsUnavailable(TitanError):
    """Metrics can't be served; the text says why."""


class MetricsServer:
    """One address where a process tells its numbers."""

    def __init__(self, listen: str, *, peers: Peers | None, is_insecure: bool) -> None:
        """Takes the address, HOST:PORT; nobody is answered before `start`.

        Other machines can reach it only with certificates, or if it `is_insecure`. Raises
        MetricsUnavailable, ValueError.
        """
        try:
            # What this loads is an extra of the package.
            from titan.metrics.exposition import Exposition  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MetricsUnavailable(
                f"--metrics-listen needs {error.name}: pip install 'titan-scheduler[metrics]'"
            ) from error
        if peers is None and not is_insecure:
            check_loopback(listen)
        self._exposition = Exposition()
        self._thread: threading.Thread | None = None
        try:
            self._server = _Server(listen, self._answer, self._turn, peers)
        except OSError as error:
            raise MetricsUnavailable(
                f"--metrics-listen {listen} cannot be listened on: {error}"
            ) from error

    @property
    def address(self) -> str:
        """Where it listens, HOST:PORT."""
        host, port = self._server.server_address[:2]
        return join_address(host if isinstance(host, str) else host.decode(), port)

    @property
    def url(self) -> str:
        """What is to be scraped."""
        return f"{'https' if self._server.peers else 'http'}://{self.address}{PATH}"

    def start(
        self,
        read: Callable[[], Iterable[Family]],
        look: Callable[[], Iterable[Family]] = tuple,
        leads: Callable[[], bool] | None = None,
    ) -> None:
        """Answers from now on, with what both tell; called in the loop, also again with others.

        `read` is called in the loop and must be quick, `look` in a thread, after it; so is
        `leads`, of a process that has something to lead.
        """
        self._loop = asyncio.get_running_loop()
        self._families = read, look
        self._server.leads = leads
        if self._thread is not None:
            # Two that accept are woken by one connection, and one of them would wait for ever.
            return
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()
        _log.info("metrics are at %s", self.url)

    def stop(self) -> None:
        """Lets the address go; blocks. While the loop runs, since it is asked for numbers."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._server.shutdown()
            thread.join()
        self._server.server_close()

    def _answer(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type; called in a thread. Raises TimeoutError, OSError."""
        read, look = self._families
        return self._exposition.text(chain(self._in_loop(lambda: list(read())), look()), accept)

    def _turn(self) -> None:
        """Returns when the loop has turned; called in a thread. Raises TimeoutError."""
        self._in_loop(lambda: None)

    def _in_loop(self, function: Callable[[], Answer]) -> Answer:
        async def run() -> Answer:
            return function()

        answer = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return answer.result(LOOP_SECONDS)
        finally:
            answer.cancel()


class _Server(socketserver.ThreadingTCPServer):
    # Not the library's for HTTP, which asks the DNS what this machine is called, at each start.
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        listen: str,
        answer: Callable[[str], tuple[bytes, str]],
        turn: Callable[[], None],
        peers: Peers | None,
    ) -> None:
        """Raises OSError, ValueError."""
        host, port = split_address(listen)
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.answer = answer
        self.turn = turn
        self.leads: Callable[[], bool] | None = None
        self.peers = peers
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        # Until when each connection has to be through with its request, by a monotonic clock.
        self._due: dict[socket.socket, float] = {}
        self._context: ssl.SSLContext | None = None
        self._generation = -1
        self._renewing = threading.Lock()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more than there may be is let go at once."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # No thread could be started.
            self._places.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the caller's own thread: one who is slow with his handshake keeps nobody waiting.
        request.settimeout(IDLE_SECONDS)
        if self.peers is None:
            super().finish_request(request, client_address)
            return
        with self._current_context(self.peers).wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def begin_request(self, connection: socket.socket) -> None:
        """What comes next there is to be over in time."""
        self._due[connection] = time.monotonic() + REQUEST_SECONDS

    def end_requests(self, connection: socket.socket) -> None:
        """Nothing comes there any more."""
        self._due.pop(connection, None)

    def service_actions(self) -> None:
        """Called every STOP_SECONDS at least: lets those go who are not through in time."""
        now = time.monotonic()
        for connection, due in list(self._due.items()):
            if now >= due:
                # Its thread finds that it has ended. TLS is no part of that: it is the thread's.
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What goes wrong with a caller is his."""
        _log.debug("a scrape ended early peer=%s", client_address, exc_info=True)

    def _current_context(self, peers: Peers) -> ssl.SSLContext:
        """With the certificate that there is now."""
        with self._renewing:
            generation = peers.look()
            if self._context is None or generation != self._generation:
                self._context = _context_of(peers)
                self._generation = generation
            return self._context


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def handle_one_request(self) -> None:
        self.server.begin_request(self.connection)
        super().handle_one_request()

    def finish(self) -> None:
        self.server.end_requests(self.connection)
        super().finish()

    def do_GET(self) -> None:
        if not self._is_let_in():
            self._send(HTTPStatus.FORBIDDEN, b"this certificate is not let in\n")
            return
        path = self.path.partition("?")[0]
        if path == HEALTH_PATH:
            self._send_health()
        elif path == LEADER_PATH and self.server.leads is not None:
            if self.server.leads():
                self._send(HTTPStatus.OK, b"it leads\n")
            else:
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"it stands by\n")
        elif path == PATH:
            self._send_metrics()
        else:
            self._send(HTTPStatus.NOT_FOUND, b"the metrics are at /metrics\n")

    def _send_health(self) -> None:
        try:
            self.server.turn()
        except TimeoutError:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"busy: it did not answer in time\n")
        except Exception:  # noqa: BLE001 - the loop has ended
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"it stops\n")
        else:
            self._send(HTTPStatus.OK, b"ok\n")

    def _send_metrics(self) -> None:
        try:
            text, content_type = self.server.answer(self.headers.get("Accept", ""))
        except TimeoutError:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"busy: its numbers did not come in time\n")
            return
        # A bug of ours or a disk that can't be looked at must not look like a network's fault.
        except Exception:  # noqa: BLE001
            _log.exception("a scrape failed")
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b"a scrape failed: the log tells more\n")
            return
        self._send(HTTPStatus.OK, text, content_type)

    def version_string(self) -> str:
        return "titan"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Scrapes are no news."""

    def _is_let_in(self) -> bool:
        if self.server.peers is None:
            return True
        assert isinstance(self.connection, ssl.SSLSocket)
        certificate = self.connection.getpeercert(binary_form=True)
        assert certificate is not None
        pem = ssl.DER_cert_to_PEM_cert(certificate).encode()
        try:
            return self.server.peers.identify({"x509_pem_cert": [pem]}) is not None
        except AccessDenied as error:
            _log.warning(LogLine("a scrape was refused", peer=self.client_address[0], error=error))
            return False

    def _send(
        self, status: HTTPStatus, text: bytes, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _context_of(peers: Peers) -> ssl.SSLContext:
    pems = peers.files.pems
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=pems.roots.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    # The library reads keys from files only; these may have been renewed since on the disk.
    with open(os.memfd_create("titan-metrics"), "w+b") as file:
        file.write(pems.key + pems.chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
