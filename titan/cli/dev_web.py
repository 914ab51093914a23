"""The process of `titan dev` that shows its cluster in a browser."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from titan.cli.command import say
from titan.cli.dev_processes import Child, find_address
from titan.cli.web import can_serve, check_can_serve
from titan.errors import Refused
from titan.rpc.channel import split_address
from titan.rpc.security import NO_TLS
from titan.web.viewers import keep_or_draw_token

_READY_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05


def find_web(listen: str, log_file: Path, *, is_wanted: bool) -> DevWeb | None:
    """What shows the cluster at that address, or, unless it `is_wanted` there, at another port.

    None where it can't be shown and nobody asked for it. Raises TitanError where somebody did.
    """
    if not can_serve():
        if is_wanted:
            check_can_serve()
        return None
    try:
        address = find_address(listen)
    except Refused:
        if is_wanted:
            raise
        address = find_address(f"{listen.rpartition(':')[0]}:0")
        say(f"{listen} can't be listened on: the pages are at {address}")
    return DevWeb(address, log_file)


class DevWeb:
    """`titan web` at an address; whoever has its URL may do what he may who started it."""

    def __init__(self, address: str, log_file: Path) -> None:
        """Starts nothing. Raises OSError where the token can't be kept."""
        self._address = address
        self._log_file = log_file
        url = f"http://{address}"
        self.url = f"{url}/?token={keep_or_draw_token(address, url)}"
        self.child = Child("web", (), log_file)

    async def start(self, manager: str, lock_descriptor: int) -> None:
        """Starts it for the manager at that address."""
        arguments: Sequence[str] = (
            *("web", "--listen", self._address, "--allow-changes"),
            *("--manager", manager, "--tls-dir", NO_TLS),
        )
        # It prints its URL, and with that the token.
        self._log_file.touch(mode=0o600)
        self._log_file.chmod(0o600)
        self.child = Child("web", arguments, self._log_file)
        await self.child.start(lock_descriptor)

    async def wait_ready(self) -> None:
        """Until it can be called, has ended, or takes too long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _READY_SECONDS
        while True:
            if self._can_be_called() or not self.child.is_running or loop.time() > end:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _can_be_called(self) -> bool:
        # It is on loopback: that takes no time.
        try:
            socket.create_connection(split_address(self._address), 1.0).close()
        except OSError:
            return False
        return True
