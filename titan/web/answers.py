"""Answers in JSON, what is wrong with a request as a sentence, and what a query asks for."""

from __future__ import annotations

import json
from typing import Any, Final

import grpc
from starlette.requests import Request
from starlette.responses import Response

from titan.client.moments import moment
from titan.errors import InvalidJob, NotFound, TitanError, reason_of
from titan.rpc.status import status_of
from titan.rpc.v1 import manager_pb2
from titan.web.guard import TooLarge, TooSlow, read_body

_HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_STATUS_OF_BODY: Final[dict[type, int]] = {TooLarge: 413, TooSlow: 408}
# What 64 bits hold, and JSON's readers: no number of ours is larger.
_NUMBER_MAX: Final = 2**53


class Answer(Response):
    """A value in JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Compact, and in UTF-8; what is encoded already as it is."""
        return content if isinstance(content, bytes) else encode(content)


def encode(value: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def refusal(error: TitanError) -> Answer:
    """What was wrong, with the status that says whose fault it is."""
    code = status_of(error)
    status = _STATUS_OF_BODY.get(type(error)) or _HTTP_STATUS.get(code, 500)
    return refused(status, code.name, str(error))


def refused(status: int, code: str, sentence: str) -> Answer:
    """An error."""
    return Answer({"error": sentence, "code": code}, status)


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object of a request, {} for no body. Raises InvalidJob."""
    body = await read_body(request)
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidJob("the body is JSON: say Content-Type: application/json")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidJob(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidJob("the body is no JSON object")
    try:
        # JSON can name halves of characters, which no text of ours may hold.
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidJob(reason_of(error)) from error
    return value


def check_keys(value: dict[str, Any], *known: str) -> None:
    """Raises InvalidJob for what would be read and ignored."""
    for key in value:
        if key not in known:
            raise InvalidJob(f"{key!r} is not known; there are {', '.join(known)}")


class Query:
    """What stands behind the question mark; what is not read by the end is a mistake."""

    def __init__(self, request: Request) -> None:
        self._given = request.query_params
        self._read: set[str] = set()

    def text(self, name: str) -> str | None:
        """The value, None without one. Raises InvalidJob where there are several."""
        values = self.texts(name)
        if len(values) > 1:
            raise InvalidJob(f"{name} is given {len(values)} times")
        return values[0] if values else None

    def texts(self, name: str) -> list[str]:
        """All values of it."""
        self._read.add(name)
        return [each for each in self._given.getlist(name) if each]

    def number(self, name: str, default: int, least: int = 0, most: int = _NUMBER_MAX) -> int:
        """A whole number. Raises InvalidJob."""
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise InvalidJob(f"{name}={text!r} is no whole number")
        number = int(text)
        if not least <= number <= most:
            raise InvalidJob(f"{name}={number}: it lies between {least} and {most}")
        return number

    def time(self, name: str) -> float | None:
        """Unix seconds. Raises InvalidJob."""
        text = self.text(name)
        return None if text is None else _seconds(name, text)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """0 or 1. Raises InvalidJob."""
        text = self.text(name)
        if text is None:
            return default
        if text not in {"0", "1"}:
            raise InvalidJob(f"{name}={text!r} is neither 0 nor 1")
        return text == "1"

    def choice(self, name: str, *choices: str) -> str | None:
        """One of a few words. Raises InvalidJob."""
        text = self.text(name)
        if text is not None and text not in choices:
            raise InvalidJob(f"{name}={text!r} is none of {', '.join(choices)}")
        return text

    def at(self) -> manager_pb2.Moment | None:
        """A moment of the past, `lsn:123` or Unix seconds; None: now. Raises InvalidJob."""
        text = self.text("at")
        if text is None:
            return None
        head, _, number = text.rpartition(":")
        if head == "lsn" and number.isascii() and number.isdecimal() and len(number) < 20:
            return moment(int(number))
        return moment(_seconds("at", text))

    def check_all_read(self) -> None:
        """Raises InvalidJob for what nobody has asked after."""
        for name in self._given:
            if name not in self._read:
                known = ", ".join(sorted(self._read)) or "none here"
                raise InvalidJob(f"the parameter {name!r} is not known; there are: {known}")


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _NUMBER_MAX / 1e6:
        hint = " or lsn:NUMBER" if name == "at" else ""
        raise InvalidJob(f"{name}={text!r} is no time: give Unix seconds{hint}")
    return seconds


def job_of(request: Request) -> str:
    """The job that a path names: 42, or its task 42.7. Raises NotFound."""
    name: str = request.path_params["job"]
    job, dot, index = name.partition(".")
    for part in (job, index) if dot else (job,):
        if not (part.isascii() and part.isdecimal() and len(part) < 19):
            raise NotFound(f"there is no job {name!r}: write it as 42, or as 42.7 for a task")
    return name
