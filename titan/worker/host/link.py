"""The host's end of the socket: one agent at a time, the newest."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
from collections.abc import Callable
from typing import Final

from titan.worker import protocol

_READ_BYTES: Final = 1 << 18
# An agent that does not read so much will not read more: it gets all of it when it is back.
_UNSENT_BYTES_MAX: Final = 512 << 20

_log = logging.getLogger(__name__)


class HostLink:
    """Accepts agents, cuts what they send into messages, sends without blocking.

    `on_message` is called for each message, also while a newer agent closes the older one's
    link. Until `greet` an agent is sent nothing: what it is told first is the answer to its
    hello, and that holds all that happened before.
    """

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        on_message: Callable[[protocol.Message], None],
    ) -> None:
        self._listener = listener
        self._selector = selector
        self._on_message = on_message
        self._connection: socket.socket | None = None
        self._decoder = protocol.Decoder()
        self._unsent = bytearray()
        self._is_writing = False
        self._is_greeted = False
        selector.register(listener, selectors.EVENT_READ, self._accept)

    @property
    def is_connected(self) -> bool:
        """Whether somebody is connected."""
        return self._connection is not None

    def greet(self, answer: protocol.Welcome | protocol.Refused) -> None:
        """Queue the answer to a hello."""
        self._is_greeted = True
        self.send(answer)

    def send(self, message: protocol.Message) -> None:
        """Queue the message for the agent; without one, or before `greet`, it is dropped."""
        if self._is_greeted:
            self._unsent += protocol.encode(message)

    def flush(self) -> None:
        """Send what is queued, as much as the socket takes now."""
        connection = self._connection
        if connection is None or not (self._unsent or self._is_writing):
            return
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = connection.send(view[:_READ_BYTES])
                del self._unsent[:sent]
        except BlockingIOError:
            if len(self._unsent) > _UNSENT_BYTES_MAX:
                _log.warning("the agent does not read; closing its connection")
                self.drop()
                return
        except OSError:
            # It is noticed when reading, after what it said last.
            self._unsent.clear()
        self._watch_writing(bool(self._unsent))

    def drop(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._selector.unregister(connection)
        connection.close()
        self._unsent.clear()
        self._is_writing = False
        self._is_greeted = False

    def close(self) -> None:
        """Close everything."""
        self.flush()
        self.drop()
        self._selector.unregister(self._listener)
        self._listener.close()

    def _watch_writing(self, is_writing: bool) -> None:
        if self._connection is None or is_writing == self._is_writing:
            return
        self._is_writing = is_writing
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if is_writing else 0)
        self._selector.modify(self._connection, events, self._ready)

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if self._connection is not None:
                _log.info("a newer agent has connected; closing the older one's connection")
                # What it said last was said before the newer one came.
                self._read()
                self.drop()
            self._connection = connection
            self._decoder = protocol.Decoder()
            self._selector.register(connection, selectors.EVENT_READ, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._read()
        if events & selectors.EVENT_WRITE:
            self.flush()

    def _read(self) -> None:
        """Read all there is; the end of it or an error closes the connection."""
        while self._connection is not None:
            try:
                data = self._connection.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.drop()
                return
            try:
                for message in self._decoder.feed(data):
                    self._on_message(message)
            except protocol.ProtocolError as error:
                _log.warning("closing the agent's connection: %s", error)
                self.drop()
                return
            if len(data) < _READ_BYTES:
                return
