"""TLS by hand on a socket: it may be stopped at any point, and an idle one takes few KiB here."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final, Self

from titan.rpc.channel import split_address
from tools.fuzz import http2
from tools.fuzz.target import Target

_READ_BYTES: Final = 16_384
_ACK: Final = 0x1


class Link:
    """One connection. To be used as a context manager."""

    def __init__(self, target: Target, context: ssl.SSLContext | None = None) -> None:
        """With the target's certificate, or another context's."""
        self._target = target
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        chosen = context or target.tls
        assert chosen is not None
        self._tls = chosen.wrap_bio(self._incoming, self._outgoing, server_hostname=target.host)
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._rest = b""

    async def connect(self) -> None:
        """Without a word. Raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, split_address(self._target.address))

    def begin(self) -> bytes:
        """The client's hello, which is not sent. Once for each connection."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        raise AssertionError("a handshake takes two")

    async def shake(self) -> bytes:
        """All of the handshake, but for the client's last bytes, which are returned.

        Raises OSError, of which ssl.SSLError is one.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send_plain(self._outgoing.read())
                await self._receive()
                continue
            return self._outgoing.read()

    async def send_plain(self, data: bytes) -> None:
        """Bytes as they are. Raises OSError."""
        if data:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def send(self, data: bytes) -> None:
        """Within TLS. Raises OSError."""
        self._tls.write(data)
        await self.send_plain(self._outgoing.read())

    async def read(self) -> bytes:
        """What came within TLS; nothing: the other side has closed. Raises OSError."""
        while True:
            try:
                return self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                # Of what TLS itself has to say.
                await self.send_plain(self._outgoing.read())
                await self._receive()

    async def drain_plain(self) -> None:
        """Until the other side closes, whatever it says. Raises OSError."""
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._socket, _READ_BYTES):
            pass

    async def stay(self) -> None:
        """Answers what has to be answered for the other side to keep it. Raises OSError."""
        while True:
            data = await self.read()
            if not data:
                return
            self._rest += data
            while len(self._rest) >= 9:
                end = 9 + int.from_bytes(self._rest[:3])
                if len(self._rest) < end:
                    break
                kind, flags, payload = self._rest[3], self._rest[4], self._rest[9:end]
                self._rest = self._rest[end:]
                if kind in (http2.PING, http2.SETTINGS) and not flags & _ACK:
                    answer = payload if kind == http2.PING else b""
                    await self.send(http2.frame(kind, _ACK, 0, answer))

    def tear(self) -> None:
        """Ends it with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def _receive(self) -> None:
        got = await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        if got:
            self._incoming.write(got)
        elif not self._incoming.eof:
            self._incoming.write_eof()
        else:
            raise ConnectionResetError("the other side has closed")
