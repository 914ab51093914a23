"""The server's side of the access token: drawn, kept, and compared with what a call carries.

Clients do without: what this takes loads OpenSSL.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from titan.rpc.access import METADATA_KEY, stored_token


def new_token() -> str:
    """256 random bits in text."""
    return secrets.token_urlsafe(32)


def keep_or_draw_token(data_directory: Path) -> str:
    """The token that is there, so that a restart locks nobody out; else a new one."""
    return stored_token(data_directory) or new_token()


def is_granted(call_metadata: Iterable[tuple[str, str | bytes]] | None, token: str) -> bool:
    """Whether the call carries that token; compared in constant time."""
    for key, value in call_metadata or ():
        if key == METADATA_KEY:
            given = value if isinstance(value, bytes) else value.encode()
            return hmac.compare_digest(given, token.encode())
    return False
