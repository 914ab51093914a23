"""The access token: who can read a server's file may call it.

The manager draws a token at its first start and leaves it in `access.json` in its data
directory and, by its address, below the user's state directory, both readable by
that user only. Clients and workers of the same user find it by the address they
call. Loopback is no protection by itself: login nodes are shared.

A worker does the same with a token of its own, which it also tells its manager. Its port
may be another at each start, so it takes its files away when it ends, and at its next start
what a kill has left. How servers draw tokens and compare them is in `tokens.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from titan import paths

METADATA_KEY = "titan-access-token"
_MODE = 0o600


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What a call carries."""
    return ((METADATA_KEY, token),) if token else ()


def user_token_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """What a call carries that is made with a user's token (RFC 6750)."""
    return (("authorization", f"Bearer {token}"),)


def user_token_in(call_metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The user's token that a call carries; empty: none."""
    for key, value in call_metadata or ():
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode(errors="replace")
            kind, _, token = text.partition(" ")
            if kind.lower() == "bearer":
                return token.strip()
    return ""


def no_token_text(role: str) -> str:
    """The sentence for a call without the token of that manager or worker."""
    return (
        f"the call carries no access token of this {role}; it lies in access.json in the {role}'s "
        "data directory and is found by users who may read it"
    )


def file_by_address(address: str) -> Path:
    """Where a client looks for the token of the manager at HOST:PORT."""
    name = address.replace("/", "_").replace("[", "").replace("]", "")
    return paths.state_directory() / "access" / f"{name}.json"


def files_by_address(address: str) -> list[Path]:
    """All the places: `localhost` is either of its two addresses."""
    host, _, port = address.rpartition(":")
    addresses = [address]
    if host == "localhost":
        addresses += [f"127.0.0.1:{port}", f"[::1]:{port}"]
    return [file_by_address(each) for each in addresses]


def stored_token(data_directory: Path) -> str:
    """The token that a server left in its directory; empty: none, or nothing that can be read."""
    token = _read_or_nothing(data_directory / "access.json").get("token")
    return token if isinstance(token, str) else ""


def write_token(
    data_directory: Path, address: str, token: str, *, is_passing: bool = False, host: str = ""
) -> None:
    """Leaves the token where clients of this user find it.

    Both places are tried and files that are right are not touched. `is_passing`: they say
    whose they are, for `remove_token`. `host`: it has a certificate of that name instead, and is
    looked for in its directory alone. Raises OSError.
    """
    failure = None
    content = {"address": address, "token": token}
    if host:
        content["host"] = host
    if is_passing:
        content["directory"] = str(data_directory)
    for path in (data_directory / "access.json", *(() if host else (file_by_address(address),))):
        try:
            _write_if_other(path, content)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure


def remove_token(data_directory: Path) -> None:
    """Takes away what `write_token` left, passing, for this directory. Raises OSError.

    The file by address only if it is this directory's: the directory may be a copy of
    another's, and another server may have the port by now.
    """
    path = data_directory / "access.json"
    address = _read_or_nothing(path).get("address")
    if isinstance(address, str):
        by_address = file_by_address(address)
        if _read_or_nothing(by_address).get("directory") == str(data_directory):
            by_address.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def forget_token(data_directory: Path, address: str) -> None:
    """Takes away what a manager left in that directory and at that address. Raises OSError.

    It has certificates now; clients would go on calling it with its token. It may have listened at
    another address before.
    """
    content = _read_or_nothing(data_directory / "access.json")
    token = stored_token(data_directory)
    for each in {address, str(content.get("address", address))}:
        by_address = file_by_address(each)
        if token and _read_or_nothing(by_address).get("token") == token:
            by_address.unlink(missing_ok=True)
    (data_directory / "access.json").unlink(missing_ok=True)


def _read_or_nothing(path: Path) -> dict[str, Any]:
    try:
        return paths.read_json(path) or {}
    except (OSError, ValueError):
        return {}


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
