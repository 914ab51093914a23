"""How far a command is that reads a whole log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Self

from titan.cli.text import is_terminal, printable


class Progress:
    """One line on stderr that says how far it is; nothing unless people look at it."""

    def __init__(self) -> None:
        self._is_shown = is_terminal(sys.stderr)
        self._width = 0

    @property
    def show(self) -> Callable[[str], None]:
        """Shows a text in place of the one before."""
        return self._show if self._is_shown else lambda _: None

    def _show(self, text: str) -> None:
        shown = printable(text)
        print(f"\r{shown:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
