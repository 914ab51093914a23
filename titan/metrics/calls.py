"""How calls of a server went: how many by method and code, and how long they took by method."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Final, Self

import grpc

from titan.metrics.family import Family, counters, histograms
from titan.metrics.histogram import SHORT_SECONDS, Histogram

# As contexts tell them: none is set of a call that went well, else its number.
_CODE_NAMES: Final[dict[Any, str]] = {
    None: grpc.StatusCode.OK.name,
    **{code.value[0]: code.name for code in grpc.StatusCode},
    **{code: code.name for code in grpc.StatusCode},
}


class Calls:
    """Counts the calls of one server. Methods are those it has, so there are few."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._seconds: dict[str, Histogram] = {}

    def measure(self, method: str, context: Any) -> Measured:
        """To be entered around what answers the call of that context."""
        return Measured(self, method, context)

    def note(self, method: str, code: str) -> None:
        """A call of it ended with that code."""
        self._counts[method, code] = self._counts.get((method, code), 0) + 1

    def note_seconds(self, method: str, seconds: float) -> None:
        """A call of it took so long."""
        durations = self._seconds.get(method)
        if durations is None:
            durations = self._seconds[method] = Histogram(SHORT_SECONDS)
        durations.observe(seconds)

    def read(self) -> list[Family]:
        """All of it, as it is now."""
        return [
            counters(
                "titan_rpcs_total", "Calls that ended, by method and gRPC status code.",
                ("method", "code"), self._counts.items(),
            ),
            histograms(
                "titan_rpc_duration_seconds",
                "How long calls took from the request that was read to the answer that may leave; "
                "watches and the like last as long as their callers want.",
                "method", {name: each.read() for name, each in self._seconds.items()},
            ),
        ]  # fmt: skip


class Measured:
    """One call under way."""

    __slots__ = ("_begun", "_calls", "_context", "_method")

    def __init__(self, calls: Calls, method: str, context: Any) -> None:
        self._calls = calls
        self._method = method
        self._context = context
        self._begun = 0.0

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.note_seconds(self._method, time.perf_counter() - self._begun)
        if kind is None:
            code = _CODE_NAMES[self._context.code()]
        elif issubclass(kind, asyncio.CancelledError | GeneratorExit):
            # Whoever called has gone.
            code = grpc.StatusCode.CANCELLED.name
        else:
            code = grpc.StatusCode.UNKNOWN.name
        self._calls.note(self._method, code)
