"""Opening a trace: a file or stdin, gzipped or not."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from titan.errors import TitanError

STDIN: Final = Path("-")
_GZIP: Final = b"\x1f\x8b"


@contextmanager
def open_trace(path: Path) -> Iterator[Iterator[str]]:
    """Its lines; `-` is stdin. What is gzipped tells by its first bytes, whatever it is called.

    Raises OSError, and TitanError where it is not all there.
    """
    is_stdin = path == STDIN
    # By its number: sys.stdin is not there when it was closed, which is an OSError then.
    with open(0 if is_stdin else path, "rb", closefd=not is_stdin) as source:
        is_gzipped = source.peek(len(_GZIP)).startswith(_GZIP)
        stream = gzip.GzipFile(fileobj=source) if is_gzipped else source
        try:
            # What is not text is not a number either, and told as such.
            yield io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TitanError(f"{path} is gzipped, and damaged or cut off: {error}") from error
