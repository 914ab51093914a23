"""The errors that users of the Python client see; one base, a leaf for each decision.

The CLI turns them into exit codes and the gRPC layer into status codes and back:
see `titan.rpc.status`.
"""

from __future__ import annotations


class TitanError(Exception):
    """The base of all errors of the public interface. Its text is a sentence for people."""


class ManagerUnreachable(TitanError):
    """No answer from the manager.

    `maybe_accepted` tells whether a write may have reached it all the same.
    """

    def __init__(self, message: str, *, maybe_accepted: bool = False) -> None:
        super().__init__(message)
        self.maybe_accepted = maybe_accepted


class NotLeader(TitanError):
    """This manager does not lead its cluster; another does, or will.

    `leader` is the address of the one that does (HOST:PORT), empty where nobody knows.
    """

    def __init__(self, message: str, *, leader: str = "") -> None:
        super().__init__(message)
        self.leader = leader


class NotFound(TitanError):
    """No such job, task or worker."""


class OutOfRange(TitanError):
    """The past that was asked about is gone, or has not come yet."""


class InvalidJob(TitanError):
    """What was asked for is wrong in itself; asking again will not help."""


class Refused(TitanError):
    """What was asked for is right but not now, or not for this caller."""


class NoRoom(Refused):
    """The manager has no room for it now: its disk is full, or a limit is reached."""


class Busy(NoRoom):
    """More is asked of the manager than it can do now; asking again a little later helps.

    `maybe_accepted` tells whether a write may have been accepted all the same, in a last try that
    had no answer.
    """

    def __init__(self, message: str, *, maybe_accepted: bool = False) -> None:
        super().__init__(message)
        self.maybe_accepted = maybe_accepted


class StillReading(Refused):
    """The log is still being read for the answer; a repeated question goes on from there."""


class AccessDenied(Refused):
    """The call carried no token, or not the right one."""


class PermissionDenied(Refused):
    """It is known who calls, and he may not do this."""


class OutputUnavailable(TitanError):
    """What a task wrote can't be read now: the worker that holds it is away."""


def reason_of(error: ValueError) -> str:
    """What was wrong with a value, as a sentence, which Python has not for what is no text."""
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} is not UTF-8, as names, labels and users have to be"
    return str(error)
