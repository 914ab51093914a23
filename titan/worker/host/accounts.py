"""The accounts of this machine that tasks run as, where the worker's policy allows it."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from typing import Final, NamedTuple

from titan.isolation import EVERYBODY, Grants, is_granted
from titan.worker.host.spawn import LaunchError
from titan.worker.run_as import LivePolicy

DENIED: Final = "PERMISSION_DENIED: "


class Account(NamedTuple):
    """An account as the machine knows it now."""

    name: str
    user_id: int
    group_id: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @property
    def variables(self) -> dict[bytes, bytes]:
        """What of a task's environment is the account's."""
        return {
            b"HOME": os.fsencode(self.home),
            b"USER": os.fsencode(self.name),
            b"LOGNAME": os.fsencode(self.name),
            b"SHELL": os.fsencode(self.shell or "/bin/sh"),
            # That of this process may be another account's.
            b"TMPDIR": b"/tmp",
        }

    @contextlib.contextmanager
    def rights(self) -> Iterator[None]:
        """Within it this process, which is root and has one thread, opens files as the account.

        It can't be signalled or traced by the account meanwhile: its real and saved ids are root's.
        """
        user_id, group_id, groups = os.geteuid(), os.getegid(), os.getgroups()
        os.setgroups(self.groups)
        try:
            os.setegid(self.group_id)
            os.seteuid(self.user_id)
            yield
        finally:
            os.seteuid(user_id)
            os.setegid(group_id)
            os.setgroups(groups)

    def become(self) -> None:
        """For good, and without a way back. Raises OSError."""
        os.setgroups(self.groups)
        os.setresgid(self.group_id, self.group_id, self.group_id)
        os.setresuid(self.user_id, self.user_id, self.user_id)


def find_account(policy: LivePolicy, user: str, name: str) -> Account:
    """The account, if that user's tasks may run as it now. Raises LaunchError."""
    if os.geteuid() != 0:
        raise LaunchError(f"{DENIED}--user {name}: this worker does not run as root")
    if policy.path is None:
        raise LaunchError(f"{DENIED}--user {name}: this worker has no --run-as-policy")
    grants = policy.grants()
    if not user or not is_granted(grants, user, name):
        raise LaunchError(
            f"{DENIED}--user {name}: the policy of this worker does not let tasks of "
            f"{user or 'nobody'} run as it"
        )
    try:
        entry = pwd.getpwnam(name)
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
    except (KeyError, OSError) as error:
        raise LaunchError(f"--user {name}: there is no such account on this worker") from error
    if entry.pw_uid == 0 and not _is_named(grants, user, name):
        raise LaunchError(
            f"{DENIED}--user {name}: that is root here, which a policy has to name to allow it"
        )
    return Account(
        name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir or "/", entry.pw_shell or ""
    )


def _is_named(grants: Grants, user: str, name: str) -> bool:
    return (user, name) in grants or (EVERYBODY, name) in grants
