"""Aligned columns. Nothing is cut unless a terminal is too narrow for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from titan.cli.text import coloured_state, is_terminal, printable

_GAP: Final = "  "
# A column that gives way to a narrow terminal keeps so much.
_WIDTH_MIN: Final = 8


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    cut: Sequence[str] = (),
    state: str = "STATE",
) -> None:
    """Prints rows below headings.

    `right` names the columns of numbers, `cut` those that give way on a narrow
    terminal, `state` the one that is coloured.
    """
    width = None
    if is_terminal(sys.stdout):
        from shutil import get_terminal_size  # noqa: PLC0415 - slow, and only here

        width = get_terminal_size().columns

    def colour(heading: str, cell: str) -> str:
        return coloured_state(cell, sys.stdout) if heading == state else cell

    for line in table_lines(headings, rows, right=right, cut=cut, width=width, colour=colour):
        print(line)


def table_lines(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    cut: Sequence[str] = (),
    width: int | None = None,
    colour: Callable[[str, str], str] = lambda _, cell: cell,
) -> list[str]:
    """The lines of a table, the headings first; cells are made safe to print."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(text_width(heading), *(text_width(row[place]) for row in cells))
        if cells
        else text_width(heading)
        for place, heading in enumerate(headings)
    ]
    if width is not None:
        _narrow(widths, [headings.index(heading) for heading in cut], width)
    lines = []
    for number, row in enumerate([list(headings), *cells]):
        parts = []
        for place, heading in enumerate(headings):
            cell = _shorten(row[place], widths[place])
            space = " " * (widths[place] - text_width(cell))
            shown = colour(heading, cell) if number else cell
            is_last = place == len(headings) - 1
            parts.append(space + shown if heading in right else shown + ("" if is_last else space))
        lines.append(_GAP.join(parts).rstrip())
    return lines


def _narrow(widths: list[int], places: Sequence[int], width: int) -> None:
    """Takes from the widest of those columns until the table fits, or they are at their least."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0:
        place = max(places, key=lambda place: widths[place], default=None)
        if place is None or widths[place] <= _WIDTH_MIN:
            return
        widths[place] -= 1
        excess -= 1


def _shorten(text: str, width: int) -> str:
    if text_width(text) <= width:
        return text
    while text_width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def text_width(text: str) -> int:
    """Cells on a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - large, and only here

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
