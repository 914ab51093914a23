"""Whom a worker lets run tasks as which accounts: a file of its administrator's, read live.

"*" = ["self"]                 # everybody whose name is proven, as the account of that name
alice = ["self", "batch"]
ops = ["root"]                 # root only where it is named
"""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

from titan.isolation import SELF, Grants, check_grants

POLICY_BYTES_MAX: Final = 1 << 20
_log = logging.getLogger("titan.worker")

_Stamp = tuple[int, ...]


class PolicyError(Exception):
    """The file is no policy, or one that others than root could have written; a sentence."""


def parse_policy(text: str) -> Grants:
    """What a policy grants, sorted. Raises ValueError with a sentence."""
    # Its errors are ValueErrors that say where.
    table: dict[str, Any] = tomllib.loads(text)
    grants: set[tuple[str, str]] = set()
    for user, accounts in table.items():
        if not isinstance(accounts, list) or not all(isinstance(each, str) for each in accounts):
            raise ValueError(f'{user} needs a list of accounts, as {user} = ["{SELF}"]')
        grants.update((user, account) for account in accounts)
    found = tuple(sorted(grants))
    check_grants(found)
    return found


def load_policy(path: Path) -> Grants:
    """What the file grants. Raises PolicyError."""
    return _load(path)[0]


def _load(path: Path) -> tuple[Grants, _Stamp]:
    try:
        # What is a pipe by now must not hold anybody up.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        with open(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            _check_owner(path, found)
            text = file.read(POLICY_BYTES_MAX + 1)
        if len(text) > POLICY_BYTES_MAX:
            raise PolicyError(f"the run-as policy {path} is over {POLICY_BYTES_MAX} bytes")
        return parse_policy(text.decode()), _stamp(found)
    except OSError as error:
        raise PolicyError(f"cannot read the run-as policy {path}: {error.strerror}") from error
    except ValueError as error:
        raise PolicyError(f"the run-as policy {path} cannot be used: {error}") from error


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PolicyError(f"the run-as policy {path} is no file")
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise PolicyError(
            f"the run-as policy {path} has to be owned by root, and writable by nobody else: "
            f"chown root {path}; chmod go-w {path}"
        )


class LivePolicy:
    """The policy as it is now. What cannot be read grants nothing, and is logged once."""

    def __init__(self, path: Path | None) -> None:
        """None: there is no policy, which grants nothing."""
        self._path = path
        self._stamp: _Stamp | None = None
        self._grants: Grants = ()
        self._is_broken = False

    @property
    def path(self) -> Path | None:
        """Where it is."""
        return self._path

    def grants(self) -> Grants:
        """What it grants. Costs one stat(2) where it has not changed."""
        if self._path is None:
            return ()
        try:
            stamp = _stamp(os.stat(self._path))
        except OSError:
            # To be told why.
            stamp = None
        if stamp is None or stamp != self._stamp:
            self._read_again(self._path)
        return self._grants

    def _read_again(self, path: Path) -> None:
        try:
            grants, stamp = _load(path)
        except PolicyError as error:
            if not self._is_broken:
                _log.error("%s; until then no task runs as another account", error)
            self._grants, self._stamp, self._is_broken = (), None, True
            return
        if self._is_broken or self._stamp is not None:
            _log.info("the run-as policy %s was read again", path)
        self._grants, self._stamp, self._is_broken = grants, stamp, False


NO_POLICY: Final = LivePolicy(None)


def _stamp(found: os.stat_result) -> _Stamp:
    # The times are those of a clock that turns every few milliseconds.
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, found.st_mode, found.st_uid, *times
