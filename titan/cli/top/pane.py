"""The lower half of the screen: what a task writes, as it writes it, or a text to read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Final

from rich.cells import chop_cells
from textual.content import Content
from textual.widget import Widget

from titan.cli.describe import state_text, task_text
from titan.cli.text import printable
from titan.cli.top.listing import contents
from titan.cli.top.model import Line
from titan.cli.top.output_lines import OutputLines
from titan.client.aio_session import AioSession
from titan.client.cursors import OutputCursor, has_ended
from titan.errors import NotFound, OutputUnavailable
from titan.rpc.v1 import manager_pb2, types_pb2

# How often a task that has not started, or whose worker is away, is asked for again.
AGAIN_SECONDS: Final = 1.0
# So many lines of what it wrote before.
TAIL_LINES: Final = 200


class Pane(Widget):
    """A title and lines. Of output the end is in view, of a text its beginning."""

    DEFAULT_CSS = "Pane { text-wrap: nowrap; text-overflow: clip; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self._title = ""
        self._lines: Sequence[Line] = ()
        # Whether it is that, or a text.
        self.is_output = False

    def show_text(self, title: str, lines: Sequence[str]) -> None:
        """A text, already safe to print."""
        self._title, self._lines, self.is_output = title, [[(line, "")] for line in lines], False
        self.refresh()

    def _show_output(self, title: str, lines: Sequence[Line]) -> None:
        self._title, self._lines, self.is_output = title, lines, True
        self.refresh()

    async def follow(self, session: AioSession, job_id: int) -> None:
        """Shows what a job writes, until it has ended: of an array the tasks that run, one after
        another, as far as one is still running when the one before it has ended.

        Where there is nothing yet it waits for it, as long as the job has not ended.
        """
        output = OutputLines()
        self._show_output(f"output of {job_id}", ())
        last: int | None = None
        while True:
            job, index = await _find_task(session, job_id)
            # What fails once all is over fails for good.
            is_over = has_ended(job)
            why = f"it is {state_text(job)}"
            name = str(job_id) if index is None else task_text(job, index)
            if index is not None and index != last:
                if last is not None:
                    output.begin_task(name)
                try:
                    await self._print(session, OutputCursor(
                        job_id, index, tail_lines=TAIL_LINES, follow=True
                    ), name, output)  # fmt: skip
                except (NotFound, OutputUnavailable) as error:
                    why = str(error)
                else:
                    last, why = index, "ended"
                    if job.array and not is_over:
                        continue
                    is_over = True
            self._show_output(f"output of {name} ({printable(why)})", output.lines())
            if is_over:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _print(
        self, session: AioSession, cursor: OutputCursor, name: str, output: OutputLines
    ) -> None:
        self._show_output(f"output of {name}", output.lines())
        async with aclosing(session.output(cursor)) as chunks:
            async for chunk in chunks:
                output.take(chunk)
                self._show_output(f"output of {name}", output.lines())

    def render(self) -> Content:
        """What fits, long lines broken."""
        width, room = self.size.width, self.size.height - 1
        title: Line = [(f"── {self._title} ".ljust(width, "─"), "bold")]
        if self.is_output:
            # None of the lines before the last ones can be in view.
            pieces = list(_broken(self._lines[-room:] if room > 0 else (), width))[-room:]
        else:
            pieces = list(_broken(self._lines[:room], width))[:room]
        return contents([title, *pieces])


def _broken(lines: Sequence[Line], width: int) -> Iterator[Line]:
    for line in lines:
        for text, style in line:
            for piece in chop_cells(text, max(1, width)) or [""]:
                yield [(piece, style)]


async def _find_task(session: AioSession, job_id: int) -> tuple[manager_pb2.Job, int | None]:
    """The job, and its task to look at: one that runs, else one that failed, else any that began.

    None: none has begun.
    """
    request = manager_pb2.GetJobStatusRequest(
        job=manager_pb2.JobSelector(job_id=job_id), attempts_limit=1
    )
    for state in (types_pb2.RUNNING, types_pb2.FAILED, None):
        del request.attempt_states[:]
        if state is not None:
            request.attempt_states.append(state)
        answer = await session.status(request)
        begun = [each.index for each in answer.attempts if each.start_us]
        if begun or state is None:
            return answer.job, begun[0] if begun else None
    raise AssertionError("the last question is about all states")
