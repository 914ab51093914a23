"""Reading what tasks have written: from an offset, the last lines, or as it grows.

The files are written by the tasks themselves and only ever grow, so a byte's offset
never changes. What was left out of the middle of one (`output_hole.py`) is told as such,
and never read as zeros. Only integers go into their paths; where there is a link to a file
that the user named (`targets.py`), that is read, from where the attempt began.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from titan.model import AttemptKey
from titan.worker.output import hole as output_hole
from titan.worker.output.hole import Hole
from titan.worker.output.paths import output_path
from titan.worker.output.targets import find_named, is_other_file, read_begin

CHUNK_BYTES_MAX: Final = 256 << 10


class Piece(NamedTuple):
    """What comes next in a file: data, or how much was left out."""

    offset: int
    data: bytes
    hole_bytes: int = 0


class OutputFile:
    """One stream of one attempt, which may not be there yet."""

    def __init__(self, directory: bytes, key: AttemptKey, suffix: bytes, offset: int) -> None:
        """`suffix` is out or err. Reading begins at `offset`, in bytes."""
        self._path = output_path(directory, key, suffix)
        self._descriptor = -1
        # Of a file that the user named: how long it was before the attempt.
        self._begin = 0
        self.offset = offset

    @property
    def named(self) -> bytes:
        """The file that the user named for it; empty: it is one of the worker's own."""
        return find_named(self._path)

    def open(self) -> bool:
        """Whether the file is there; opens it the first time. Raises OSError."""
        if self._descriptor < 0:
            try:
                # A link may lead to anything by now, such as a pipe that nobody writes to.
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
                self._descriptor = os.open(self._path, flags)
            except FileNotFoundError:
                return False
            if self.named:
                found = os.fstat(self._descriptor)
                if is_other_file(self._path, found):
                    # Whoever put it there need not be able to read it himself.
                    self.close()
                    return False
                size = found.st_size
                begin = read_begin(self._path)
                # One that is shorter was emptied since: all that is there is new.
                self._begin = begin if begin <= size else 0
        return True

    def is_same_as(self, other: OutputFile) -> bool:
        """Whether both are there and one file."""
        if self._descriptor < 0 or other._descriptor < 0:
            return False
        return os.path.sameopenfile(self._descriptor, other._descriptor)

    def has_more(self) -> bool:
        """Whether there is something at the offset."""
        if not self.open():
            return False
        return os.fstat(self._descriptor).st_size > self._begin + self.offset

    def read(self) -> Piece:
        """The next piece, empty at the end of what there is; moves the offset. May block."""
        offset = self.offset
        note = output_hole.read_note(self._path)
        if note.begin <= offset < note.end:
            self.offset = output_hole.next_data(self._descriptor, offset, note)
            if self.offset > offset:
                return Piece(offset, b"", self.offset - offset)
        data = os.pread(self._descriptor, CHUNK_BYTES_MAX, self._begin + offset)
        # It may have been left out while it was read; the note is there before that.
        note = output_hole.read_note(self._path)
        if data and note.begin < offset + len(data) and offset < note.end:
            data = data[: self._whole_until(offset, note) - offset]
            if not data:
                return self.read()
        self.offset = offset + len(data)
        return Piece(offset, data)

    def seek_tail(self, lines: int) -> None:
        """Move the offset to where the last `lines` lines begin. May block.

        A last line without a newline counts. Where so many would begin before what was left
        out, the offset is where that begins: it is told, and then all behind it. O(bytes of
        these lines).
        """
        if not self.open():
            return
        end = os.fstat(self._descriptor).st_size
        note = output_hole.read_note(self._path)
        floor = max(self._begin, self._end_of_hole(note, end))
        position = end
        left = lines
        while position > floor:
            begin = max(floor, position - CHUNK_BYTES_MAX)
            chunk = os.pread(self._descriptor, position - begin, begin)
            # The newline at the very end closes the last line and begins none.
            search_end = len(chunk) - 1 if position == end and chunk.endswith(b"\n") else len(chunk)
            while (found := chunk.rfind(b"\n", 0, search_end)) >= 0:
                left -= 1
                if left == 0:
                    self.offset = begin + found + 1 - self._begin
                    return
                search_end = found
            position = begin
        self.offset = min(note.begin, floor)

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _whole_until(self, offset: int, note: Hole) -> int:
        """Up to where nothing was left out, from `offset` on."""
        return max(offset, output_hole.next_hole(self._descriptor, offset, note))

    def _end_of_hole(self, note: Hole, end: int) -> int:
        """Where what is there behind all that was left out begins; 0: nothing was."""
        floor = 0
        position = note.begin
        while position < min(note.end, end):
            floor = output_hole.next_data(self._descriptor, position, note)
            position = max(output_hole.next_hole(self._descriptor, floor, note), floor + 1)
        return floor
