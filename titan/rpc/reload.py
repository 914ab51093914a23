"""SIGHUP, by which a server is asked to read its files again, as `systemctl reload` does."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from titan.tls.peers import Peers

_log = logging.getLogger("titan.reload")


def reload_on_hangup(loop: asyncio.AbstractEventLoop, peers: Peers | None) -> None:
    """From now on SIGHUP ends nothing, and has certificates read again at once.

    Not where it was started at a terminal, which says by it that it was closed. Certificates, lists
    of revoked ones, tokens and policies are read again by themselves, too; this is for who does not
    want to wait for it. `peers`: None, without certificates.
    """

    def reload() -> None:
        _log.info("SIGHUP: files are read again; options count from the next start on")
        if peers is not None:
            peers.reload()

    if not (sys.stdin and sys.stdin.isatty()):
        loop.add_signal_handler(signal.SIGHUP, reload)
