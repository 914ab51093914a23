"""Looking at files that a manager may tidy up meanwhile: what is overtaken is done again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import wal

# A manager removes a segment a minute at most, and to look at one takes less.
_LOOKS_MAX: Final = 5

T = TypeVar("T")


def look_again(
    look: Callable[[], T], *, overtaken: tuple[type[Exception], ...] = (wal.RecordsGone,)
) -> T:
    """What `look` returns. While it raises one of these errors it is called again, a few times."""
    for _ in range(_LOOKS_MAX - 1):
        try:
            return look()
        except overtaken:
            continue
    return look()
