"""What an attempt wrote, as a stream of chunks: to its end so far, or on until it has ended.

Whoever asked gets the same, whether he called the worker or the worker calls him.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final, Protocol

from titan.model import AttemptKey, HeldAttempt, HeldState
from titan.rpc.v1 import manager_pb2, task_pb2
from titan.worker.agent import translate
from titan.worker.output.reading import OutputFile

# How often a followed file is looked at: what is written is seen within it.
FOLLOW_SECONDS: Final = 0.05

_SUFFIXES: Final = {manager_pb2.STDOUT: b"out", manager_pb2.STDERR: b"err"}


class Holder(Protocol):
    """Whoever knows which attempts are held."""

    def find_held(self, key: AttemptKey) -> HeldAttempt | None:
        """The attempt, if it is held."""
        ...

    def why_gone(self, key: AttemptKey, end_us: int) -> str:
        """What became of the output of an attempt that ended then; empty: nothing known."""
        ...


class NoOutput(Exception):
    """Nothing of that attempt is here; the text is a sentence for people."""


class OutputStreams:
    """The output below one worker's directory."""

    def __init__(self, directory: Path, holder: Holder) -> None:
        self._directory = os.fsencode(directory)
        self._holder = holder

    async def read(
        self, request: task_pb2.ReadOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """The chunks that were asked for. Raises NoOutput before the first, OSError."""
        key = translate.key_of(request.key)
        offsets = {
            manager_pb2.STDOUT: request.stdout_offset,
            manager_pb2.STDERR: request.stderr_offset,
        }
        files = {
            stream: OutputFile(self._directory, key, suffix, offsets[stream])
            for stream, suffix in _SUFFIXES.items()
            if not request.streams or stream in request.streams
        }
        try:
            is_there = sum(file.open() for file in files.values()) > 0
            _join_same(files)
            if not is_there and self._holder.find_held(key) is None:
                raise NoOutput(self._why_none(key, request.end_us, files.values()))
            if request.tail_lines > 0:
                for file in files.values():
                    await asyncio.to_thread(file.seek_tail, request.tail_lines)
            async for response in self._read(request, key, files):
                yield response
        finally:
            for file in files.values():
                file.close()

    def _why_none(self, key: AttemptKey, end_us: int, files: Iterable[OutputFile]) -> str:
        names = {file.named.decode(errors="replace") for file in files} - {""}
        if names:
            return f"it went to {' and '.join(sorted(names))}, which is not there any more"
        return (
            self._holder.why_gone(key, end_us)
            or f"no output of attempt {key.attempt} of task {key.job_id}.{key.index} here"
        )

    async def _read(
        self,
        request: task_pb2.ReadOutputRequest,
        key: AttemptKey,
        files: dict[manager_pb2.OutputStream.ValueType, OutputFile],
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        while True:
            # Asked before reading: what an ended attempt wrote is all there.
            held = self._holder.find_held(key)
            is_over = held is None or held.state == HeldState.ENDED
            while True:
                _join_same(files)
                grown = [(stream, file) for stream, file in files.items() if file.has_more()]
                for stream, file in grown:
                    piece = await asyncio.to_thread(file.read)
                    yield manager_pb2.StreamOutputResponse(
                        stream=stream, attempt=key.attempt, **piece._asdict()
                    )
                if not grown:
                    break
            if is_over or not request.follow:
                return
            await asyncio.sleep(FOLLOW_SECONDS)


def _join_same(files: dict[manager_pb2.OutputStream.ValueType, OutputFile]) -> None:
    """What both streams wrote to one file is there in its order, and is read once."""
    stdout, stderr = files.get(manager_pb2.STDOUT), files.get(manager_pb2.STDERR)
    if stdout is not None and stderr is not None and stdout.is_same_as(stderr):
        files.pop(manager_pb2.STDERR).close()
