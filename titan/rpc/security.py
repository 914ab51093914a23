"""How a caller proves who he is: by certificate, by a user's token, or by the access token alone.

What was named counts. Where nothing was, a manager on this machine whose access token this user can
read is called with that, and any other with the certificates of this user, if he has some.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from titan import paths
from titan.rpc import access
from titan.rpc.channel import check_loopback, is_loopback
from titan.tls.identity import Role
from titan.tls.pem import CA_FILE, PemFiles, TlsError

# In place of a directory: no certificates, whatever there is.
NO_TLS: Final = "none"


def tls_path(tls_dir: str | os.PathLike[str] | None) -> Path | None:
    """What --tls-dir, else TITAN_TLS_DIR names; None: neither does."""
    named = os.fspath(tls_dir) if tls_dir else os.environ.get("TITAN_TLS_DIR", "")
    return Path(named) if named else None


def own_path(tls_dir: str | os.PathLike[str] | None, role: Role) -> Path | None:
    """The directory or file of a server; None: it is to do without certificates."""
    named = tls_path(tls_dir)
    if named is not None:
        return None if str(named) == NO_TLS else named
    default = paths.tls_directory()
    return default if _has_certificate(default, role) else None


def find_files(
    address: str,
    role: Role,
    *,
    tls_dir: str | os.PathLike[str] | None = None,
    access_file: Path | None = None,
    has_token: bool = False,
    is_insecure: bool = False,
) -> PemFiles | None:
    """The certificates to call that address with; None: none, and the access token.

    `has_token`: the caller has a user's token, and needs to know the CA alone. `is_insecure`:
    he is content to call other machines without. Raises ValueError with a sentence (TlsError).
    """
    named = tls_path(tls_dir)
    if named is not None and str(named) != NO_TLS:
        if not named.exists():
            raise TlsError(f"there is no {named}, which --tls-dir names")
        return PemFiles(named, role, may_be_nobody=has_token)
    if named is None and access_file is None and not (is_loopback(address) and _is_known(address)):
        default = paths.tls_directory()
        if _has_certificate(default, role) or (has_token and (default / CA_FILE).exists()):
            return PemFiles(default, role, may_be_nobody=has_token)
    if has_token:
        raise TlsError(
            "a user's token goes over TLS only: name the CA's certificate with --tls-dir ca.pem"
        )
    if not is_insecure:
        check_loopback(address)
    return None


def _is_known(address: str) -> bool:
    return any(path.exists() for path in access.files_by_address(address))


def _has_certificate(directory: Path, role: Role) -> bool:
    folder = "user" if role is Role.ADMIN else role.value
    return any((each / "cert.pem").exists() for each in (directory / folder, directory))
