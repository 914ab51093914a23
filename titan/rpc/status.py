"""The one table between errors and gRPC status codes, used in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import grpc

from titan import errors

# What the trailers of an UNAVAILABLE carry when the manager is there, and at it.
STILL_READING: Final = ("titan-still-reading", "1")
# Of one that does not lead: UNAVAILABLE, as another try helps, there or at the one it names.
NOT_LEADER: Final = ("titan-not-leader", "1")
LEADER_KEY: Final = "titan-leader"
# And those of a RESOURCE_EXHAUSTED that is over as soon as others have been served.
BUSY: Final = ("titan-busy", "1")

_STATUS_OF: dict[type[errors.TitanError], grpc.StatusCode] = {
    # Before the others of their codes, which are what these mean without the trailer.
    errors.StillReading: grpc.StatusCode.UNAVAILABLE,
    errors.NotLeader: grpc.StatusCode.UNAVAILABLE,
    errors.Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InvalidJob: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoRoom: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.AccessDenied: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ManagerUnreachable: grpc.StatusCode.UNAVAILABLE,
}

_ERROR_OF: dict[grpc.StatusCode, type[errors.TitanError]] = {
    status: error for error, status in _STATUS_OF.items()
} | {
    # What a call that outlived its deadline and one that was cut off have in common.
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.ManagerUnreachable,
    grpc.StatusCode.CANCELLED: errors.ManagerUnreachable,
}


def status_of(error: errors.TitanError) -> grpc.StatusCode:
    """The code that a server answers with."""
    for kind in type(error).__mro__:
        if kind in _STATUS_OF:
            return _STATUS_OF[kind]
    return grpc.StatusCode.INTERNAL


def error_of(status: grpc.StatusCode, details: str) -> errors.TitanError:
    """The error that a client raises."""
    kind = _ERROR_OF.get(status)
    if kind is None:
        return errors.TitanError(f"{status.name}: {details}")
    return kind(details)


def trailers_of(error: errors.TitanError) -> tuple[tuple[str, str], ...]:
    """What a server says beside the code."""
    if isinstance(error, errors.StillReading):
        return (STILL_READING,)
    if isinstance(error, errors.NotLeader):
        return (NOT_LEADER, (LEADER_KEY, error.leader)) if error.leader else (NOT_LEADER,)
    return (BUSY,) if isinstance(error, errors.Busy) else ()


def is_still_reading(trailers: Iterable[Any] | None) -> bool:
    """Whether the trailers say that the manager is at it."""
    return _has(trailers, STILL_READING)


def is_busy(trailers: Iterable[Any] | None) -> bool:
    """Whether the trailers say that the manager has too much to do for a moment."""
    return _has(trailers, BUSY)


def not_leader(trailers: Iterable[Any] | None) -> str | None:
    """Who leads, empty where nobody knows, if the trailers say that who answered does not; else
    None."""
    items = list(trailers or ())
    if not _has(items, NOT_LEADER):
        return None
    return next((str(value) for key, value, *_ in items if key == LEADER_KEY), "")


def _has(trailers: Iterable[Any] | None, wanted: tuple[str, str]) -> bool:
    return any(key == wanted[0] for key, *_ in trailers or ())
