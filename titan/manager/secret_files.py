"""The values of secrets, on the disk beside the log: a file for each environment that has some.

    DIR/secrets/          0700
        3f…  (32 digits)  0600, msgpack: {name: value}, whole or not there
        .3f….new          being written

The log names the file, and says nothing of what is in it. Everything goes through the descriptor of
the folder, and no link is followed. All of it blocks; whoever calls has a thread for it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from titan.checks import SECRET_BYTES_MAX
from titan.manager.secret_store import SecretsUnreadable, Values, pack, size_on_disk, unpack

# In the data directory.
SECRETS_NAME: Final = "secrets"
_NAME: Final = re.compile(r"[0-9a-f]{32}")
_NEW: Final = re.compile(r"\.[0-9a-f]{32}\.new")
# More than any has whose values passed `check_secret_values`.
_FILE_BYTES_MAX: Final = 4 * SECRET_BYTES_MAX
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SecretFiles:
    """One folder of them. Owned by one manager, which holds the lock of the data directory."""

    place = "the manager's disk"

    def __init__(self, path: Path) -> None:
        """Makes the folder, or makes it the owner's alone. Raises OSError."""
        self.path = path
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._folder = os.open(path, flags)
        os.fchmod(self._folder, 0o700)

    def close(self) -> None:
        """Nothing is asked any more."""
        os.close(self._folder)

    def list(self) -> dict[bytes, int]:
        """The ids of all, and what each takes. What a crash left half written is removed.

        Raises OSError.
        """
        found: dict[bytes, int] = {}
        for name in os.listdir(self._folder):
            if _NEW.fullmatch(name):
                os.unlink(name, dir_fd=self._folder)
            elif _NAME.fullmatch(name):
                status = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
                found[bytes.fromhex(name)] = size_on_disk(status.st_size)
        return found

    def unreadable(self) -> str:
        """Nobody looks: it is told of each that a task needs."""
        return ""

    def write(self, secrets: Mapping[bytes, Values]) -> None:
        """Returns when all of them, by id, are durable; else none of them is there.

        Raises OSError.
        """
        try:
            for secret_id, values in secrets.items():
                self._write(secret_id.hex(), values)
            os.fsync(self._folder)
        except BaseException:
            for secret_id in secrets:
                with suppress(OSError):
                    self.remove(secret_id)
            raise

    def read(self, secret_id: bytes) -> dict[bytes, bytes] | None:
        """The values by name, None when there is no such file.

        Raises SecretsUnreadable, OSError.
        """
        try:
            descriptor = os.open(secret_id.hex(), _READ, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SecretsUnreadable("it is no file")
            data = file.read(_FILE_BYTES_MAX + 1)
        return unpack(data)

    def remove(self, *secret_ids: bytes) -> None:
        """They need not be there. Raises OSError."""
        for secret_id in secret_ids:
            for name in (secret_id.hex(), _new(secret_id.hex())):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._folder)

    def _write(self, name: str, values: Values) -> None:
        descriptor = os.open(_new(name), _WRITE, 0o600, dir_fd=self._folder)
        with os.fdopen(descriptor, "wb") as file:
            # Whatever the umask.
            os.fchmod(descriptor, 0o600)
            file.write(pack(values))
            file.flush()
            os.fsync(descriptor)
        os.rename(_new(name), name, src_dir_fd=self._folder, dst_dir_fd=self._folder)


def _new(name: str) -> str:
    return f".{name}.new"
