"""What a task writes as lines to look at: the last of them, safe for a terminal. Pure."""

from __future__ import annotations

import codecs
import re
from collections import deque
from typing import Final

from titan import units
from titan.cli.text import printable
from titan.cli.top.model import Line
from titan.client.output import OutputChunk

LINES_MAX: Final = 1_000
# A line without an end is broken here.
LINE_CHARACTERS_MAX: Final = 4_096
STDERR_STYLE: Final = "ansi_red"
# Colours and other looks of text, which say nothing without a terminal of their own.
_LOOKS: Final = re.compile(r"\x1b\[[0-9;:]*m")


class OutputLines:
    """The last lines of stdout and stderr in the order in which they came.

    A line that begins anew after a carriage return, as that of a progress bar, is shown as it was
    written last. A new attempt is told of by a line between.
    """

    def __init__(self) -> None:
        self._whole: deque[Line] = deque(maxlen=LINES_MAX)
        self._open: dict[str, str] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._attempt = 0

    def take(self, chunk: OutputChunk) -> None:
        """A piece."""
        if self._attempt and chunk.attempt != self._attempt:
            self.note(f"attempt {chunk.attempt}")
        self._attempt = chunk.attempt
        if chunk.hole_bytes:
            size = units.format_size(chunk.hole_bytes)
            self.note(f"{size} of its {chunk.stream} were left out")
            return
        make = codecs.getincrementaldecoder("utf-8")
        decoder = self._decoders.setdefault(chunk.stream, make("replace"))
        text = self._open.get(chunk.stream, "") + decoder.decode(chunk.data)
        *lines, rest = text.split("\n")
        while len(rest) > LINE_CHARACTERS_MAX:
            lines.append(rest[:LINE_CHARACTERS_MAX])
            rest = rest[LINE_CHARACTERS_MAX:]
        self._whole.extend(_shown(line, chunk.stream) for line in lines)
        self._open[chunk.stream] = rest

    def note(self, sentence: str) -> None:
        """A line about what comes; lines without an end before it are whole."""
        self._whole.extend(self._open_lines())
        self._open.clear()
        self._decoders.clear()
        self._whole.append([(f"— {sentence} —", "dim")])

    def begin_task(self, name: str) -> None:
        """What comes is written by another task."""
        self.note(name)
        self._attempt = 0

    def lines(self) -> list[Line]:
        """All that is kept, at most a thousand lines and what has no end yet."""
        return [*self._whole, *self._open_lines()]

    def _open_lines(self) -> list[Line]:
        return [_shown(rest, stream) for stream, rest in self._open.items() if rest]


def _shown(line: str, stream: str) -> Line:
    text = line.rstrip("\r").rpartition("\r")[2]
    text = printable(_LOOKS.sub("", text).expandtabs(8))
    return [(text, STDERR_STYLE if stream == "stderr" else "")]
