"""Reading what tasks have written: from an offset, the last lines, or as it grows.

The files are written by the tasks themselves and only ever grow, so a byte's offset
never changes. Only integers go into their paths.
"""

from __future__ import annotations

import os
from typing import Final

from titan.model import AttemptKey
from titan.worker.spawn import output_path

CHUNK_BYTES_MAX: Final = 256 << 10


class OutputFile:
    """One stream of one attempt, which may not be there yet."""

    def __init__(self, directory: bytes, key: AttemptKey, suffix: bytes, offset: int) -> None:
        """`suffix` is out or err. Reading begins at `offset`, in bytes."""
        self._path = output_path(directory, key, suffix)
        self._descriptor = -1
        self.offset = offset

    def open(self) -> bool:
        """Whether the file is there; opens it the first time. Raises OSError."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
        return True

    def has_more(self) -> bool:
        """Whether there is something at the offset."""
        return self.open() and os.fstat(self._descriptor).st_size > self.offset

    def read(self) -> bytes:
        """The next chunk, empty at the end of what there is; moves the offset. May block."""
        data = os.pread(self._descriptor, CHUNK_BYTES_MAX, self.offset)
        self.offset += len(data)
        return data

    def seek_tail(self, lines: int) -> None:
        """Move the offset to where the last `lines` lines begin. May block.

        A last line without a newline counts. O(bytes of these lines).
        """
        if not self.open():
            return
        end = os.fstat(self._descriptor).st_size
        position = end
        left = lines
        while position > 0:
            begin = max(0, position - CHUNK_BYTES_MAX)
            chunk = os.pread(self._descriptor, position - begin, begin)
            # The newline at the very end closes the last line and begins none.
            search_end = len(chunk) - 1 if position == end and chunk.endswith(b"\n") else len(chunk)
            while (found := chunk.rfind(b"\n", 0, search_end)) >= 0:
                left -= 1
                if left == 0:
                    self.offset = begin + found + 1
                    return
                search_end = found
            position = begin
        self.offset = 0

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
