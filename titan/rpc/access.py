"""The access token: who can read the manager's file may call it.

The manager draws a token at its first start and leaves it in `access.json` in its data
directory and, by its address, below the user's state directory, both readable by
that user only. Clients and workers of the same user find it by the address they
call. Loopback is no protection by itself: login nodes are shared.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from titan import paths

METADATA_KEY = "titan-access-token"
_MODE = 0o600


def new_token() -> str:
    """256 random bits in text."""
    return secrets.token_urlsafe(32)


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What a call carries."""
    return ((METADATA_KEY, token),) if token else ()


def is_granted(call_metadata: Iterable[tuple[str, str | bytes]] | None, token: str) -> bool:
    """Whether the call carries that token; compared in constant time."""
    for key, value in call_metadata or ():
        if key == METADATA_KEY:
            given = value if isinstance(value, bytes) else value.encode()
            return hmac.compare_digest(given, token.encode())
    return False


def file_by_address(address: str) -> Path:
    """Where a client looks for the token of the manager at HOST:PORT."""
    name = address.replace("/", "_").replace("[", "").replace("]", "")
    return paths.state_directory() / "access" / f"{name}.json"


def keep_or_draw_token(data_directory: Path) -> str:
    """The token that is there, so that a restart locks nobody out; else a new one."""
    try:
        content = paths.read_json(data_directory / "access.json") or {}
    except (OSError, ValueError):
        content = {}
    token = content.get("token")
    return token if isinstance(token, str) and token else new_token()


def write_token(data_directory: Path, address: str, token: str) -> None:
    """Leaves the token where clients of this user find it.

    Both places are tried and files that are right are not touched. Raises OSError.
    """
    failure = None
    for path in (data_directory / "access.json", file_by_address(address)):
        try:
            _write_if_other(path, {"address": address, "token": token})
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure


def _write_if_other(path: Path, content: dict[str, str]) -> None:
    try:
        if paths.read_json(path) == content and path.stat().st_mode & 0o777 == _MODE:
            return
    except (OSError, ValueError):
        pass  # Whatever is there is replaced.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.write_json(path, content, mode=_MODE)


def find_token(address: str, access_file: Path | None = None) -> str | None:
    """The token for the manager at that address, None when there is none to be read.

    Raises OSError when a named file can't be read, ValueError when it holds no token.
    """
    path = access_file or file_by_address(address)
    try:
        content = paths.read_json(path)
    except PermissionError:
        if access_file is not None:
            raise
        return None
    if content is None:
        if access_file is not None:
            raise FileNotFoundError(f"no access file {access_file}")
        return None
    token = content.get("token")
    if not isinstance(token, str):
        raise ValueError(f"{path} holds no token")
    return token
