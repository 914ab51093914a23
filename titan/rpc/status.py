"""The one table between errors and gRPC status codes, used in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import grpc

from titan import errors

# What the trailers of an UNAVAILABLE carry when the manager is there, and at it.
STILL_READING: Final = ("titan-still-reading", "1")

_STATUS_OF: dict[type[errors.TitanError], grpc.StatusCode] = {
    # Before the other one of that code, which is what it means without the trailer.
    errors.StillReading: grpc.StatusCode.UNAVAILABLE,
    errors.InvalidJob: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoRoom: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.AccessDenied: grpc.StatusCode.UNAUTHENTICATED,
    errors.ManagerUnreachable: grpc.StatusCode.UNAVAILABLE,
}

_ERROR_OF: dict[grpc.StatusCode, type[errors.TitanError]] = {
    status: error for error, status in _STATUS_OF.items()
} | {
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessDenied,
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
    return (STILL_READING,) if isinstance(error, errors.StillReading) else ()


def is_still_reading(trailers: Iterable[Any] | None) -> bool:
    """Whether the trailers say that the manager is at it."""
    return any(key == STILL_READING[0] for key, *_ in trailers or ())
