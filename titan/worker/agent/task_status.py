"""What the attempts of this worker are doing: asked of the task host, measured in /proc."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from titan.model import AttemptKey
from titan.rpc.v1 import task_pb2
from titan.worker.agent import translate, usage
from titan.worker.agent.host_questions import HostQuestions
from titan.worker.messages import Description
from titan.worker.output.paths import output_path
from titan.worker.output.targets import find_named
from titan.worker.processes import Mark

STATUS_MAX: Final = 1_000


class TaskStatuses:
    """Answers GetTaskStatus, whoever asks and however the question came."""

    def __init__(self, output_directory: Path, questions: HostQuestions) -> None:
        self._output_directory = os.fsencode(output_directory)
        self._questions = questions
        # A walk over /proc takes a core while it lasts: one at a time, whoever waits.
        self._measuring = asyncio.Lock()

    async def get(self, request: task_pb2.GetTaskStatusRequest) -> task_pb2.GetTaskStatusResponse:
        """The answer. Raises BadMessage, NotNow."""
        if not request.limit >= 0 or len(request.keys) > STATUS_MAX:
            raise translate.BadMessage(f"the limit is 0 to {STATUS_MAX}, and so is that of keys")
        keys = [translate.key_of(key) for key in request.keys]
        after = translate.key_of(request.after) if request.HasField("after") else None
        limit = min(request.limit or STATUS_MAX, STATUS_MAX)
        found = await self._questions.describe(keys, after, limit)
        used = await self._measure(found.descriptions)
        return task_pb2.GetTaskStatusResponse(
            tasks=[
                translate.status_message(each, self._paths(each.key), used.get(each.key))
                for each in found.descriptions
            ],
            more=found.is_cut,
        )

    async def _measure(self, found: Sequence[Description]) -> dict[AttemptKey, usage.Usage]:
        marks = [
            Mark(
                each.key,
                each.start_ticks,
                each.pid,
                output_path(self._output_directory, each.key, b""),
            )
            for each in found
            if each.pid
        ]
        if not marks:
            return {}
        async with self._measuring:
            return await asyncio.to_thread(usage.measure, marks, self._questions.host_pid)

    def _paths(self, key: AttemptKey) -> tuple[bytes, bytes]:
        return self._path(key, b"out"), self._path(key, b"err")

    def _path(self, key: AttemptKey, suffix: bytes) -> bytes:
        path = output_path(self._output_directory, key, suffix)
        return find_named(path) or path
